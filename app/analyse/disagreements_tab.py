"""Analyse page: the pairs on which the model and people differ most, each with its videos, thoughts and labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import gradio as gr
from markupsafe import Markup

from app.analyse.figures.disagreements import Disagreement, disagreements
from app.analyse.figures.judged_pairs import judged_pairs
from app.analyse.panel import READERS, AnalyseSection
from app.analyse.selection import SelectedPairs, Selection
from app.analyse.views.disagreements import case_head, case_labels, disagreement_list
from app.serving.answer import Answer
from app.serving.cached_judge import stored_answer
from app.ui.synced_pair import synced_pair
from app.ui.verdict import verdict_panel, verdict_view
from app.web.form_data import STALE_BUTTON, FormData, FormError
from app.web.panel import Reply
from storage.accounts.users import User, list_users
from storage.analysis.judged_pairs import AnalysedPair
from storage.labelling.labels import Label, revisions
from storage.pairs import get_pair
from storage.schema import Role

PAGE = 12
NO_PLAYER: dict[str, Any] = {"a": None, "b": None}


@dataclass(frozen=True)
class CaseReply(Reply):
    """The list, and what belongs to the pair that is looked at. model: the value of the verdict panel."""

    head: str = ""
    model: Mapping[str, Any] | None = None
    people: str = ""


class DisagreementsTab(AnalyseSection):
    """The list on one side, the pair that is looked at on the other."""

    name, title = "disagreements", "Disagreements"

    def build(self) -> None:
        """List, prompt, player, the model's word, people's labels."""
        with gr.Row(elem_id="analyse-cases"):
            with gr.Column(scale=2, min_width=300):
                super().build()
            with gr.Column(scale=5, min_width=300, elem_id="analyse-case"):
                self.head = gr.HTML("", apply_default_css=False, elem_classes="ds-body")
                self.player = synced_pair("analyse-pair")
                self.model = verdict_panel("analyse-verdict")
                self.people = gr.HTML("", apply_default_css=False, elem_classes="ds-body")

    @property
    def outputs(self) -> list[Any]:
        """The list and all that belongs to a pair."""
        return [self.panel, self.head, self.player, self.model, self.people]

    def values(self, reply: Reply) -> list[Any]:
        """A value for each of `outputs`; a refusal leaves the pair that is there."""
        if not isinstance(reply, CaseReply):
            return [reply.value(), *[gr.skip()] * 4]
        model = verdict_view(Answer()) if reply.model is None else dict(reply.model)
        return [reply.value(), str(reply.head), dict(reply.player or NO_PLAYER), model, str(reply.people)]

    def view(self, person: User, selection: Selection) -> Reply:
        """The first page with its first pair."""
        return self._show(person, self.context.chosen(selection), 0, None)

    def may_ask(self, act: str) -> Sequence[Role]:
        """To look is to read."""
        return READERS if act in ("look", "turn") else ("lead",)

    def act(self, asked: FormData, person: User, selection: Selection) -> Reply:
        """Look at a pair, turn the page of the list."""
        chosen = self.context.chosen(selection)
        if asked.act == "look":
            return self._show(person, chosen, None, asked.id)
        if asked.act == "turn":
            return self._show(person, chosen, asked.id, None)
        raise FormError(STALE_BUTTON)

    def _show(self, person: User, chosen: SelectedPairs, start: int | None, looked_at: int | None) -> CaseReply:
        """A page of the list and a pair. start: of the page, None for the one with the pair; without a pair the page's "
        "first."""
        found = self.found(chosen)
        place = next((i for i, one in enumerate(found) if one.pair.pair_id == looked_at), start or 0)
        begin = place // PAGE * PAGE if start is None else min(start, max(0, len(found) - 1)) // PAGE * PAGE
        labelled = len(judged_pairs(chosen.first.pairs, chosen.selection.mode))
        shown = found[place if start is None else begin].pair if found else None
        listed = disagreement_list(found, labelled, begin, PAGE, None if shown is None else shown.pair_id)
        return CaseReply(listed) if shown is None else self._case(person, chosen, listed, shown)

    def found(self, chosen: SelectedPairs) -> tuple[Disagreement, ...]:
        """All disagreements of the checkpoint in detail."""
        return self.context.once(chosen, self.name, lambda: disagreements(chosen.first, chosen.selection.mode))

    def _case(self, person: User, chosen: SelectedPairs, listed: Markup, shown: AnalysedPair) -> CaseReply:
        with self.context.database.read() as session:
            pair = get_pair(session, shown.pair_id)
            labels = _current(revisions(session, pair.id))
            names = {user.id: user.name for user in list_users(session)}
        if person.role != "lead":  # who said what is for leads
            numbers = dict.fromkeys(label.annotator_id for label in labels)
            names = {annotator: f"annotator {number}" for number, annotator in enumerate(numbers, start=1)}
        served = self.context.served(chosen.registered[0])
        answer = None if served is None else stored_answer(served, self.context.database, pair, chosen.selection.mode)
        return CaseReply(
            listed,
            player=self.context.clip_store.pair_view(pair),
            head=case_head(pair, shown),
            model=verdict_view(answer or Answer()),
            people=case_labels(shown, labels, names),
        )


def _current(rows: Sequence[Label]) -> list[Label]:
    """The labels in force among all revisions of a pair."""
    replaced = {row.replaces_id for row in rows}
    return [row for row in rows if row.action == "label" and row.id not in replaced]
