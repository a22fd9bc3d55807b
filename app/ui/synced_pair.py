"""The synced pair: two videos, one clock, one transport. See static/shared/synced_pair.js for how it keeps time."""

from __future__ import annotations

from typing import Any

import gradio as gr

from app.ui.assets import mount_script, read_static

PLACE_OF_TOOLS = "<!-- tools -->"


def synced_pair(elem_id: str = "pair", tools: bool = False) -> gr.HTML:
    """Build the component inside the current `gr.Blocks`.

    Its value is `ClipStore.pair_view(pair)`: {"a": side, "b": side}, where a side holds an opaque address, the frame rate
    and the duration, or is None.

    Args:
        tools: with a wipe between the two frames, zoom, full screen, and a button that triggers `swap`.
    """
    nothing: dict[str, Any] = {"a": None, "b": None}
    template = read_static("shared/synced_pair.html")
    if tools:
        template = template.replace(PLACE_OF_TOOLS, read_static("shared/pair_tools.html"))
    return gr.HTML(
        nothing,
        html_template=template,
        js_on_load=mount_script("shared/synced_pair.js", ["swap"] if tools else []),
        apply_default_css=False,
        elem_id=elem_id,
    )
