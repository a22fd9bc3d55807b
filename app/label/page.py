"""The Label page: a template and its scripts, which fetch everything from the endpoints of `LabelApi`."""

from __future__ import annotations

import gradio as gr
from starlette.routing import BaseRoute

from app.clip_store import ClipStore
from app.label.api import LabelApi
from app.serving.serving import Serving
from app.ui.assets import mount_script, read_static
from app.web.auth import Auth
from storage import Database

PLACE_OF_PLAYER = "<!-- synced pair -->"
BEGINNING = '<section class="label"'


class LabelPage:
    """Builds the page inside the current `gr.Blocks`; its routes belong to the app that Gradio launches."""

    def __init__(
        self, database: Database, clip_store: ClipStore, serving: Serving, auth: Auth, guests: bool = False
    ) -> None:
        """Choose whether the page offers to label as a guest."""
        self._api, self._guests = LabelApi(database, clip_store, serving, auth), guests

    def build(self) -> None:
        """Lay the page out. It names no pair, so it may be sent to anybody."""
        gr.HTML(
            None,
            html_template=self._template(),
            js_on_load=mount_script("label/page.js"),
            apply_default_css=False,
            elem_id="label",
        )

    def _template(self) -> str:
        template = read_static("label/label.html").replace(PLACE_OF_PLAYER, read_static("shared/synced_pair.html"))
        return template.replace(BEGINNING, f"{BEGINNING} data-guests", 1) if self._guests else template

    def routes(self) -> list[BaseRoute]:
        """Return the JSON endpoints."""
        return self._api.routes()
