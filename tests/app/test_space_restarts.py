"""The app as a Space runs it: three restarts, each with an empty disk, one of them after a SIGKILL amid labelling."""

from __future__ import annotations

import shutil
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from huggingface_hub import HfApi
from sqlalchemy import select

from app.clip_store import ClipStore
from app.judge.gallery import load_gallery
from app.label_dataset import keep_labels
from app.web.auth import COOKIE
from benchmarks.helpers.running_app import RunningApp
from storage import Database, open_database
from storage.accounts.users import add_user
from storage.campaigns.campaign import CampaignConfig, create_campaign
from storage.campaigns.guidelines import DEFAULT_GUIDELINES
from storage.maintenance.integrity import check_store
from storage.pairs import add_pair
from storage.schema import LabelRow
from tests.helpers.hub_server import TOKEN, Hub, hub_server
from tests.helpers.waiting import wait_until

pytestmark = pytest.mark.endurance
NAME = "our-lab/labels"
PASSWORD = "four words of nonsense"
PEOPLE = ("Anna", "Ben", "Chloe")
PAIRS = 60


class Labelling:
    """Annotators who label as fast as they can until the app is gone; what was acknowledged to whom."""

    def __init__(self, url: str, campaign_id: int) -> None:
        self.acknowledged: list[str] = []
        self._url, self._campaign = url, campaign_id
        clients = {name: self._signed_in(name) for name in PEOPLE}
        self._threads = [threading.Thread(target=self._label, args=item, daemon=True) for item in clients.items()]
        self._enough = threading.Event()
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        self._enough.set()
        for thread in self._threads:
            thread.join()

    def _signed_in(self, name: str) -> httpx.Client:
        client = httpx.Client(base_url=self._url, timeout=60)
        answer = client.post("/sign-in", data={"name": name, "password": PASSWORD})
        assert answer.status_code == 303, answer.text
        client.cookies = httpx.Cookies({COOKIE: answer.cookies[COOKIE]})
        return client

    def _label(self, name: str, client: httpx.Client) -> None:
        with closing(client):
            try:
                turn = self._post(client, "next", {"campaign": self._campaign})["turn"]
                while turn is not None and not self._enough.is_set():
                    submission = f"{name} {time.monotonic_ns()}"
                    said = {"action": "label", "choice": "left", "strength": "clearly", "seconds": 1.0}
                    answer = self._post(client, "submit", {"turn": turn["turn"], "submission": submission, "answer": said})
                    self.acknowledged.append(submission)
                    turn = answer["turn"]
            except httpx.TransportError:
                return  # the app was killed

    def _post(self, client: httpx.Client, address: str, fields: dict[str, Any]) -> dict[str, Any]:
        answer = client.post(f"/api/label/{address}", json=fields)
        assert answer.status_code == 200, answer.text
        return answer.json()


def set_up(hub: Hub, home: Path) -> int:
    """The first start: people with passwords and a campaign; returns the campaign's id."""
    with restored(hub, home) as store:
        bundled = load_gallery(ClipStore(store))
        with store.write() as session:
            ids = [
                add_pair(session, pair.a, pair.b, f"{pair.prompt} {number}", source="test").id
                for number in range(PAIRS // len(bundled))
                for pair in bundled
            ]
            for name in PEOPLE:
                add_user(session, name, "annotator", PASSWORD)
            settings = CampaignConfig("spring", dimensions=(), overlap=3, gold_share=0.0, repeat_share=0.0)
            return create_campaign(session, settings, ids, DEFAULT_GUIDELINES, created_by=None).id


@contextmanager
def restored(hub: Hub, home: Path) -> Iterator[Database]:
    """The store in an empty folder with what the dataset holds."""
    api = HfApi(endpoint=hub.url, token=TOKEN)
    with closing(open_database(home=home)) as database, closing(keep_labels(database, api)) as kept:
        yield kept.database


def labels_of(database: Database) -> Counter[str]:
    with database.read() as session:
        return Counter(session.scalars(select(LabelRow.token)))


def test_every_acknowledged_label_is_there_once_after_three_restarts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DESCORE_DATASET", NAME)
    with hub_server() as hub:
        campaign_id = set_up(hub, tmp_path / "home 0")
        for name, value in hub.environment(tmp_path / "cache").items():
            monkeypatch.setenv(name, value)
        acknowledged: list[str] = []
        for start in (1, 2, 3):
            home = tmp_path / f"home {start}"
            if start == 3:
                # The disk of a Space is gone with its process: what was not pushed is lost, and all before is there.
                with restored(hub, tmp_path / "of a Space") as store:
                    pushed = labels_of(store)
                assert pushed == Counter(acknowledged[: len(pushed)])
                assert len(pushed) < len(acknowledged)
                # Where the disk outlives the process, its journal does too.
                shutil.copytree(tmp_path / "home 2" / "dataset", home / "dataset")
            with RunningApp(home, None, tmp_path / f"log {start}") as app:
                labelling = Labelling(app.url, campaign_id)
                wait_until(lambda labelling=labelling: len(labelling.acknowledged) >= 20, "twenty labels")  # type: ignore[misc]
                if start == 2:
                    app.kill()
                    labelling.stop()
                else:
                    labelling.stop()
                    app.terminate()
                acknowledged += labelling.acknowledged
            log = (tmp_path / f"log {start}").read_text("utf-8")
            assert "Traceback" not in log, log
        with restored(hub, tmp_path / "home 4") as store:
            stored = labels_of(store)
            assert set(acknowledged) <= set(stored), "an acknowledged label is missing"
            assert set(stored.values()) == {1}
            assert len(stored) - len(acknowledged) <= len(PEOPLE), "beyond those, at most what was on its way at the kill"
            assert check_store(store, videos=True) == ()
