"""The static files beside this package: templates, scripts and styles of the components, read once."""

from __future__ import annotations

from functools import cache
from pathlib import Path

STATIC = Path(__file__).resolve().parent.parent / "static"
STYLES = (
    "colours.css",
    "page.css",
    "header.css",
    "synced_pair.css",
    "verdict.css",
    "vote.css",
    "lead.css",
    "lead_cases.css",
    "label.css",
    "label_panels.css",
    "analyse.css",
    "train.css",
)


@cache
def read_static(name: str) -> str:
    """The text of one file of `app/static`."""
    return (STATIC / name).read_text(encoding="utf-8")


def styles() -> str:
    """All style sheets as one text, for `Blocks.launch(css=...)`."""
    return "\n".join(read_static(name) for name in STYLES)
