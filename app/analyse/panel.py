"""A section of the Analyse page: a panel that shows a selection, and what its buttons and forms ask.

Every handler finds out who asks from the request, and checks the role before anything else, as on the Lead page.
"""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import Any, ClassVar

import gradio as gr

from app.analyse.selection import AnalyseRoom, Selection
from app.ui.assets import read_static
from app.ui.markup import empty
from app.ui.plotly_script import PLOTLY_ADDRESS
from app.web.panel import PANEL, PLAIN, FormData, FormError, Reply
from storage.accounts.users import User
from storage.schema import Role

log = logging.getLogger(__name__)

READERS: tuple[Role, ...] = ("lead", "viewer")


class AnalyseSection(ABC):
    """One part of the page with a panel of its own; as a section of the Lead page, for a selection instead of a campaign."""

    name: ClassVar[str]
    title: ClassVar[str]
    poll_seconds: ClassVar[int] = 0

    def __init__(self, room: AnalyseRoom) -> None:
        self.room = room

    @abstractmethod
    def view(self, person: User, selection: Selection) -> Reply:
        """What the panel shows of a selection."""

    def act(self, asked: FormData, person: User, selection: Selection) -> Reply:
        """Do what a button or form asks; only those get here whom `may_ask` names."""
        raise FormError("this button belongs to nothing any more; reload the page")

    def may_ask(self, act: str) -> Sequence[Role]:
        """Who may ask for an act."""
        return ("lead",)

    def build(self) -> None:
        """Put the panel into the current `gr.Blocks`."""
        self.panel = gr.HTML(
            Reply().value(),
            html_template=PANEL.replace("{poll}", str(self.poll_seconds)),
            js_on_load=panel_script(),
            apply_default_css=False,
            elem_id=f"analyse-{self.name}",
        )

    @property
    def outputs(self) -> list[Any]:
        """The components that `show` and `answer` write."""
        return [self.panel]

    def values(self, reply: Reply) -> list[Any]:
        """A value for each of `outputs`."""
        return [reply.value()]

    def show(self, state: Any, request: gr.Request) -> list[Any]:
        """Handler: the view, for those who may read it."""
        try:
            person = self.room.auth.require(request, *READERS)
            return self.values(self.view(person, self.room.select(state)))
        except PLAIN as error:
            return self.values(Reply(empty(str(error))))

    def refresh(self, state: Any, request: gr.Request) -> Any:
        """Handler: as `show`, in the form that Gradio wants of a handler with one output."""
        values = self.show(state, request)
        return values if len(values) > 1 else values[0]

    def answer(self, state: Any, event: gr.EventData, request: gr.Request) -> Iterator[Any]:
        """Handler: an act."""
        try:
            asked = FormData.of(event)
            person = self.room.auth.require(request, *self.may_ask(asked.act))
            values = self.values(self.act(asked, person, self.room.select(state)))
        except PLAIN as error:
            values = self.values(Reply(None, str(error), bad=True))
        except Exception as error:
            log.exception("the Analyse page failed")
            values = self.values(Reply(None, f"This failed: {type(error).__name__}. The app's log says more.", bad=True))
        yield values if len(values) > 1 else values[0]


def panel_script() -> str:
    """The script of a panel: that of the Lead page, and what draws figures and saves tables."""
    parts = (
        read_static(name) for name in ("shared/form_fields.js", "shared/panel.js", "analyse/draw.js", "analyse/analyse.js")
    )
    return "\n".join(parts).replace("{plotly}", PLOTLY_ADDRESS)
