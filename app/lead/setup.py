"""Tabs New campaign, Guidelines and Gold pairs."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from typing import cast, get_args

from markupsafe import Markup

from app.lead.context import LeadContext, LeadSection
from app.lead.progress import CHOOSE_ONE
from app.lead.uncertainty_order import queue_scores
from app.lead.views.campaigns import without_gold
from app.lead.views.setup import NUMBERS, Draft, Judged, campaign_form, gold_table, guidelines_form
from app.serving.cached_judge import stream_answer
from app.serving.judging_queue import Visitor
from app.ui.dates import day
from app.web.form_data import STALE_BUTTON, FormData, FormError
from app.web.panel import Reply
from storage.accounts.users import User
from storage.analysis.reward_margins import first_pairs, margins, next_unjudged, pair_ids_of, pair_sources
from storage.campaigns.campaign import CampaignConfig, Gold, create_campaign, get_campaign
from storage.campaigns.guidelines import (
    DEFAULT_GUIDELINES,
    DimensionGuide,
    Guidelines,
    current_guidelines,
    guidelines_of,
    revise_guidelines,
)
from storage.campaigns.progress import guideline_versions
from storage.labelling.gold import GoldList, gold_choices, known_answers, set_gold
from storage.schema import Choice, Ordering

GOLD_SHOWN = 24
PAGE = 20


class NewCampaignTab(LeadSection):
    """The form of a new campaign. Every reply holds the fields as they were filled in."""

    name, title = "new", "New campaign"

    def __init__(self, context: LeadContext) -> None:
        super().__init__(context)
        self._running: dict[int, threading.Event] = {}

    def view(self, _person: User, _campaign: int | None) -> Reply:
        """Show the form with its first values, over the first source."""
        with self.context.database.read() as session:
            first = next(iter(pair_sources(session)), None)
        return self._form(Draft(sources=(first,) if first else ()))

    def act(self, form: FormData, person: User, _campaign: int | None) -> Reply | Iterator[Reply]:
        """Count the chosen pairs, judge those without a reward, create the campaign."""
        if form.act == "cancel":
            running = self._running.get(person.id)
            if running is not None:
                running.set()
            return Reply(None, "Stopping after this pair.")
        draft = _draft(form)
        if form.act == "count":
            return self._form(draft)
        if form.act == "judge":
            return self._judge(draft, person)
        if form.act == "create":
            return self._create(draft, person)
        raise FormError(STALE_BUTTON)

    def _form(self, draft: Draft, status: str = "", chosen: int | None = None) -> Reply:
        with self.context.database.read() as session:
            sources = pair_sources(session)
            known = known_answers(session, draft.sources, GOLD_SHOWN)
            candidates = first_pairs(session, draft.sources, tuple(known), GOLD_SHOWN)
            judged = margins(session, self.context.serving.now.fingerprint, sources=draft.sources)
        number = sum(sources.get(name, 0) for name in draft.sources)
        counted = Judged(self.context.serving.now.name, len(judged), number)
        html = campaign_form(
            sources, draft, counted, candidates, known, self.context.clip_store.poster_urls(list(candidates))
        )
        return Reply(html, status, chosen=chosen)

    def _create(self, draft: Draft, person: User) -> Reply:
        numbers = FormData("", "", draft.numbers)
        settings = CampaignConfig(
            name=draft.name,
            dimensions=draft.dimensions,
            overlap=numbers.whole("overlap"),
            gold_share=numbers.number("gold_share") / 100,
            repeat_share=numbers.number("repeat_share") / 100,
            ordering=cast("Ordering", draft.ordering),
            visible=draft.visible,
            lease_seconds=round(numbers.number("lease_minutes") * 60),
            qualification_pairs=numbers.whole("qualification_pairs"),
            qualification_pass=numbers.number("qualification_pass") / 100,
        )
        gold = {pair: Gold(cast("Choice", choice), explanation=why) for pair, (choice, why) in draft.gold.items() if choice}
        with self.context.database.read() as session:
            pair_ids = pair_ids_of(session, draft.sources)
        if not pair_ids:
            raise FormError("Choose where the pairs come from.")
        ordering = cast("Ordering", draft.ordering)
        scores = queue_scores(self.context.database, self.context.serving.now, ordering, sources=draft.sources)
        with self.context.database.write() as session:
            campaign = create_campaign(
                session, settings, pair_ids, DEFAULT_GUIDELINES, created_by=person.id, gold=gold, scores=scores
            )
        status = f"{campaign.config.name} is open for labelling. {without_gold(settings.gold_share, len(gold))}"
        return self._form(Draft(sources=draft.sources), status.strip(), campaign.id)

    def _judge(self, draft: Draft, person: User) -> Iterator[Reply]:
        """Judge the pairs without a reward, one after the other, until cancelled."""
        cancel = self._running[person.id] = threading.Event()
        done, last = 0, 0
        try:
            while not cancel.is_set():
                with self.context.database.read() as session:
                    pair = next_unjudged(session, self.context.serving.now.fingerprint, draft.sources, last)
                if pair is None:
                    break
                yield Reply(None, f"{done} judged, the model is looking at the next pair.", running=True)
                for _ in stream_answer(
                    self.context.serving,
                    self.context.database,
                    self.context.clip_store,
                    pair,
                    "think",
                    0,
                    cancel,
                    Visitor("new campaign", person=person.id),
                ):
                    pass
                done, last = done + (not cancel.is_set()), pair.id
        finally:
            cancel.set()
            if self._running.get(person.id) is cancel:
                del self._running[person.id]
        yield self._form(draft, f"{done} pair{'' if done == 1 else 's'} judged.")


def _draft(form: FormData) -> Draft:
    """Read the form of a new campaign."""
    gold = {}
    for name in form.fields:
        pair = name.removeprefix("gold-")
        if pair != name and pair.isdigit():
            gold[int(pair)] = (form.text(name), form.text(f"why-{pair}"))
    return Draft(
        name=form.text("name"),
        sources=form.many("sources"),
        dimensions=form.many("dimensions"),
        visible=form.many("visible"),
        ordering=form.text("ordering") or "random",
        numbers={key: form.text(key) for key in NUMBERS},
        gold=gold,
    )


class GuidelinesTab(LeadSection):
    """The text that annotators read."""

    name, title = "guidelines", "Guidelines"

    def view(self, _person: User, campaign: int | None) -> Reply:
        """Show the newest version."""
        return Reply(CHOOSE_ONE) if campaign is None else self._form(campaign)

    def act(self, form: FormData, person: User, campaign: int | None) -> Reply:
        """Show another version, or save a new one."""
        if campaign is None:
            return Reply(CHOOSE_ONE)
        if form.act == "version":
            return self._form(campaign, form.id)
        if form.act != "revise":
            raise FormError(STALE_BUTTON)
        with self.context.database.write() as session:
            dimensions = get_campaign(session, campaign).config.dimensions
            before, old = current_guidelines(session, campaign)
            guides: Mapping[str, DimensionGuide] = {
                name: DimensionGuide(form.text(f"definition-{name}"), form.text(f"example-{name}")) for name in dimensions
            }
            new = Guidelines(form.text("intro"), {**old.dimensions, **guides})
            version = revise_guidelines(session, campaign, new, person.id)
        status = f"Saved as version {version}." if version != before else "Nothing changed; no new version."
        return Reply(self._form(campaign).html, status)

    def _form(self, campaign: int, version: int | None = None) -> Reply:
        with self.context.database.read() as session:
            dimensions = get_campaign(session, campaign).config.dimensions
            newest, text = current_guidelines(session, campaign)
            if version is not None:
                text = guidelines_of(session, campaign, version)
            versions = guideline_versions(session, campaign)
        history = [
            (entry.version, Markup("{}, {}").format(entry.author or "the program", day(entry.created_at)))
            for entry in versions
        ]
        return Reply(guidelines_form(text, dimensions, version or newest, history))


class GoldTab(LeadSection):
    """Pairs with a known answer."""

    name, title = "gold", "Gold pairs"

    def view(self, _person: User, campaign: int | None) -> Reply:
        """Show the gold pairs of the campaign."""
        return Reply(CHOOSE_ONE) if campaign is None else self._list(campaign, "gold", 0)

    def act(self, form: FormData, _person: User, campaign: int | None) -> Reply:
        """Show other pairs, or set a known answer."""
        if campaign is None:
            return Reply(CHOOSE_ONE)
        if form.act == "filter":
            return self._list(campaign, form.text("kind"), 0)
        if form.act == "page":
            return self._list(campaign, *_page_of(form.key))
        if form.act != "gold":
            raise FormError(STALE_BUTTON)
        choice = form.text("choice")
        gold = Gold(cast("Choice", choice), explanation=form.text("explanation")) if choice else None
        with self.context.database.write() as session:
            set_gold(session, campaign, form.id, gold)
        shown = self._list(campaign, *_page_of(form.text("list")))
        return Reply(shown.html, "Saved." if gold else "No gold pair any more.")

    def _list(self, campaign: int, kind: str, after: int) -> Reply:
        if kind not in get_args(GoldList):
            raise FormError("There is no such list of pairs. Reload the page.")
        with self.context.database.read() as session:
            found = gold_choices(session, campaign, cast("GoldList", kind), after, PAGE + 1)
        shown = found[:PAGE]
        posters = self.context.clip_store.poster_urls([entry.pair for entry in shown])
        return Reply(gold_table(kind, shown, posters, after, more=len(found) > PAGE))


def _page_of(text: str) -> tuple[str, int]:
    """Read a list and where its page starts, as in "gold 120"."""
    kind, _, after = text.partition(" ")
    return kind, int(after) if after.isdigit() else 0
