"""The gallery of bundled pairs: `gallery/pairs.json` beside its mp4 files."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr

from app.clip_store import ClipStore
from app.ui.assets import mount_script, read_static
from storage.pairs import Video

FOLDER = Path(__file__).resolve().parents[1] / "gallery"


@dataclass(frozen=True)
class BundledPair:
    """One pair of the gallery; `id` is unique within it."""

    id: str
    prompt: str
    a: Video
    b: Video


def load_gallery(clip_store: ClipStore, folder: Path = FOLDER) -> tuple[BundledPair, ...]:
    """Read the table and take its videos in; without a table there are no bundled pairs.

    Raises:
        ValueError: the table is not a list of {id, prompt, a, b}, or an id is repeated.
        descore.video.VideoError: a file of the table is missing or no video.
    """
    table = folder / "pairs.json"
    if not table.exists():
        return ()
    try:
        rows = [(str(row["id"]), str(row["prompt"]), row["a"], row["b"]) for row in json.loads(table.read_text("utf-8"))]
    except (TypeError, KeyError) as error:
        raise ValueError(f"{table.name} must be a list of objects with id, prompt, a and b ({error!r})") from None
    if len({row[0] for row in rows}) != len(rows):
        raise ValueError(f"{table.name} repeats an id")
    return tuple(
        BundledPair(name, prompt, clip_store.take_in(folder / a), clip_store.take_in(folder / b))
        for name, prompt, a, b in rows
    )


def gallery_view(
    pairs: Sequence[BundledPair], clip_store: ClipStore, selected: str | None, own: bool = False
) -> dict[str, Any]:
    """Return the value of the strip of cards.

    Args:
        selected: the id of the marked one.
        own: videos of one's own are chosen, so the card for them is marked.
    """
    cards = [
        {"id": pair.id, "prompt": pair.prompt, "a": clip_store.poster_url(pair.a), "b": clip_store.poster_url(pair.b)}
        for pair in pairs
    ]
    return {"pairs": cards, "selected": selected, "own": own}


def gallery_strip(elem_id: str = "gallery") -> gr.HTML:
    """Build the strip of cards; choosing one triggers `select` with the pair's id."""
    return gr.HTML(
        {"pairs": [], "selected": None, "own": False},
        html_template=read_static("judge/gallery.html"),
        js_on_load=mount_script("judge/gallery.js", ["select"]),
        apply_default_css=False,
        elem_id=elem_id,
    )
