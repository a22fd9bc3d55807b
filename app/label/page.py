"""The Label page: one script and its template; all that it knows it fetches from the endpoints of `LabelApi`."""

from __future__ import annotations

import gradio as gr
from starlette.routing import BaseRoute

from app.clip_store import ClipStore
from app.label.api import LabelApi
from app.serving.serving import Serving
from app.ui.assets import read_static
from app.web.auth import Auth
from storage import Database

# Joined in this order into one function, so that each may use what stands before it.
SCRIPTS = ("core", "form", "time_on_task", "panels", "compare", "session", "keys")
PLACE_OF_PLAYER = "<!-- synced pair -->"


class LabelPage:
    """Builds the page inside the current `gr.Blocks`; its routes belong to the app that Gradio launches."""

    def __init__(self, database: Database, clip_store: ClipStore, serving: Serving, auth: Auth) -> None:
        self._api = LabelApi(database, clip_store, serving, auth)

    def build(self, blocks: gr.Blocks) -> None:
        """Lay the page out. It says nothing of any pair, so it may be sent to whoever asks."""
        gr.HTML(
            None,
            html_template=read_static("label/label.html").replace(PLACE_OF_PLAYER, read_static("shared/synced_pair.html")),
            js_on_load=page_script(),
            apply_default_css=False,
            elem_id="label",
        )

    def routes(self) -> list[BaseRoute]:
        """The JSON endpoints."""
        return self._api.routes()


def page_script() -> str:
    """The player and the page's own scripts, each in a function of its own. The player gets its pairs by events."""
    own = "\n".join(read_static(f"label/{name}.js") for name in SCRIPTS)
    player = f"((element, props, watch) => {{\n{read_static('shared/synced_pair.js')}\n}})(element, {{}}, () => {{}});"
    return f"{player}\n((element) => {{\n{own}\n}})(element);"
