"""Tab of the pairs on which model and people differ most, each with its videos, thoughts and labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import gradio as gr
from markupsafe import Markup

from app.analyse.figures.disagreements import Disagreement, disagreements
from app.analyse.figures.judged_pairs import judged_pairs
from app.analyse.section import READERS, AnalyseSection
from app.analyse.selection import SelectedPairs, Selection
from app.analyse.views.disagreements import case_head, case_labels, disagreement_list
from app.serving.answer import Answer
from app.serving.cached_judge import stored_answer
from app.ui.answer_panel import answer_panel, answer_view
from app.ui.synced_pair import synced_pair
from app.web.form_data import STALE_BUTTON, FormData, FormError
from app.web.panel import Reply
from storage.accounts.users import User, list_users
from storage.analysis.judged_pairs import AnalysedPair
from storage.labelling.labels import Label, revisions
from storage.pairs import get_pair
from storage.schema import Role

PAGE_SIZE = 12  # pairs in the list
NO_PLAYER: dict[str, Any] = {"a": None, "b": None}


@dataclass(frozen=True)
class CaseReply(Reply):
    """The list, and the pair that is open.

    Attributes:
        head: HTML above the player.
        model: value of the verdict panel; None without a pair.
        people: HTML of the labels, below the player.
    """

    head: str = ""
    model: Mapping[str, Any] | None = None
    people: str = ""


class DisagreementsTab(AnalyseSection):
    """The list on one side, the open pair on the other."""

    name, title = "disagreements", "Disagreements"

    def build(self) -> None:
        """Lay out the list, and the pair with its prompt, player, judgement and labels."""
        with gr.Row(elem_id="analyse-cases"):
            with gr.Column(scale=2, min_width=300):
                super().build()
            with gr.Column(scale=5, min_width=300, elem_id="analyse-case"):
                self.head = gr.HTML("", apply_default_css=False, elem_classes="ds-body")
                self.player = synced_pair("analyse-pair")
                self.model = answer_panel("analyse-verdict")
                self.people = gr.HTML("", apply_default_css=False, elem_classes="ds-body")

    @property
    def outputs(self) -> list[Any]:
        """The components of the list and of the open pair."""
        return [self.panel, self.head, self.player, self.model, self.people]

    def values(self, reply: Reply) -> list[Any]:
        """Return a value for each of `outputs`; an error leaves the open pair as it is."""
        if not isinstance(reply, CaseReply):
            return [reply.value(), *[gr.skip()] * 4]
        model = answer_view(Answer()) if reply.model is None else dict(reply.model)
        return [reply.value(), str(reply.head), dict(reply.player or NO_PLAYER), model, str(reply.people)]

    def view(self, person: User, selection: Selection) -> Reply:
        """Show the first page of the list, with its first pair open."""
        return self._show(person, self.context.load(selection), 0, None)

    def may_ask(self, act: str) -> Sequence[Role]:
        """Return the readers for opening a pair and turning the page; nothing else can be asked here."""
        return READERS if act in ("look", "turn") else ("lead",)

    def act(self, form: FormData, person: User, selection: Selection) -> Reply:
        """Open a pair, or turn the page of the list."""
        selected = self.context.load(selection)
        if form.act == "look":
            return self._show(person, selected, None, form.id)
        if form.act == "turn":
            return self._show(person, selected, form.id, None)
        raise FormError(STALE_BUTTON)

    def _show(self, person: User, selected: SelectedPairs, start: int | None, pair_id: int | None) -> CaseReply:
        """Show a page of the list with one pair open.

        Args:
            person: who asks.
            selected: the data of the selection.
            start: index of a row of the page; None for the page with the pair.
            pair_id: the pair to open; None for the first one of the page.
        """
        rows = self.disagreements(selected)
        index = next((i for i, row in enumerate(rows) if row.pair.pair_id == pair_id), start or 0)
        row_of_page = index if start is None else min(start, max(0, len(rows) - 1))
        begin = row_of_page // PAGE_SIZE * PAGE_SIZE
        labelled = len(judged_pairs(selected.first.pairs, selected.selection.mode))
        opened = rows[index if start is None else begin].pair if rows else None
        html = disagreement_list(rows, labelled, begin, PAGE_SIZE, None if opened is None else opened.pair_id)
        return CaseReply(html) if opened is None else self._case(person, selected, html, opened)

    def disagreements(self, selected: SelectedPairs) -> tuple[Disagreement, ...]:
        """Return all disagreements of the checkpoint in detail."""
        return self.context.cached(selected, self.name, lambda: disagreements(selected.first, selected.selection.mode))

    def _case(self, person: User, selected: SelectedPairs, html: Markup, opened: AnalysedPair) -> CaseReply:
        with self.context.database.read() as session:
            pair = get_pair(session, opened.pair_id)
            labels = _current(revisions(session, pair.id))
            names = {user.id: user.name for user in list_users(session)}
        if person.role != "lead":  # only leads see who gave which label
            numbers = dict.fromkeys(label.annotator_id for label in labels)
            names = {annotator: f"annotator {number}" for number, annotator in enumerate(numbers, start=1)}
        served = self.context.served(selected.registered[0])
        answer = None if served is None else stored_answer(served, self.context.database, pair, selected.selection.mode)
        return CaseReply(
            html,
            player=self.context.clip_store.pair_view(pair),
            head=case_head(pair, opened),
            model=answer_view(answer or Answer()),
            people=case_labels(opened, labels, names),
        )


def _current(rows: Sequence[Label]) -> list[Label]:
    """Return the labels in force among all revisions of a pair."""
    replaced = {row.replaces_id for row in rows}
    return [row for row in rows if row.action == "label" and row.id not in replaced]
