"""The line with the link to the pair on the Judge page."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

import gradio as gr

from app.ui.assets import mount_script, read_static
from app.ui.dates import moment

ShareState = Literal["none", "link", "ready", "made", "open", "shared"]


def share_view(
    state: ShareState = "none",
    path: str = "",
    until: datetime | None = None,
    own: bool = False,
    status: str = "",
    query: str = "",
) -> dict[str, Any]:
    """Return the component's value.

    Args:
        state: "none" hides the line; "link": `path` leads to this bundled pair; "ready": a link can be made; "made": it is
            `path`; "open": this browser made one before; "shared": the pair came by a link, which only its maker may end.
        path: of the link, counted from the app's root.
        until: when the link ends.
        own: this browser made the link, and may end it.
        status: what happened, in a few words.
        query: what stays in the page's own address, so that a reload opens the link again.
    """
    end = "" if until is None else moment(until)
    return {"state": state, "path": path, "until": end, "own": own, "status": status, "query": query}


def share_line(elem_id: str = "share") -> gr.HTML:
    """Build the component; its buttons trigger `make_link` and `end_link`."""
    return gr.HTML(
        share_view() | {"query": None},
        html_template=read_static("judge/share.html"),
        js_on_load=mount_script("judge/share.js", ["make_link", "end_link"]),
        apply_default_css=False,
        elem_id=elem_id,
    )
