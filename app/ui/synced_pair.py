"""The synced pair: two videos, one clock, one transport. See static/shared/synced_pair.js for how it keeps time."""

from __future__ import annotations

from typing import Any

import gradio as gr

from app.ui.assets import mount_script, read_static


def synced_pair(elem_id: str = "pair") -> gr.HTML:
    """Build the component inside the current `gr.Blocks`.

    Its value is `ClipStore.pair_view(pair)`: {"a": side, "b": side}, where a side holds an opaque address, the frame rate
    and the duration, or is None.
    """
    nothing: dict[str, Any] = {"a": None, "b": None}
    return gr.HTML(
        nothing,
        html_template=read_static("shared/synced_pair.html"),
        js_on_load=mount_script("shared/synced_pair.js"),
        apply_default_css=False,
        elem_id=elem_id,
    )
