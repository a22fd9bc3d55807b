"""The fields that a button or a form of a page sends."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import gradio as gr

from descore.prompt import text_problem

LONGEST_TEXT = 20_000  # characters
STALE_BUTTON = "This item no longer exists. Reload the page."


class FormError(ValueError):
    """A field of a form is missing or can't be used; the message says which."""


@dataclass(frozen=True)
class FormData:
    """An act of a panel with its fields, as the browser sent them: nothing is checked yet.

    Attributes:
        act: what the button or form does.
        key: the item that it belongs to, "" for none.
        fields: texts, and lists of texts for groups of checkboxes, by name.
    """

    act: str
    key: str
    fields: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, event: gr.EventData) -> FormData:
        """Read a Gradio event of a panel."""
        return cls.read(event.asked)

    @classmethod
    def read(cls, sent: Any) -> FormData:
        """Read the message of a browser; all but texts and lists of texts is left out."""
        sent = sent if isinstance(sent, Mapping) else {}
        texts = {str(name): value for name, value in sent.items() if isinstance(value, str)}
        lists = {
            str(name): [entry for entry in value if isinstance(entry, str)]
            for name, value in sent.items()
            if isinstance(value, list)
        }
        return cls(texts.pop("act", ""), texts.pop("id", ""), {**texts, **lists})

    def text(self, name: str) -> str:
        """Return a text without surrounding blanks, "" where it is missing.

        Raises:
            FormError: it is longer than any field may be.
        """
        value = self.fields.get(name, "")
        if not isinstance(value, str):
            return ""
        problem = text_problem(value, LONGEST_TEXT)
        if problem is not None:
            raise FormError(f"{name} {problem}")
        return value.strip()

    def many(self, name: str) -> tuple[str, ...]:
        """Return the checked boxes of a group."""
        value = self.fields.get(name, [])
        return tuple(value) if isinstance(value, list) else ()

    def number(self, name: str) -> float:
        """Return a number.

        Raises:
            FormError: the field holds none.
        """
        try:
            return float(self.text(name))
        except ValueError:
            raise FormError(f"Enter a number for {name.replace('_', ' ')} (got {self.text(name)!r}).") from None

    def whole(self, name: str) -> int:
        """Return a whole number.

        Raises:
            FormError: the field holds none.
        """
        number = self.number(name)
        if not number.is_integer():
            raise FormError(f"Enter a whole number for {name.replace('_', ' ')} (got {self.text(name)!r}).")
        return int(number)

    @property
    def id(self) -> int:
        """The item's id.

        Raises:
            FormError: the button or form carries none.
        """
        if not (self.key.isascii() and self.key.isdigit() and len(self.key) < 19):
            raise FormError(STALE_BUTTON)
        return int(self.key)
