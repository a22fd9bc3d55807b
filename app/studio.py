"""The whole app: its pages, its other web routes, and the server that shows them.

    Studio.open("bundled").launch(port=7860)

A page is built by a class of its own in `app/pages`; what it needs is handed to it here.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr
from starlette.routing import BaseRoute

from app.auth import Auth
from app.clips import ClipShelf
from app.components.assets import styles
from app.deployment import public_url, trust_no_proxy_unasked
from app.gallery import FOLDER, load_gallery
from app.pages.judge import JudgePage
from app.pages.label import LabelPage
from app.pages.lead import LeadPage
from app.serving import Served
from app.shell import JUDGE, LABEL, LEAD, build_header, theme
from descore.video import warm_up
from storage import Database, open_database
from storage.pairs import add_pair
from storage.sign_in import invite_first_lead

MAX_UPLOAD = "512mb"
# A request that waits for the database gives the interpreter away at each statement; by default it gets it back from a
# busy thread only after 5 ms. Labelling makes some 25 statements a request.
SWITCH_SECONDS = 0.0005


@dataclass(frozen=True)
class Studio:
    """One running app: the checkpoint that answers, the store, the people, the pages."""

    served: Served
    database: Database
    shelf: ClipShelf
    auth: Auth
    blocks: gr.Blocks
    routes: tuple[BaseRoute, ...]

    @classmethod
    def open(cls, checkpoint: str, home: Path | None = None, gallery: Path = FOLDER) -> Studio:
        """Load the checkpoint, open the store, build the pages. The gallery's pairs are in the store from then on.

        Raises:
            descore.errors.CheckpointError: the checkpoint can't be used.
            StorageError: the store can't be opened.
        """
        warm_up()
        served = Served.load(checkpoint)
        database = open_database(home=home)
        shelf, auth = ClipShelf(database), Auth(database)
        bundled = load_gallery(shelf, gallery)
        with database.write() as session:
            for pair in bundled:
                add_pair(session, pair.a, pair.b, pair.prompt, source="bundled")
        judge = JudgePage(served, database, shelf, bundled)
        label, lead = LabelPage(database, shelf, served, auth), LeadPage(database, shelf, served, auth)
        blocks = gr.Blocks(title="DeScore", analytics_enabled=False, fill_width=True)
        with blocks:
            build_header(served, JUDGE)
            judge.build(blocks)
        with blocks.route(LABEL.name, LABEL.path):
            build_header(served, LABEL)
            label.build(blocks)
        with blocks.route(LEAD.name, LEAD.path):
            build_header(served, LEAD)
            lead.build(blocks)
        routes = (*shelf.routes(), *auth.routes(), *label.routes(), *lead.routes())
        return cls(served, database, shelf, auth, blocks, routes)

    def launch(
        self, host: str | None = None, port: int | None = None, prevent_thread_lock: bool = False, **options: Any
    ) -> tuple[Any, str, str]:
        """Serve until interrupted; `options` go to `gr.Blocks.launch`, whose result is returned.

        prevent_thread_lock: return at once and serve in the background.
        """
        trust_no_proxy_unasked()
        sys.setswitchinterval(SWITCH_SECONDS)
        launched = self.blocks.launch(
            server_name=host,
            server_port=port,
            theme=theme(),
            css=styles(),
            app_kwargs={"routes": list(self.routes)},
            footer_links=[],
            run_history=False,
            ssr_mode=False,
            show_error=True,
            max_file_size=MAX_UPLOAD,
            prevent_thread_lock=True,
            **options,
        )
        link = self.first_lead_link(launched[1])
        if link is not None:
            print(f"* No lead yet. Become the first one here, once, within a day: {link}", flush=True)
        if not prevent_thread_lock:
            self.blocks.block_thread()
        return launched

    def first_lead_link(self, local_url: str) -> str | None:
        """A one-time link that makes the first lead, for the console: who can read that owns the app. None if there is one.

        local_url: what the server listens on.
        """
        with self.database.write() as session:
            token = invite_first_lead(session)
        return None if token is None else f"{public_url(local_url)}/invite/{token}"
