"""The static files beside this package: templates, scripts and styles of the components, read once."""

from __future__ import annotations

from functools import cache
from pathlib import Path

STATIC = Path(__file__).resolve().parent.parent / "static"
STYLES = (
    "shared/colours.css",
    "shared/page.css",
    "shared/header.css",
    "shared/synced_pair.css",
    "judge/verdict.css",
    "judge/vote.css",
    "lead/lead.css",
    "lead/cases.css",
    "label/label.css",
    "label/panels.css",
    "analyse/analyse.css",
    "train/train.css",
)


@cache
def read_static(name: str) -> str:
    """The text of one file of `app/static`."""
    return (STATIC / name).read_text(encoding="utf-8")


def styles() -> str:
    """All style sheets as one text, for `Blocks.launch(css=...)`."""
    return "\n".join(read_static(name) for name in STYLES)
