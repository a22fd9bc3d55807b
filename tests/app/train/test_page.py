"""The Train page's endpoints against a real app with the bundled checkpoint, and real runs of its preset."""

from __future__ import annotations

import json
import os
import re
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from app.judge.gallery import FOLDER
from app.studio import Studio
from storage.labelling.assignments import Assignment
from storage.labelling.next_assignment import next_assignment
from storage.training.model_registry import list_checkpoints
from storage.training.runs import Run, get_run
from tests.helpers.accounts import person, signed_in_client, signed_in_program
from tests.helpers.rounds import label_round, no_run_left, open_round
from tests.helpers.studios import Running, running_studio
from tests.helpers.waiting import wait_until

pytestmark = pytest.mark.training

PATIENCE = 900.0  # machines are shared
FORM = {
    "act": "retrain",
    "stages": "cold-start",
    "start": "current",
    "preset": "tiny-cpu",
    "knob-cold_start.steps": "2",
    "replay_share": "50",
    "min_labels": "1",
    "benchmark_pairs": "0",
}
DECIDE = ("decide_judge", "decide_open", "decide_add")
ACTS = ("retrain", "cancel", "end", "resume", "bring_back", "promote", "roll_back", "delete", "note", *DECIDE)


class Page:
    """The Train page of one person's browser."""

    def __init__(self, running: Running, client: httpx.Client) -> None:
        self.running, self.client = running, client
        self.has: dict[str, str] = {}
        self.parts: dict[str, str] = {}
        self.figures: dict[str, Any] = {}

    def fetch(self, run: int | str = "") -> dict[str, Any]:
        """Ask for what has changed."""
        have = ",".join(f"{name}:{version}" for name, version in self.has.items())
        answer = self.client.get("/api/train/state", params={"run": run, "have": have}, timeout=60)
        answer.raise_for_status()
        state: dict[str, Any] = answer.json()
        for name, part in state["parts"].items():
            self.parts[name], self.has[name] = part["html"], part["version"]
        if "figures" in state:
            self.figures, self.has["figures"] = state["figures"]["of"], state["figures"]["version"]
        return state

    def act(self, act: str, key: object = "", **fields: str) -> dict[str, Any]:
        """Press a button."""
        answer = self.client.post("/api/train/act", json={**fields, "act": act, "id": str(key)}, timeout=120)
        answer.raise_for_status()
        return dict(answer.json())

    def retrain(self, **fields: str) -> int:
        """Send the form; the number of the run."""
        reply = self.act(**{**FORM, **fields})
        assert not reply["bad"], reply
        return int(reply["run"])

    def until(self, seen: Callable[[], bool], run: int | str = "", what: str = "") -> None:
        """Fetch the page's state again and again until something shows."""

        def seen_now() -> bool:
            self.fetch(run)
            return seen()

        wait_until(seen_now, what or "what the page waits for", PATIENCE)


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """An app with the bundled checkpoint and twelve labelled pairs."""
    with running_studio(tmp_path_factory.mktemp("train"), "bundled", FOLDER) as app, no_run_left(app):
        label_round(app, open_round(app))
        yield app


@pytest.fixture(scope="module")
def page(app: Running) -> Page:
    return Page(app, signed_in_client(app, "Mira", "lead"))


def run_of(app: Running, run_id: int) -> Run:
    with app.studio.database.read() as session:
        return get_run(session, run_id)


def judged_by(app: Running, pair: str = "pair-01") -> str:
    """The name of the checkpoint that answers a lead, by its own answer; the pair is out for blind labelling."""
    lead = signed_in_program(app, "Mira", "lead")
    return str(lead.predict(pair, "quick", 8, api_name="/judge_bundled")["checkpoint"])


# ---- who may -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("role", ["nobody", "annotator", "viewer"])
def test_only_leads_act_and_only_leads_and_viewers_look(app: Running, role: str) -> None:
    client = httpx.Client(base_url=app.url) if role == "nobody" else signed_in_client(app, f"some {role}", role)  # type: ignore[arg-type]
    refused = 401 if role == "nobody" else 403
    for act in ACTS:
        assert client.post("/api/train/act", json={**FORM, "act": act, "id": "1", "role": "lead"}).status_code == refused
    for path in ("plan", "form"):
        assert client.post(f"/api/train/{path}", json=FORM).status_code == refused
    compared = client.get("/api/train/compare", params={"runs": "1,2"})
    assert compared.status_code == (200 if role == "viewer" else refused)
    looked = client.get("/api/train/state")
    assert looked.status_code == (200 if role == "viewer" else refused)
    if role == "viewer":
        assert "data-act" not in looked.text
        assert "form" not in looked.json()["parts"]
        assert "pairs with a consensus" in looked.text
    else:
        assert "Ada" not in looked.text
        assert app.studio.served.name not in looked.text


def test_a_form_of_another_site_is_refused(app: Running) -> None:
    client = signed_in_client(app, "Mira", "lead")
    assert client.post("/api/train/act", data={"act": "retrain"}).status_code == 415
    headers = {"Origin": "https://evil.example", "Sec-Fetch-Site": "cross-site"}
    assert client.post("/api/train/act", json=FORM, headers=headers).status_code == 403


# ---- looking -------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("app")
def test_what_a_browser_has_is_not_sent_again(page: Page) -> None:
    page.fetch()
    again = page.fetch()
    assert set(again["parts"]) <= {"form", "hardware"}
    assert "figures" not in again
    assert "36" in page.parts["news"]
    assert "alpha" in page.parts["news"]


def test_the_page_itself_says_nothing(app: Running) -> None:
    text = httpx.get(f"{app.url}/train").text
    assert "Ada" not in text
    assert "pairs with a consensus" not in text


def test_plotlys_script_comes_from_the_app_itself(app: Running) -> None:
    (address,) = set(re.findall(r"plotly-[\d.]+\.js", httpx.get(f"{app.url}/train").text))
    got = httpx.get(f"{app.url}/{address}")
    assert got.status_code == 200
    assert "immutable" in got.headers["cache-control"]
    assert len(got.content) > 1e6


@pytest.mark.usefixtures("app")
def test_form_and_plan_follow_what_this_machine_can_do(page: Page) -> None:
    page.until(lambda: "<form" in page.parts["form"], what="the offer")
    assert "tiny-cpu" in page.parts["form"]
    assert "qwen3-vl-8b-1gpu (" in page.parts["form"]

    def plan(**fields: str) -> str:
        return str(page.client.post("/api/train/plan", json={**FORM, **fields}).json()["plan"])

    shown = plan()
    assert "8 new, 0 replayed; 4 held out" in shown
    assert "python -m trainer cold-start" in shown
    assert "--set cold_start.steps=2" in shown
    assert "--set cold_start.steps=3" in plan(**{"knob-cold_start.steps": "3"})
    assert "trainer run" not in shown.replace("python -m trainer cold-start", ""), (
        "the number of a run is known once it is queued"
    )
    assert "whole number" in plan(**{"knob-cold_start.steps": "2.5"})
    assert "Cold start, learning rate" in plan(**{"knob-cold_start.optim.lr": "much"})
    groups = "dual_rl.objective.groups_without_spread"
    both = {"stages": "cold-start,dual-rl"}
    assert f"{groups}=leave_out" in plan(**both, **{f"knob-{groups}": "leave_out"})
    assert groups not in plan(**both, **{f"knob-{groups}": "keep"}), "as the preset has it"
    assert "Choose one of the answers" in plan(**both, **{f"knob-{groups}": "burn"})
    assert "can run here" in plan(preset="qwen3-vl-8b-1gpu")
    assert "can run here" in plan(preset="../../etc/passwd")
    assert "replay" in plan(replay_share="95") or "between 0 and 0.9" in plan(replay_share="95")
    reply = page.act(**{**FORM, "stages": "everything"})
    assert reply["bad"]
    assert "what to train" in reply["said"]


# ---- a whole run ---------------------------------------------------------------------------------------------------


@pytest.mark.endurance  # tests/browser/test_loop_in_browser.py goes the same way before each push
def test_retrain_prove_promote_judge_and_roll_back(app: Running, page: Page) -> None:
    page.until(lambda: "<form" in page.parts["form"], what="the offer")
    before = app.studio.served.name
    number = page.retrain(name="week 12")
    waiting = page.retrain(name="after it")
    page.until(lambda: "1st in the queue" in page.parts["runs"], number, "the queue")
    page.until(lambda: run_of(app, number).state == "running" and bool(page.figures), number, "the first step")
    # Labelling and judging go on meanwhile.
    assert judged_by(app) == before
    extra, ada = open_round(app, "Second round"), person(app, "Ada")
    with app.studio.database.write() as session:
        assert isinstance(next_assignment(session, extra.id, ada.id), Assignment)
    page.act("cancel", waiting)
    page.until(lambda: "held-out pairs" in page.parts["verdict"], number, "the verdict")
    assert run_of(app, number).state == "finished"
    assert page.figures["loss"]["data"]
    assert len(page.figures["loss"]["data"][0]["x"]) == 2
    assert "4 held-out pairs" in page.parts["verdict"]
    assert "before cold start" in page.parts["samples"]
    assert "after cold start" in page.parts["samples"]
    made = run_of(app, number).candidate_id
    assert made is not None
    assert f'data-act="promote" data-id="{made}"' in page.parts["run"]

    reply = page.act("promote", made)
    assert not reply["bad"]
    assert "week 12 serves" in reply["said"]
    assert httpx.get(f"{app.url}/serving").json()["name"] == "week 12" == judged_by(app)
    page.fetch(number)
    assert "New since week 12" in page.parts["news"]
    assert "No label is newer" in page.parts["news"]
    assert page.act("delete", made)["bad"]
    assert page.act("promote", made)["bad"]

    with app.studio.database.read() as session:
        base, new = list_checkpoints(session)[:2]
    folder = app.studio.database.home / new.location
    assert folder.is_dir()
    assert new.parent_id == base.id
    assert new.snapshot_hash
    assert not page.act("roll_back", base.id)["bad"]
    assert judged_by(app) == before == httpx.get(f"{app.url}/serving").json()["name"]
    assert "rolled back by Mira" in (page.fetch(number), page.parts["checkpoints"])[1]
    assert page.act("delete", base.id)["bad"]
    reply = page.act("delete", new.id)
    assert not reply["bad"]
    assert not folder.exists()


@pytest.mark.endurance
def test_killed_cancelled_resumed_and_found_by_a_restarted_app(app: Running, page: Page) -> None:
    page.until(lambda: "<form" in page.parts["form"], what="the offer")
    number = page.retrain(name="long", **{"knob-cold_start.steps": "300"})

    def going() -> bool:
        run = run_of(app, number)
        return run.state == "running" and run.progress.get("part") == "training" and run.progress.get("done", 0) >= 1

    page.until(going, number, "training")
    pid = run_of(app, number).pid
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    page.until(lambda: "process lost" in page.parts["runs"], number, "the loss")
    assert run_of(app, number).state == "lost"
    assert 'data-act="resume"' in page.parts["run"]

    assert page.act("resume", number)["run"] == number
    page.until(lambda: run_of(app, number).state == "running" and run_of(app, number).pid not in (pid, os.getpid()), number)
    pid = run_of(app, number).pid

    # The app is closed and another one opened on the same store, while the run goes on.
    app.studio.supervisor.close()
    second = Studio.open(None, home=Path(app.studio.database.home), gallery=FOLDER)
    _, url, _ = second.launch(prevent_thread_lock=True, quiet=True)
    try:
        other = Page(app, httpx.Client(base_url=url.rstrip("/"), cookies=page.client.cookies))
        other.until(lambda: f"run {number}" in other.parts["run"], what="the run")
        other.until(going, number, "training")
        assert run_of(app, number).pid == pid
        assert not other.act("cancel", number)["bad"]
        other.until(lambda: 'data-act="resume"' in other.parts["run"], number, "the end")
        assert (run_of(app, number).state, run_of(app, number).exit_code) == ("cancelled", 143)
    finally:
        second.close()
        app.studio.supervisor.start()
    steps = [
        json.loads(line)["step"] for line in (app.studio.database.home / f"runs/{number}/cold-start/metrics.jsonl").open()
    ]
    assert steps == list(range(len(steps))), "no step is lost or doubled"
