"""The whole app: its pages, its other web routes, and the server that shows them.

    Studio.open("bundled").launch(port=7860)

Each page is built by a class of its own in its folder; the objects that pages share are handed to them here.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import gradio as gr
from starlette.middleware import Middleware
from starlette.routing import BaseRoute

from app.analyse.page import AnalysePage
from app.clip_store import ClipStore
from app.demo_store import COMMAND, NOTICE
from app.judge.access import Access, JudgingAccess, default_access
from app.judge.api import JudgeApi
from app.judge.endpoints import JudgeEndpoints
from app.judge.gallery import FOLDER, load_gallery
from app.judge.page import JudgePage
from app.judge.tools import ToolDoor
from app.label.page import LabelPage
from app.label_dataset import KeptLabels, keep_labels
from app.lead.page import LeadPage
from app.runs.supervisor import RunSupervisor
from app.serving.judge_servers import LOOK_SECONDS, JudgeServers, ServerServing
from app.serving.judging_queue import MOST_IN_ALL
from app.serving.serving import Served, Serving
from app.train.page import TrainPage
from app.ui.assets import STATIC, scripts_route, styles
from app.ui.closed_page import ClosedPage
from app.ui.header import ANALYSE, JUDGE, LABEL, LEAD, TRAIN, PagedBlocks, build_header, theme
from app.ui.plotly_script import plotly_route
from app.web.auth import Auth
from app.web.deployment import is_demo, public_url, render_in_browsers, trust_no_proxy_unasked
from app.web.housekeeping import Housekeeper
from app.web.light_sessions import MOST_SESSIONS, make_sessions_light
from app.web.plain_errors import refuse_plainly
from app.web.provider import provider_here
from app.web.security_headers import SecurityHeaders
from app.web.uploads import LARGEST_FILE, WAIT_SECONDS, UploadBounds, refuse_addresses, sweep
from descore.engines.engine import EngineName
from descore.video import warm_up
from storage import Database, StorageError, open_database
from storage.accounts.guests import end_guests
from storage.accounts.sessions import invite_first_lead
from storage.data_home import ensure_folder
from storage.demo_store import demo_state
from storage.labelling.sandbox import open_sandbox
from storage.pairs import add_pair
from storage.shares import forget_shares
from storage.uploads import delete_expired_uploads

UPLOADS = "uploads"  # in the data folder
DELETE_CACHE = (600, int(WAIT_SECONDS))  # how often, and how old, in seconds
# A request that waits for the database gives the interpreter away at each statement; by default it gets it back from a
# busy thread only after 5 ms. Labelling makes some 25 statements a request.
SWITCH_SECONDS = 0.0005
# In a demo, on the pages that it does not have.
NO_TRAINING = (
    "This is a demo: training is not available here. Run the app on a machine of your own to retrain the model on your "
    "labels; no GPU is needed."
)
NO_LEAD = (
    "This is a demo: nobody leads campaigns here, imports files or invites people. Run the app on a machine of your own to "
    "do so."
)


@dataclass(frozen=True)
class Studio:
    """One app: the checkpoint that answers, the store, the people, the training runs, the pages.

    Attributes:
        demo: visitors get a sandbox, and nobody leads.
    """

    serving: Serving
    supervisor: RunSupervisor
    database: Database
    kept_labels: KeptLabels
    clip_store: ClipStore
    auth: Auth
    endpoints: JudgeEndpoints
    blocks: gr.Blocks
    routes: tuple[BaseRoute, ...]
    middleware: tuple[Middleware, ...]
    housekeeper: Housekeeper
    server_watch: Housekeeper
    demo: bool

    @classmethod
    def open(
        cls,
        checkpoint: str | None = None,
        home: Path | None = None,
        gallery: Path = FOLDER,
        access: Access | None = None,
        servers: JudgeServers | None = None,
        engine: EngineName = "transformers",
    ) -> Studio:
        """Load the checkpoint, open the store, build the pages. The gallery's pairs are in the store from then on.

        Args:
            checkpoint: a folder, a Hub id or "bundled"; without one, the checkpoint that was promoted last serves again.
            access: who may judge, everybody ("open") or people with an account ("sign-in"); by default it follows from
                where the app runs, see `default_access`.
            servers: other machines that judge; their checkpoint answers, so none is named here.
            engine: who thinks on this machine; see `descore.judge.DeScore.from_pretrained`.

        Raises:
            descore.errors.CheckpointError: the checkpoint can't be used.
            StorageError: the store can't be opened.
            SettingError: an environment variable can't be used.
        """
        warm_up()
        kept_labels = keep_labels(open_database(home=home))
        database = kept_labels.database
        # A folder of our own, so that all in it can be swept; Gradio's usual one is shared by all its apps on a machine. It
        # looks the variable up at every request, so apps of one process share the folder of the first.
        uploads = ensure_folder(Path(os.environ.setdefault("GRADIO_TEMP_DIR", str(database.home / UPLOADS))))
        serving = Serving.open(database, checkpoint, engine) if servers is None else ServerServing(database, servers)
        demo = is_demo()
        clip_store, auth = ClipStore(database), Auth(database, provider_here(), guests=demo)
        bundled = load_gallery(clip_store, gallery)
        with database.write() as session:
            pair_ids = [add_pair(session, pair.a, pair.b, pair.prompt, source="bundled").id for pair in bundled]
        supervisor = RunSupervisor(database, serving)
        judging = JudgingAccess(auth, access or default_access(database))
        judge_api = JudgeApi(serving, database, clip_store, bundled, judging)
        judge, endpoints = JudgePage(judge_api), JudgeEndpoints(judge_api)
        train: TrainPage | ClosedPage = TrainPage(database, clip_store, serving, auth, supervisor)
        label = LabelPage(database, clip_store, serving, auth, guests=demo)
        lead: LeadPage | ClosedPage = LeadPage(database, clip_store, serving, auth)
        if demo:
            train, lead = ClosedPage(NO_TRAINING, tuple(train.routes())), ClosedPage(NO_LEAD, tuple(lead.routes()))
        analyse = AnalysePage(database, clip_store, serving, auth, supervisor)
        notice = demo_notice(database)
        blocks = PagedBlocks(title="DeScore", analytics_enabled=False, fill_width=True, delete_cache=DELETE_CACHE)
        with blocks:
            build_header(JUDGE, notice)
            judge.build(blocks)
            endpoints.connect()
        with blocks.route(LABEL.name, LABEL.path):
            build_header(LABEL, notice)
            label.build()
        with blocks.route(ANALYSE.name, ANALYSE.path):
            build_header(ANALYSE, notice)
            analyse.build(blocks)
        with blocks.route(TRAIN.name, TRAIN.path):
            build_header(TRAIN, notice)
            train.build(blocks)
        with blocks.route(LEAD.name, LEAD.path):
            build_header(LEAD, notice)
            lead.build(blocks)
        pages = (*label.routes(), *analyse.routes(), *train.routes(), *lead.routes())
        routes = (
            *clip_store.routes(auth.user),
            *auth.routes(),
            *serving.routes(partial(notices, kept_labels, serving)),
            *judge_api.shares.routes(),
            plotly_route(),
            scripts_route(),
            *pages,
        )
        refuse_addresses(blocks)
        middleware = (
            Middleware(UploadBounds, folder=uploads, who=judging.visitor, is_lead=auth.is_lead),
            Middleware(ToolDoor, blocks=blocks, endpoints=endpoints, auth=auth),
        )
        # Gradio deletes only what this process has taken, so what an earlier one left is swept, too.
        tasks: list[Callable[[], object]] = [
            partial(sweep, uploads, WAIT_SECONDS),
            partial(forget_shares, database),
            partial(delete_expired_uploads, database),
        ]
        if demo and pair_ids:
            keep_sandbox(database, pair_ids)
            tasks += [partial(keep_sandbox, database, pair_ids), partial(end_guests, database)]
        watch = Housekeeper([serving.look] if isinstance(serving, ServerServing) else [], LOOK_SECONDS)
        parts = (serving, supervisor, database, kept_labels, clip_store, auth, endpoints)
        return cls(*parts, blocks, routes, middleware, Housekeeper(tasks), watch, demo)

    @property
    def served(self) -> Served:
        """The checkpoint that answers now."""
        return self.serving.now

    def launch(
        self,
        host: str | None = None,
        port: int | None = None,
        prevent_thread_lock: bool = False,
        api_docs: bool = False,
        **options: Any,
    ) -> tuple[Any, str, str]:
        """Serve until interrupted; `options` go to `gr.Blocks.launch`, whose result is returned.

        Args:
            prevent_thread_lock: return at once and serve in the background.
            api_docs: leave FastAPI's own description of the addresses open, at /docs.
        """
        trust_no_proxy_unasked()
        render_in_browsers()
        sys.setswitchinterval(SWITCH_SECONDS)
        make_sessions_light()
        self.supervisor.start()
        self.housekeeper.start()
        self.server_watch.start()
        launched: tuple[Any, str, str] = self.blocks.launch(
            server_name=host,
            server_port=port,
            theme=theme(),
            css=styles(),
            favicon_path=STATIC / "favicon.svg",
            app_kwargs={
                "routes": list(self.routes),
                "middleware": [Middleware(SecurityHeaders, api_docs=api_docs), *self.middleware],
                "exception_handlers": {StorageError: refuse_plainly, Exception: refuse_plainly},
            },
            footer_links=[],
            run_history=False,
            ssr_mode=False,
            mcp_server=True,  # behind `ToolDoor`
            show_error=False,  # an error that is not for the person may name files; `plainly` lets the others through
            max_file_size=LARGEST_FILE,
            # A judgement that waits for its turn holds a thread; everything else needs some, too.
            max_threads=MOST_IN_ALL + 40,
            state_session_capacity=MOST_SESSIONS,
            prevent_thread_lock=True,
            **options,
        )
        link = self.first_lead_link(launched[1])
        if link is not None:
            print(f"* No lead yet. Become the first one here, once, within a day: {link}", flush=True)
            if demo_state(self.database.home) == "none":
                print(f"* To look around first, in a store with people and labels in it: {COMMAND}", flush=True)
        if not prevent_thread_lock:
            self.blocks.block_thread()
        return launched

    def close(self) -> None:
        """Stop serving and push the last labels. Training runs go on by themselves; the next app finds them."""
        self.supervisor.close()
        self.housekeeper.close()
        self.server_watch.close()
        self.blocks.close(verbose=False)
        self.kept_labels.close()
        self.database.close()

    def first_lead_link(self, local_url: str) -> str | None:
        """Make a one-time link for the first lead, for the console, which only the app's owner can read.

        Returns:
            The link; None if there is a lead already, and in a demo, where nobody leads.

        Args:
            local_url: the address that the server listens on.
        """
        if self.demo:
            return None
        with self.database.write() as session:
            token = invite_first_lead(session)
        return None if token is None else f"{public_url(local_url)}/invite/{token}"


def notices(kept_labels: KeptLabels, serving: Serving) -> str:
    """Return what the pages say to everybody: a demo store, labels that will not last, a judging server that is down."""
    texts = (
        demo_notice(kept_labels.database),
        kept_labels.notice(),
        serving.notice() if isinstance(serving, ServerServing) else "",
    )
    return " ".join(text for text in texts if text)


def demo_notice(database: Database) -> str:
    """Return what the pages of a demo store say; "" for any other store."""
    return NOTICE if demo_state(database.home) != "none" else ""


def keep_sandbox(database: Database, pair_ids: Sequence[int]) -> None:
    """Let there be an open sandbox over the bundled pairs."""
    with database.write() as session:
        open_sandbox(session, pair_ids)
