"""The Analyse page: where checkpoints agree with people, where they differ, and what their rewards follow.

For leads and viewers. The page itself is empty: its content is fetched after it was loaded, by handlers that check who asks.
The selection on top is kept in this browser.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gradio as gr
from markupsafe import Markup
from starlette.routing import BaseRoute

from app.analyse.benchmarks_tab import BenchmarksTab
from app.analyse.disagreements_tab import DisagreementsTab
from app.analyse.figure_tabs import figure_tabs
from app.analyse.report_tab import ReportTab
from app.analyse.scoring_panel import ScoringPanel
from app.analyse.section import READERS, AnalyseSection
from app.analyse.selection import AnalyseContext
from app.analyse.selection_panel import SelectionPanel
from app.clip_store import ClipStore
from app.runs.supervisor import RunSupervisor
from app.serving.serving import Serving
from app.web.auth import Auth, AuthError, NotSignedInError
from app.web.panel import QUIET
from app.web.plain_errors import PLAIN_ERRORS
from storage import Database


class AnalysePage:
    """Builds the page inside the current `gr.Blocks`; its route belongs to the app that Gradio launches."""

    def __init__(
        self, database: Database, clip_store: ClipStore, serving: Serving, auth: Auth, supervisor: RunSupervisor
    ) -> None:
        self.context = AnalyseContext(database, clip_store, serving, auth)
        figures, cases, benchmarks = figure_tabs(self.context), DisagreementsTab(self.context), BenchmarksTab(self.context)
        self.report = ReportTab(self.context, figures, cases, benchmarks)
        self.top: tuple[SelectionPanel, ScoringPanel] = (
            SelectionPanel(self.context),
            ScoringPanel(self.context, supervisor),
        )
        self.tabs: tuple[AnalyseSection, ...] = (figures[0], cases, *figures[1:], benchmarks, self.report)

    def routes(self) -> list[BaseRoute]:
        """Return the route of the report's download."""
        return self.report.routes()

    # ---- layout --------------------------------------------------------------------------------------------------

    def build(self, blocks: gr.Blocks) -> None:
        """Lay the page out and connect its handlers."""
        # The last selection of this browser; who the person is stands in the cookie alone.
        self.saved = gr.BrowserState(None, storage_key="descore-analyse", secret="descore-analyse")
        self.selection, self.front = gr.State(None), gr.State(self.tabs[0].name)
        self.gate = gr.HTML("", elem_id="analyse-gate", apply_default_css=False)
        with gr.Column(visible=False, elem_id="analyse-page") as self.body:
            for section in self.top:
                section.build()
            with gr.Tabs(elem_id="analyse-tabs", elem_classes="ds-tabs"):
                self.parts = [self._build_tab(section) for section in self.tabs]
        self._connect(blocks)

    def _build_tab(self, section: AnalyseSection) -> gr.Tab:
        with gr.Tab(section.title, id=section.name) as tab:
            section.build()
        return tab

    def _connect(self, blocks: gr.Blocks) -> None:
        choose, scoring = self.top
        everything = [output for section in self.tabs for output in section.outputs]
        entered = blocks.load(self._enter, self.saved, [self.gate, self.body, self.selection, choose.panel], **QUIET)
        changed = choose.panel.act(choose.choose, None, [choose.panel, self.selection, self.saved], **QUIET)
        for event in (entered, changed):
            event.then(scoring.refresh, self.selection, scoring.outputs, **QUIET)
            event.then(self._show_front, [self.selection, self.front], everything, **QUIET)
        for tab, section in zip(self.parts, self.tabs, strict=True):
            tab.select(self._bring_to_front(section), self.selection, [self.front, *section.outputs], **QUIET)
        for section in (scoring, *self.tabs):
            section.panel.act(section.answer, self.selection, section.outputs, **QUIET)
        scoring.panel.poll(scoring.refresh, self.selection, scoring.outputs, **QUIET)

    # ---- handlers ------------------------------------------------------------------------------------------------

    def _enter(self, saved: Any, request: gr.Request) -> list[Any]:
        """Check who opened the page, and show the form with this browser's last selection."""
        try:
            person = self.context.auth.require(request, *READERS)
            selection = self.context.select(saved)
            return ["", gr.Column(visible=True), selection.to_value(), self.top[0].view(person, selection).value()]
        except PLAIN_ERRORS as error:
            return [_gate(error), gr.Column(visible=False), None, gr.skip()]

    def _bring_to_front(self, section: AnalyseSection) -> Callable[[Any, gr.Request], list[Any]]:
        """Return the handler of opening a tab, which computes what the tab shows."""

        def bring(state: Any, request: gr.Request) -> list[Any]:
            return [section.name, *section.show(state, request)]

        return bring

    def _show_front(self, state: Any, front: str, request: gr.Request) -> list[Any]:
        """Refresh the tab in front; the others follow when they are opened."""
        values: list[Any] = []
        for section in self.tabs:
            shown = section.name == front and state is not None
            values += section.show(state, request) if shown else [gr.skip()] * len(section.outputs)
        return values


def _gate(error: Exception) -> str:
    """Show why a person may not read the page, with a link to sign in."""
    sign_in = Markup(' <a href="./sign-in?next=/analyse">Sign in</a>') if isinstance(error, NotSignedInError) else ""
    other = isinstance(error, AuthError) and not sign_in
    again = Markup(' <a href="./sign-in?next=/analyse">Sign in as somebody else</a>') if other else ""
    text = "This page is for leads and viewers." if sign_in else str(error)
    return str(Markup('<p class="ds-gate">{}{}{}</p>').format(text, sign_in, again))
