"""The Train page: count new labels, retrain, follow the run, promote a better checkpoint, roll back.

The page is a template with a script, which fetches its content from the endpoints of `TrainApi`, for leads and viewers only.
"""

from __future__ import annotations

import gradio as gr
from starlette.routing import BaseRoute

from app.clip_store import ClipStore
from app.runs.preflight import Preflights
from app.runs.supervisor import RunSupervisor
from app.serving.serving import Serving
from app.train.api import TrainApi
from app.train.page_state import PageStateReader
from app.ui.assets import mount_script, read_static
from app.ui.plotly_script import PLOTLY_ADDRESS
from app.web.auth import Auth
from storage import Database


class TrainPage:
    """Builds the page inside the current `gr.Blocks`; its routes belong to the app that Gradio launches."""

    def __init__(
        self, database: Database, clip_store: ClipStore, serving: Serving, auth: Auth, supervisor: RunSupervisor
    ) -> None:
        preflights = Preflights(database)
        state = PageStateReader(database, clip_store, serving, preflights, supervisor.places)
        self._api = TrainApi(database, state, serving, auth, supervisor, preflights)

    def build(self, _blocks: gr.Blocks) -> None:
        """Lay out the page. It holds no data, so it may be sent to anybody."""
        gr.HTML(
            None,
            html_template=read_static("train/train.html"),
            js_on_load=mount_script("train/page.js", plotly=PLOTLY_ADDRESS),
            apply_default_css=False,
            elem_id="train",
        )

    def routes(self) -> list[BaseRoute]:
        """Return the JSON endpoints."""
        return self._api.routes()
