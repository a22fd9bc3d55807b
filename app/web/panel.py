"""Sections: parts of a page with a panel each, which show HTML and answer what its buttons and forms ask.

Every handler finds out who asks from the request, and checks the role before anything else: nothing that the browser sends
counts.
"""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Generic, TypeVar

import gradio as gr
from markupsafe import Markup

from app.ui.assets import mount_script
from app.ui.markup import empty
from app.web.auth import Auth
from app.web.form_data import STALE_BUTTON, FormData, FormError
from app.web.plain_errors import PLAIN_ERRORS
from storage.accounts.users import User
from storage.schema import Role

log = logging.getLogger(__name__)

# `multiple`: a running import must not keep its own Cancel button waiting.
QUIET: dict[str, Any] = {
    "show_progress": "hidden",
    "api_visibility": "private",
    "concurrency_limit": None,
    "trigger_mode": "multiple",
}
PANEL = (
    '<div class="ds-panel" data-poll="{poll}"><div class="ds-status-line"><p class="ds-status" role="status"></p>'
    '<button type="button" class="ds-button ds-cancel" data-act="cancel" hidden>Cancel</button></div>'
    '<div class="ds-body"></div></div>'
)
PANEL_EVENTS = ("act", "poll")
Scope = TypeVar("Scope")


@dataclass(frozen=True)
class Reply:
    """The next state of a panel.

    Attributes:
        html: the panel's content; None leaves the content that is there.
        status: one line above it.
        bad: whether that line tells of an error.
        running: whether work goes on, so that the Cancel button shows.
        player: the value of the pair player; None leaves it.
        chosen: the campaign to go on with; None leaves it.
    """

    html: Markup | None = None
    status: str = ""
    bad: bool = False
    running: bool = False
    player: Mapping[str, Any] | None = None
    chosen: int | None = None

    def value(self) -> dict[str, Any]:
        """Return the value of the panel's component."""
        html = None if self.html is None else str(self.html)
        return {"html": html, "status": self.status, "bad": self.bad, "running": self.running}


class Section(ABC, Generic[Scope]):
    """One part of a page with a panel of its own. It shows a scope: a campaign, or a selection of pairs.

    Attributes:
        page: the page's name, with which the panel's element id begins.
        name: unique within the page.
        title: what a person reads on its tab.
        readers: the roles that may see it.
        poll_seconds: time between refreshes, 0 for none.
    """

    page: ClassVar[str]
    name: ClassVar[str]
    title: ClassVar[str]
    readers: ClassVar[tuple[Role, ...]] = ("lead",)
    poll_seconds: ClassVar[int] = 0

    def __init__(self, auth: Auth) -> None:
        self._auth = auth

    @abstractmethod
    def scope_of(self, state: Any) -> Scope:
        """Read the scope from the browser's state.

        Raises:
            FormError: there is nothing to show yet.
        """

    @abstractmethod
    def view(self, person: User, scope: Scope) -> Reply:
        """Show a scope: at first, and after another one was chosen."""

    def act(self, _form: FormData, _person: User, _scope: Scope) -> Reply | Iterator[Reply]:
        """Carry out the act of a button or form; the person has one of the roles of `may_ask`.

        Raises:
            FormError: there is no such act, or a field can't be used.
        """
        raise FormError(STALE_BUTTON)

    def may_ask(self, _act: str) -> Sequence[Role]:
        """Return the roles that may ask for an act."""
        return ("lead",)

    def script(self) -> str:
        """Return the script of the panel."""
        return mount_script("shared/panel.js", PANEL_EVENTS)

    def build(self) -> None:
        """Put the panel into the current `gr.Blocks`."""
        self.panel = gr.HTML(
            Reply().value(),
            html_template=PANEL.replace("{poll}", str(self.poll_seconds)),
            js_on_load=self.script(),
            apply_default_css=False,
            elem_id=f"{self.page}-{self.name}",
        )

    @property
    def outputs(self) -> list[Any]:
        """The components that `show` and `answer` write."""
        return [self.panel]

    def values(self, reply: Reply) -> list[Any]:
        """Return a value for each of `outputs`."""
        return [reply.value()]

    def show(self, state: Any, request: gr.Request) -> list[Any]:
        """Return the values of the view, for those who may read it."""
        try:
            person = self._auth.require(request, *self.readers)
            return self.values(self.view(person, self.scope_of(state)))
        except PLAIN_ERRORS as error:
            return self.values(Reply(empty(str(error))))

    def refresh(self, state: Any, request: gr.Request) -> Any:
        """Handle a refresh: as `show`, in the form that Gradio wants of a handler with one output."""
        return _for_gradio(self.show(state, request))

    def answer(self, state: Any, event: gr.EventData, request: gr.Request) -> Iterator[Any]:
        """Handle an act."""
        for reply in self.replies(state, event, request):
            yield _for_gradio(self.values(reply))

    def replies(self, state: Any, event: gr.EventData, request: gr.Request) -> Iterator[Reply]:
        """Yield the replies to an act; an error is the last of them."""
        try:
            form = FormData.of(event)
            person = self._auth.require(request, *self.may_ask(form.act))
            answer = self.act(form, person, self.scope_of(state))
            if isinstance(answer, Reply):
                yield answer
            else:
                yield from answer
        except PLAIN_ERRORS as error:
            yield Reply(None, str(error), bad=True)
        except Exception as error:
            log.exception("the %s page failed", self.page)
            yield Reply(None, f"This failed: {type(error).__name__}. The app's log says more.", bad=True)


def _for_gradio(values: list[Any]) -> Any:
    """Return the values as Gradio takes them: a single one without its list."""
    return values if len(values) > 1 else values[0]
