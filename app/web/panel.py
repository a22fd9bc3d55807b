"""What the sections of the Lead page share: who may do what, what a click or form says, how an answer gets to the page.

A section is one tab: it shows HTML made by `app/lead_views` and answers what its buttons and forms ask. Every handler
finds out who asks from the request, and checks the role before anything else: nothing that the browser sends counts.
"""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import gradio as gr
from markupsafe import Markup

from app.clip_store import ClipStore
from app.serving.serving import ModelAsideError, Serving
from app.ui.assets import read_static
from app.ui.markup import empty
from app.web.auth import Auth, AuthError
from storage import Database, StorageError
from storage.accounts.users import User
from storage.pairs import Pair
from storage.schema import Role

log = logging.getLogger(__name__)

# `multiple`: a running import must not keep its own Cancel button waiting.
QUIET: dict[str, Any] = {
    "show_progress": "hidden",
    "api_visibility": "private",
    "concurrency_limit": None,
    "trigger_mode": "multiple",
}
LONGEST_TEXT = 20_000
PANEL = (
    '<div class="ds-panel" data-poll="{poll}"><div class="ds-status-line"><p class="ds-status" role="status"></p>'
    '<button type="button" class="ds-button ds-cancel" data-act="cancel" hidden>Cancel</button></div>'
    '<div class="ds-body"></div></div>'
)


class FormError(ValueError):
    """A field of a form is missing or no number; the message says which."""


PLAIN = (AuthError, StorageError, FormError, ModelAsideError)


@dataclass(frozen=True)
class FormData:
    """What a button or form of a panel said, as it came from the browser: to be checked."""

    act: str
    key: str
    fields: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, event: gr.EventData) -> FormData:
        """Read an event."""
        return cls.read(event.asked)

    @classmethod
    def read(cls, sent: Any) -> FormData:
        """Read what a browser sent; anything else than texts and lists of texts is left out."""
        sent = sent if isinstance(sent, Mapping) else {}
        texts = {str(name): value for name, value in sent.items() if isinstance(value, str)}
        lists = {
            str(name): [one for one in value if isinstance(one, str)]
            for name, value in sent.items()
            if isinstance(value, list)
        }
        return cls(texts.pop("act", ""), texts.pop("id", ""), {**texts, **lists})

    def text(self, name: str) -> str:
        """A text without surrounding blanks, "" where it is missing."""
        value = self.fields.get(name, "")
        return value.strip()[:LONGEST_TEXT] if isinstance(value, str) else ""

    def many(self, name: str) -> tuple[str, ...]:
        """The checked boxes of one name."""
        value = self.fields.get(name, [])
        return tuple(value) if isinstance(value, list) else ()

    def number(self, name: str) -> float:
        """A number.

        Raises:
            FormError: it is none.
        """
        try:
            return float(self.text(name))
        except ValueError:
            raise FormError(f"{name.replace('_', ' ')} has to be a number; found {self.text(name)!r}") from None

    def whole(self, name: str) -> int:
        """A whole number.

        Raises:
            FormError: it is none.
        """
        number = self.number(name)
        if not number.is_integer():
            raise FormError(f"{name.replace('_', ' ')} has to be a whole number; found {self.text(name)!r}")
        return int(number)

    @property
    def id(self) -> int:
        """The id that the button or form carries.

        Raises:
            FormError: it carries none.
        """
        if not (self.key.isascii() and self.key.isdigit() and len(self.key) < 19):
            raise FormError("this button belongs to nothing any more; reload the page")
        return int(self.key)


@dataclass(frozen=True)
class Reply:
    """What a panel shows next. html None leaves what is there; running shows the Cancel button.

    player: what the pair player gets; None leaves it. chosen: the campaign to go on with; None leaves it.
    """

    html: Markup | None = None
    status: str = ""
    bad: bool = False
    running: bool = False
    player: Mapping[str, Any] | None = None
    chosen: int | None = None

    def value(self) -> dict[str, Any]:
        """The panel's value."""
        html = None if self.html is None else str(self.html)
        return {"html": html, "status": self.status, "bad": self.bad, "running": self.running}


@dataclass(frozen=True)
class LeadRoom:
    """What the sections work with."""

    database: Database
    shelf: ClipStore
    serving: Serving
    auth: Auth

    def posters(self, pairs: list[Pair]) -> dict[int, tuple[str, str]]:
        """The addresses of both still pictures by pair id."""
        return {pair.id: (self.shelf.poster_url(pair.video_a), self.shelf.poster_url(pair.video_b)) for pair in pairs}

    def player(self, pair: Pair) -> dict[str, Any]:
        """What the pair player gets."""
        return {"a": self.shelf.view(pair.video_a), "b": self.shelf.view(pair.video_b)}


class Section(ABC):
    """One part of the page with a panel of its own."""

    name: ClassVar[str]
    title: ClassVar[str]
    readers: ClassVar[tuple[Role, ...]] = ("lead",)
    poll_seconds: ClassVar[int] = 0

    def __init__(self, room: LeadRoom) -> None:
        self.room = room

    @abstractmethod
    def view(self, person: User, campaign: int | None) -> Reply:
        """What the panel shows at first, and again when another campaign is chosen."""

    def act(self, asked: FormData, person: User, campaign: int | None) -> Reply | Iterator[Reply]:
        """Do what a button or form asks; only leads get here, unless `may_ask` says otherwise."""
        raise FormError("this button belongs to nothing any more; reload the page")

    def may_ask(self, act: str) -> tuple[Role, ...]:
        """Who may ask for an act."""
        return ("lead",)

    def build(self) -> None:
        """Put the panel into the current `gr.Blocks`."""
        self.panel = gr.HTML(
            Reply().value(),
            html_template=PANEL.replace("{poll}", str(self.poll_seconds)),
            js_on_load=read_static("shared/form_fields.js") + read_static("shared/panel.js"),
            apply_default_css=False,
            elem_id=f"lead-{self.name}",
        )

    @property
    def outputs(self) -> list[Any]:
        """The components that `show` and `answer` write."""
        return [self.panel]

    def values(self, reply: Reply) -> list[Any]:
        """A value for each of `outputs`."""
        return [reply.value()]

    def refresh(self, campaign: int | None, request: gr.Request) -> Any:
        """Handler: as `show`, in the form that Gradio wants of a handler with one output."""
        values = self.show(campaign, request)
        return values if len(values) > 1 else values[0]

    def show(self, campaign: int | None, request: gr.Request) -> list[Any]:
        """The first view, for those who may read it."""
        try:
            person = self.room.auth.require(request, *self.readers)
            return self.values(self.view(person, campaign))
        except PLAIN as error:
            return self.values(Reply(empty(str(error))))

    def answer(self, campaign: int | None, event: gr.EventData, request: gr.Request) -> Iterator[list[Any]]:
        """Handler: an act. The last of the values is the chosen campaign."""
        try:
            asked = FormData.of(event)
            person = self.room.auth.require(request, *self.may_ask(asked.act))
            found = self.act(asked, person, campaign)
            for reply in [found] if isinstance(found, Reply) else found:
                chosen = gr.skip() if reply.chosen is None else reply.chosen
                yield [*self.values(reply), chosen]
        except PLAIN as error:
            yield [*self.values(Reply(None, str(error), bad=True)), gr.skip()]
        except Exception as error:
            log.exception("the Lead page failed")
            text = f"This failed: {type(error).__name__}. The app's log says more."
            yield [*self.values(Reply(None, text, bad=True)), gr.skip()]
