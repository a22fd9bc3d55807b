"""Tab Adjudicate: pairs in disagreement with both videos and all labels, the lead's decision, and flagged pairs."""

from __future__ import annotations

import secrets
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, cast

import gradio as gr
from markupsafe import Markup

from app.lead.context import LeadSection
from app.lead.progress import CHOOSE_ONE
from app.lead.views.adjudication import Decision, decision_form, dispute_list, flagged_list
from app.ui.label_table import labels_side_by_side
from app.ui.markup import joined
from app.ui.synced_pair import synced_pair
from app.web.form_data import STALE_BUTTON, FormData, FormError
from app.web.panel import Reply
from storage.accounts.users import User, list_users
from storage.campaigns.campaign import get_campaign
from storage.campaigns.label_schema import Answer
from storage.campaigns.progress import progress
from storage.labelling.adjudication import adjudicate, disputed
from storage.labelling.campaign_pairs import flagged_pairs, resolve_flag
from storage.labelling.consensus import COUNTED
from storage.labelling.labels import Label, labels_of_pair
from storage.pairs import Pair, get_pair
from storage.schema import Choice, Strength

PAGE = 20
NO_PLAYER: dict[str, Any] = {"a": None, "b": None}


class AdjudicationTab(LeadSection):
    """The queue, the pair on the player, and the form."""

    name, title = "adjudicate", "Adjudicate"

    def build(self) -> None:
        """Put the player above the panel, so that a decision never moves it."""
        self.player = synced_pair("lead-pair")
        super().build()

    @property
    def outputs(self) -> list[Any]:
        """The panel and the player."""
        return [self.panel, self.player]

    def values(self, reply: Reply) -> list[Any]:
        """Return the values of the panel and the player."""
        return [reply.value(), gr.skip() if reply.player is None else dict(reply.player)]

    def view(self, _person: User, campaign: int | None) -> Reply:
        """Show the first pair in disagreement."""
        if campaign is None:
            return Reply(CHOOSE_ONE, player=NO_PLAYER)
        return self._queue(campaign, 0, None)

    def act(self, form: FormData, person: User, campaign: int | None) -> Reply:
        """Show a pair, save a decision, put a flagged pair back or drop it, turn the page of the list."""
        if campaign is None:
            return Reply(CHOOSE_ONE)
        if form.act == "start":
            return self._queue(campaign, 0, None)
        if form.act == "more":
            return self._queue(campaign, form.id, None)
        if form.act == "look":
            return self._queue(campaign, 0, form.id)
        if form.act == "decide":
            self._decide(form, person, campaign)
            return self._queue(campaign, 0, None, "Decision saved.")
        if form.act in ("put-back", "drop"):
            with self.context.database.write() as session:
                resolve_flag(session, campaign, form.id, put_back=form.act == "put-back")
            return self._queue(campaign, 0, None, "Put back." if form.act == "put-back" else "Dropped.")
        raise FormError(STALE_BUTTON)

    def _queue(self, campaign: int, after: int, shown: int | None, status: str = "") -> Reply:
        """Return the whole panel.

        Args:
            after: where the page of the list starts.
            shown: the pair on the player; without one the first of the list.
        """
        with self.context.database.read() as session:
            dimensions = get_campaign(session, campaign).config.dimensions
            disputes = disputed(session, campaign, after, PAGE)
            total = progress(session, campaign).disputed
            flagged = flagged_pairs(session, campaign)
            names = {user.id: user.name for user in list_users(session)}
            if shown is None and disputes:
                shown = disputes[0].pair.id
            pair = None if shown is None else get_pair(session, shown)
            labels = () if shown is None else labels_of_pair(session, campaign, shown)
        parts = [] if pair is None else [_case(pair, labels, names, dimensions)]
        parts.append(dispute_list(disputes, total, shown, before=after > 0))
        parts.append(flagged_list(flagged, self.context.clip_store.poster_urls([entry.pair for entry in flagged])))
        player = NO_PLAYER if pair is None else self.context.clip_store.pair_view(pair)
        return Reply(joined(parts), status, player=player)

    def _decide(self, form: FormData, person: User, campaign: int) -> None:
        with self.context.database.write() as session:
            dimensions = get_campaign(session, campaign).config.dimensions
            scores = {side: {name: form.text(f"score-{side}-{name}") for name in dimensions} for side in ("A", "B")}
            choice = form.text("choice")
            answer = Answer(
                choice=cast("Choice", choice) if choice else None,
                strength=cast("Strength", form.text("strength")) if choice in ("A", "B") else None,
                sub_scores=scores if dimensions else {},
                note=form.text("note"),
            )
            adjudicate(session, campaign, form.id, person.id, form.text("submission"), answer)


def _case(pair: Pair, labels: Sequence[Label], names: Mapping[int, str], dimensions: Sequence[str]) -> Markup:
    """Return the pair on the player: its prompt, all labels, the form."""
    decision = Decision(secrets.token_hex(16), _most_given(labels, dimensions))
    return Markup('<p class="ds-case">{}</p>{}{}').format(
        pair.prompt, labels_side_by_side(labels, names, dimensions), decision_form(pair.id, decision, dimensions)
    )


def _most_given(labels: Sequence[Label], dimensions: Sequence[str]) -> dict[str, dict[str, str]]:
    """Return the sub-scores that most people gave, where one value leads."""
    leading: dict[str, dict[str, str]] = {"A": {}, "B": {}}
    labels = [label for label in labels if label.kind in COUNTED]
    for side, cells in leading.items():
        for name in dimensions:
            given = Counter(label.sub_scores[side][name] for label in labels if name in label.sub_scores.get(side, {}))
            best = given.most_common(2)
            if best and (len(best) == 1 or best[0][1] > best[1][1]):
                cells[name] = best[0][0]
    return leading
