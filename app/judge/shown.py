"""What the Judge page shows at one moment, and what its handlers return: new values of its parts, by name."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import wraps
from typing import Any

import gradio as gr

from app.judge.shares import SharedPair
from app.serving.answer import Answer
from descore.judgement import Mode
from storage.pairs import Video
from storage.votes import Seen

Updates = dict[str, Any]  # new values of the page's parts, by name; the others stay as they are


@dataclass(frozen=True)
class Shown:
    """What the page is to show.

    Attributes:
        a, b: the videos; None for one of one's own that is still to come.
        bundled: the id of a pair of the gallery.
        shared: the link that the pair came by.
        answer: of the model, from the store.
        notice: a sentence about a link that leads nowhere.
        errors: why a video of one's own could not be used, by side.
        turn: of the browser's event about its own videos that this answers.
    """

    a: Video | None
    b: Video | None
    prompt: str
    bundled: Any = None
    shared: SharedPair | None = None
    answer: Answer | None = None
    notice: str = ""
    errors: dict[str, str] = field(default_factory=dict)
    turn: int = 0

    @property
    def videos(self) -> tuple[Video, ...]:
        """The videos that are there."""
        return tuple(video for video in (self.a, self.b) if video is not None)


@dataclass(frozen=True)
class Answered:
    """The answer on the page, and how it was asked for.

    Attributes:
        pair: id of the pair that it is about; None where its link has ended.
        seen: what a vote keeps of it.
        covered: it is not shown before there is a vote.
    """

    mode: Mode
    k: int
    pair: int | None = None
    seen: Seen = "unknown"
    covered: bool = False


@dataclass
class Question:
    """What a tab has asked.

    Attributes:
        cancel: stops it.
        mode, k: how it is asked; 0 thoughts in other modes than "k".
        covered: its answer is not shown before there is a vote.
        instead: the answer that the page shows after it, once another pair came in its place.
    """

    cancel: threading.Event
    mode: Mode
    k: int
    covered: bool = False
    instead: Answer = field(default_factory=Answer)


def by_part(parts: Mapping[str, Any], handler: Callable[..., Updates]) -> Callable[..., dict[Any, Any]]:
    """Let a handler name the parts of the page that it changes."""

    @wraps(handler)
    def answer(*args: Any, **keywords: Any) -> dict[Any, Any]:
        return {parts[name]: value for name, value in handler(*args, **keywords).items()}

    return answer


def turn_of(event: gr.EventData) -> int:
    """Return which of the browser's events this is: about its own videos, or about tables."""
    return whole(getattr(event, "turn", 0))


def whole(value: Any) -> int:
    """Return a number of the browser's as a whole one; 0 for anything else."""
    return int(value) if isinstance(value, (int, float)) and abs(value) < 1e9 else 0


def notice(text: str, until: str = "") -> gr.HTML:
    """Return the line on top of the page: about a link that leads nowhere, or one that is open until a day."""
    if until:
        line = f"Somebody shared this pair. Everybody with the link can open it until {until}."
        return gr.HTML(f'<p class="shared-line" role="status">{line}</p>', visible=True)
    return gr.HTML(error_line(text) if text else "", visible=bool(text))


def error_line(text: str) -> str:
    """Return a sentence that says what went wrong."""
    escaped = text.replace("&", "&amp;").replace("<", "&lt;")
    return f'<p class="error-line" role="alert">{escaped}</p>'
