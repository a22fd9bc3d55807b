"""The context of the Lead page, and the base class of its sections."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import gradio as gr

from app.clip_store import ClipStore
from app.serving.serving import Serving
from app.web.auth import Auth
from app.web.panel import Section
from storage import Database


@dataclass(frozen=True)
class LeadContext:
    """The objects that the sections work with."""

    database: Database
    clip_store: ClipStore
    serving: Serving
    auth: Auth


class LeadSection(Section["int | None"]):
    """A section of the Lead page; its scope is the campaign that was chosen, None for none."""

    page: ClassVar[str] = "lead"

    def __init__(self, context: LeadContext) -> None:
        super().__init__(context.auth)
        self.context = context

    def scope_of(self, state: Any) -> int | None:
        """Return the id of the chosen campaign."""
        return state if isinstance(state, int) else None

    def answer(self, state: Any, event: gr.EventData, request: gr.Request) -> Iterator[list[Any]]:
        """Handle an act. The last of the values is the campaign to go on with."""
        for reply in self.replies(state, event, request):
            yield [*self.values(reply), gr.skip() if reply.chosen is None else reply.chosen]
