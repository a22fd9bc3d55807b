"""The vote on a pair: A, tie, B, both bad, with an optional note."""

from __future__ import annotations

from typing import Any

import gradio as gr

from app.ui.assets import mount_script, read_static
from app.ui.dates import moment
from storage.votes import Vote


def vote_view(pair_id: int | None, vote: Vote | None, status: str = "") -> dict[str, Any]:
    """Return the component's value; without a pair the buttons rest."""
    return {
        "pair": pair_id,
        "choice": vote.choice if vote else None,
        "note": vote.note if vote else "",
        "status": status or (_saved(vote) if vote else ""),
    }


def _saved(vote: Vote) -> str:
    name = f" as {vote.user_name}" if vote.user_name else ""
    return f"saved {moment(vote.created_at)}{name}"


def vote_bar(elem_id: str = "vote") -> gr.HTML:
    """Build the component; a click triggers its `vote` event with `choice`, `note` and `token`."""
    return gr.HTML(
        vote_view(None, None),
        html_template=read_static("judge/vote.html"),
        js_on_load=mount_script("judge/vote.js", ["vote"]),
        apply_default_css=False,
        elem_id=elem_id,
    )
