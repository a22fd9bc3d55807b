"""What the examples of `app` take as given."""

from __future__ import annotations

import json
import threading
import zipfile
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import plotly.graph_objects as go
from anyio import CapacityLimiter
from starlette.requests import Request
from starlette.routing import Route

from app.analyse.selection import AnalyseContext
from app.clip_store import ClipStore
from app.judge.access import JudgingAccess
from app.judge.gallery import FOLDER, BundledPair, load_gallery
from app.runs.places.places import Places
from app.runs.preflight import Preflights
from app.serving.judging_queue import Visitor
from app.serving.serving import Serving
from app.web.auth import COOKIE, Auth
from app.web.form_data import FormData
from descore.checkpoints.folder import folder_fingerprint
from storage.accounts.sessions import open_sign_in
from storage.judgements import Question, save_judgement
from storage.pairs import OWN_SOURCE, Video, add_pair, list_pairs
from storage.training.model_registry import get_checkpoint, kept_location, register_checkpoint
from tests.helpers.analysed import pair
from tests.helpers.example_world.base import ExampleWorld
from tests.helpers.stores import RECORD, make_pair
from tests.helpers.studios import running_studio
from tests.helpers.tiny import tiny_judge


class AppWorld(ExampleWorld):
    """Names in all of the app."""

    @cached_property
    def clip_store(self) -> ClipStore:
        return ClipStore(self.database)

    @cached_property
    def serving(self) -> Serving:
        return Serving.open(self.database, None)

    @cached_property
    def places(self) -> Places:
        return Places(self.database, self.serving)

    @cached_property
    def uploaded_path(self) -> Path:
        return self.here / "upload.mp4"

    @property
    def event(self) -> threading.Event:
        """Set by somebody who does not want to wait any longer."""
        return threading.Event()


class ServingWorld(AppWorld):
    """A second checkpoint, to be promoted."""

    @property
    def checkpoint_id(self) -> int:
        place = tiny_judge(thought_tokens=7).save_pretrained(self.home / "second")
        with self.database.write() as session:
            location, fingerprint = kept_location(place, self.home), folder_fingerprint(place)
            return register_checkpoint(session, name="second", location=location, fingerprint=fingerprint).id


class ImportWorld(AppWorld):
    """A table and its videos, also in one archive."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        with zipfile.ZipFile(self.here / "pairs.zip", "w") as archive:
            for name in ("pairs.csv", "a.mp4", "b.mp4"):
                archive.write(self.here / name, name)


class AnalyseWorld(AppWorld):
    """Judged pairs, files of scores, outcomes between generators."""

    names = ("kling", "sora", "veo")
    first, second = np.array([0, 0, 1, 1]), np.array([1, 2, 2, 0])
    outcomes = np.array([1.0, 1.0, 0.5, 0.0])
    figure = go.Figure(go.Bar(x=["v2"], y=[82]))

    @cached_property
    def pairs(self) -> Any:
        return [pair(number, ("A", "B")[number % 2], margin=number - 2.5) for number in range(6)]

    @cached_property
    def text(self) -> str:
        """Scores of another model, as its script writes them."""
        row = {"path_A": "a.mp4", "path_B": "b.mp4", "prompt": self.prompt, "reward_A": 3.1, "reward_B": 2.7}
        return json.dumps([row])

    @property
    def path(self) -> Path:  # type: ignore[override]
        file = self.here / "scores.json"
        file.write_text(self.text, "utf-8")
        return file

    @cached_property
    def context(self) -> AnalyseContext:
        return AnalyseContext(self.database, self.clip_store, self.serving, Auth(self.database))

    @property
    def sent(self) -> dict[str, Any]:
        return {"checkpoint": self.checkpoint.id, "scope": "source:genai-bench", "mode": "think"}


class MatchingWorld(AnalyseWorld):
    """Pairs of the store, whose scores are looked for in a file."""

    @cached_property
    def pairs(self) -> Any:
        with self.database.read() as session:
            return list_pairs(session, "winter models")


class JudgeWorld(AppWorld):
    """A served app with the bundled checkpoint and pairs."""

    @cached_property
    def address(self) -> str:
        return self.stack.enter_context(running_studio(self.folder, "bundled", FOLDER)).url


class RunsWorld(AppWorld):
    """The trainer is asked in the background; its answer is waited for before the store is closed."""

    @cached_property
    def database(self) -> Any:
        opened = super().database
        self.stack.callback(join_preflight)
        return opened

    @cached_property
    def preflights(self) -> Preflights:
        return Preflights(self.database)


class DecideWorld(AppWorld):
    """A candidate, and a form with a field that the act needs."""

    runs: Any = ()

    @property
    def candidate(self) -> Any:
        with self.database.read() as session:
            return get_checkpoint(session, self.form.id)

    @cached_property
    def form(self) -> FormData:
        place = tiny_judge(thought_tokens=7).save_pretrained(self.home / "second")
        with self.database.write() as session:
            location, fingerprint = kept_location(place, self.home), folder_fingerprint(place)
            second = register_checkpoint(session, name="second", location=location, fingerprint=fingerprint)
            new = make_pair(session, "new a", "new b", "a new prompt")
            assert new.id
        return FormData("decide_judge", str(second.id), {"pairs": "1"})


def join_preflight() -> None:
    """Wait until the trainer has answered."""
    for thread in threading.enumerate():
        if thread.name == "preflight":
            thread.join()


class WebWorld(AppWorld):
    """Requests of a person who is signed in."""

    Route = Route

    @cached_property
    def auth(self) -> Auth:
        return Auth(self.database)

    @cached_property
    def request(self) -> Request:
        with self.database.write() as session:
            token = open_sign_in(session, self.stock.lead).token
        headers = [(b"cookie", f"{COOKIE}={token}".encode()), (b"host", b"127.0.0.1")]
        return Request({"type": "http", "method": "POST", "path": "/", "query_string": b"", "headers": headers})

    @property
    def access(self) -> JudgingAccess:
        return JudgingAccess(self.auth, "open")

    @cached_property
    def threads(self) -> CapacityLimiter:
        return CapacityLimiter(4)

    @staticmethod
    def work(user: Any, fields: Any) -> dict[str, Any]:
        return {"hello": user.name, "fields": len(fields)}


class SharesWorld(WebWorld):
    """A pair of somebody's own videos, which was judged."""

    browser_id = "ab" * 16
    visitor = Visitor("a tab", "192.0.2.1")

    @cached_property
    def pair(self) -> Any:
        a, b = (self.clip_store.take_in(self.here / name) for name in ("a.mp4", "b.mp4"))
        with self.database.write() as session:
            own = add_pair(session, a, b, "A red circle of my own.", OWN_SOURCE)
            for video in own.videos:
                save_judgement(session, Question(video.id, own.prompt, self.serving.now.fingerprint, "think"), RECORD)
        return own


class JudgeApiWorld(WebWorld):
    """A question about the first bundled pair."""

    @cached_property
    def bundled(self) -> tuple[BundledPair, ...]:
        return load_gallery(self.clip_store)

    @property
    def a(self) -> Video:
        return self.bundled[0].a

    @property
    def b(self) -> Video:
        return self.bundled[0].b


WORLDS: dict[str, type[ExampleWorld]] = {
    "app": AppWorld,
    "app.analyse": AnalyseWorld,
    "app.judge.access": WebWorld,
    "app.analyse.score_matching": MatchingWorld,
    "app.importing": ImportWorld,
    "app.judge": JudgeWorld,
    "app.judge.api": JudgeApiWorld,
    "app.judge.shares": SharesWorld,
    "app.runs": RunsWorld,
    "app.train.page_state": RunsWorld,
    "app.serving.serving": ServingWorld,
    "app.train.decide": DecideWorld,
    "app.web": WebWorld,
}
