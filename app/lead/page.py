"""The Lead page: campaigns on top, and tabs for all that a lead does with them.

Its content is fetched after the page was loaded, by handlers that look up who asks; the page itself holds nothing. A viewer
gets progress and agreement, everybody else a line that says for whom the page is.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import gradio as gr
from markupsafe import Markup
from starlette.routing import BaseRoute

from app.clip_store import ClipStore
from app.lead.adjudication import AdjudicationTab
from app.lead.context import LeadContext, LeadSection
from app.lead.export import ExportTab
from app.lead.import_files import ImportTab
from app.lead.people import AccountsTab
from app.lead.progress import AgreementTab, AnnotatorsTab, CampaignList, ProgressTab
from app.lead.setup import GoldTab, GuidelinesTab, NewCampaignTab
from app.serving.serving import Serving
from app.web.auth import Auth, AuthError, NotSignedInError
from app.web.panel import QUIET
from storage import Database, StorageError
from storage.accounts.users import User
from storage.campaigns.campaign import list_campaigns


class LeadPage:
    """Builds the page inside the current `gr.Blocks`; its routes belong to the app that Gradio launches."""

    def __init__(self, database: Database, clip_store: ClipStore, serving: Serving, auth: Auth) -> None:
        context = LeadContext(database, clip_store, serving, auth)
        self.context, self.campaigns = context, CampaignList(context)
        self.export = ExportTab(context)
        self.tabs: list[LeadSection] = [
            ProgressTab(context),
            AnnotatorsTab(context),
            AgreementTab(context),
            AdjudicationTab(context),
            GoldTab(context),
            GuidelinesTab(context),
            NewCampaignTab(context),
            AccountsTab(context),
            ImportTab(context),
            self.export,
        ]

    def routes(self) -> list[BaseRoute]:
        """Return the route of an export's download."""
        return self.export.routes()

    # ---- layout --------------------------------------------------------------------------------------------------

    def build(self, blocks: gr.Blocks) -> None:
        """Lay the page out and connect its handlers."""
        # The campaign that this browser showed last. The person is known by the cookie alone.
        self.saved = gr.BrowserState(None, storage_key="descore-lead", secret="descore-lead")
        self.chosen, self.front = gr.State(None), gr.State(self.tabs[0].name)
        self.gate = gr.HTML("", elem_id="ds-gate", apply_default_css=False)
        with gr.Column(visible=False, elem_id="lead-page") as self.body:
            self.campaigns.build()
            with gr.Tabs(elem_id="lead-tabs", elem_classes="ds-tabs") as self.frame:
                self.parts = [self._build_tab(section) for section in self.tabs]
        self._connect(blocks)

    def _build_tab(self, section: LeadSection) -> gr.Tab:
        with gr.Tab(section.title, id=section.name, visible=False) as tab:
            section.build()
        return tab

    def _connect(self, blocks: gr.Blocks) -> None:
        everything = [output for section in self.tabs for output in section.outputs]
        entered = [self.gate, self.body, self.chosen, self.campaigns.panel, *self.parts, *everything]
        blocks.load(self._enter, self.saved, entered, **QUIET)
        for tab, section in zip(self.parts, self.tabs, strict=True):
            tab.select(self._bring_to_front(section), self.chosen, [self.front, *section.outputs], **QUIET)
            answered = section.panel.act(section.answer, self.chosen, [*section.outputs, self.chosen], **QUIET)
            answered.then(self._refresh, self.chosen, [self.campaigns.panel, self.saved], **QUIET)
        chosen = self.campaigns.panel.act(
            self._choose, self.chosen, [*self.campaigns.outputs, self.chosen, self.saved], **QUIET
        )
        chosen.then(self._show_front, [self.chosen, self.front], everything, **QUIET)
        for section in (self.campaigns, *self.tabs):
            if section.poll_seconds:
                section.panel.poll(section.refresh, self.chosen, section.outputs, **QUIET)

    # ---- handlers ------------------------------------------------------------------------------------------------

    def _enter(self, saved: Any, request: gr.Request) -> list[Any]:
        """Look up, on load, the person and the campaign that this browser showed last."""
        everything = sum(len(section.outputs) for section in self.tabs)
        try:
            person = self.context.auth.require(request, "lead", "viewer")
            chosen = self._last_chosen(saved)
        except (AuthError, StorageError) as error:
            hidden = [gr.Tab(visible=False)] * len(self.tabs)
            return [_gate(error), gr.Column(visible=False), None, gr.skip(), *hidden, *[gr.skip()] * everything]
        tabs = [gr.Tab(visible=person.role in section.readers) for section in self.tabs]
        return [
            "",
            gr.Column(visible=True),
            chosen,
            self.campaigns.view(person, chosen).value(),
            *tabs,
            *self._front_values(person, chosen, self.tabs[0].name),
        ]

    def _last_chosen(self, saved: Any) -> int | None:
        """Return the campaign of the last visit if it still exists, else the newest one."""
        with self.context.database.read() as session:
            ids = [campaign.id for campaign in list_campaigns(session)]
        return saved if saved in ids else (ids[-1] if ids else None)

    def _bring_to_front(self, section: LeadSection) -> Any:
        """Return the handler that fills a tab when it is opened."""

        def bring(campaign: int | None, request: gr.Request) -> list[Any]:
            return [section.name, *section.show(campaign, request)]

        return bring

    def _choose(self, campaign: int | None, event: gr.EventData, request: gr.Request) -> Iterator[list[Any]]:
        """Handle an act in the list of campaigns; this browser comes back to the one that was chosen last."""
        for *values, chosen in self.campaigns.answer(campaign, event, request):
            yield [*values, chosen, chosen if isinstance(chosen, int) else campaign]

    def _show_front(self, campaign: int | None, front: str, request: gr.Request) -> list[Any]:
        """Fill the tab in front after another campaign was chosen; the others are filled when they are opened."""
        return self._front_values(self.context.auth.user(request), campaign, front)

    def _refresh(self, campaign: int | None, request: gr.Request) -> list[Any]:
        """Return, after an act in a tab, the list with its counts, and the campaign to come back to."""
        return [*self.campaigns.show(campaign, request), campaign]

    def _front_values(self, person: User | None, campaign: int | None, front: str) -> list[Any]:
        values: list[Any] = []
        for section in self.tabs:
            if person is not None and section.name == front and person.role in section.readers:
                values += section.values(section.view(person, campaign))
            else:
                values += [gr.skip()] * len(section.outputs)
        return values


def _gate(error: Exception) -> str:
    """Say for whom the page is, and link to the sign-in."""
    sign_in = Markup(' <a href="./sign-in?next=/lead">Sign in</a>') if isinstance(error, NotSignedInError) else ""
    other = "" if sign_in else Markup(' <a href="./sign-in?next=/lead">Sign in as somebody else</a>')
    text = "This page is for leads." if sign_in else str(error)
    return str(Markup('<p class="ds-gate">{}{}{}</p>').format(text, sign_in, other))
