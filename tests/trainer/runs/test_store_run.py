"""Runs of the store: from frozen labels to a registered checkpoint with its gate; killed, cancelled and resumed."""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from descore.checkpoints.folder import copy_checkpoint, folder_fingerprint, read_manifest
from storage import StorageError
from storage.schema import RunRow
from storage.training.model_registry import (
    get_checkpoint,
    kept_location,
    list_checkpoints,
    register_checkpoint,
    usable_location,
)
from storage.training.run_folder import RunLock, device_lock, is_held, read_metrics, read_samples
from storage.training.runs import Run, mark_running, request_cancel
from tests.helpers.paths import ROOT
from tests.helpers.store_world import World, make_world
from trainer.data.run_pairs import read_pairs
from trainer.evaluation.held_out import judge_pairs
from trainer.runs import store_run
from trainer.runs.progress import Schedule, SchedulePart
from trainer.runs.store_run import run_from_store

pytestmark = pytest.mark.training


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    monkeypatch.setenv("DESCORE_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("DATABASE_URL", raising=False)
    made = make_world(tmp_path / "home", pairs=30)
    made.label(24)
    yield made
    made.database.close()


# `python -m trainer run ID`, which stops itself (SIGSTOP) after the line of a step is in the log.
PAUSING = """
import os, signal, sys
from trainer.__main__ import main
from trainer.engine.metrics_log import RunLog

write = RunLog.write

def write_and_pause(self, step, figures):
    write(self, step, figures)
    if step == {step}:
        os.kill(os.getpid(), signal.SIGSTOP)

RunLog.write = write_and_pause
sys.exit(main(["run", "{run}"]))
"""


def start(run: Run, *command: str) -> subprocess.Popen[str]:
    """Start the command that the app starts, or another one."""
    arguments = command or ("-m", "trainer", "run", str(run.id))
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen([sys.executable, *arguments], cwd=ROOT, env=environment, stderr=subprocess.PIPE, text=True)


def start_and_pause(run: Run, step: int) -> subprocess.Popen[str]:
    """Start the command and wait until it has paused after a step."""
    process = start(run, "-c", PAUSING.format(step=step, run=run.id))
    _, status = os.waitpid(process.pid, os.WUNTRACED)
    assert os.WIFSTOPPED(status), process.stderr and process.stderr.read()
    return process


def test_labels_become_a_registered_checkpoint_with_its_gate(world: World, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    run = world.ask()
    world.label(4)  # these came later and are not in it
    assert run_from_store(run.id) == 0
    done = world.run(run.id)
    assert done.state == "finished"
    assert done.exit_code == 0
    assert done.candidate_id is not None
    with world.database.read() as session:
        made = get_checkpoint(session, done.candidate_id)
        assert len(list_checkpoints(session)) == 2
    assert (made.name, made.parent_id, made.run_id, made.stage) == ("week 12", world.base.id, run.id, "dual-rl")
    assert made.snapshot_hash == run.snapshot_hash
    assert made.location == f"./checkpoints/run-{run.id}"
    folder = Path(usable_location(made, world.home))
    manifest = read_manifest(folder)
    assert folder_fingerprint(folder) == made.fingerprint
    assert manifest.name == "week 12"
    assert manifest.lineage["run"] == run.id
    assert manifest.lineage["ancestry"]["stage"] == "cold-start"
    assert made.code_version == manifest.lineage["code"]
    assert made.disk_bytes > 10_000
    assert made.settings["dual_rl"]["steps"] == 2
    assert made.settings["data"]["held_out_share"] == 0.4

    gate = made.gate
    assert gate is not None
    assert gate["verdict"] == done.verdict
    assert gate["sentence"] == done.message
    assert gate["pairs"] == done.counts["held_out"] > 0
    assert gate["rival"]["checkpoint"] == "tiny"
    assert gate["candidate"]["seconds_per_pair"] > 0
    assert gate["benchmark"] is None
    assert json.loads((world.folder(run) / "gate.json").read_text()) == gate

    pairs = read_pairs(world.folder(run))
    assert pairs is not None
    assert len(pairs.train) == done.counts["new"]
    assert len(pairs.train) + len(pairs.held_out) == 24
    samples = read_samples(world.folder(run))
    assert [(one["stage"], one["when"]) for one in samples if one["pair_id"] == samples[0]["pair_id"]] == [
        ("cold-start", "before"), ("cold-start", "after"), ("dual-rl", "before"), ("dual-rl", "after")
    ]  # fmt: skip
    assert done.progress["stage"] == "gate"
    assert done.progress["done"] == done.progress["total"] == 2 * gate["pairs"]
    assert done.progress["seconds_left"] == 0
    assert not list(world.folder(run).glob("*/checkpoints"))
    assert gate["sentence"] in (world.folder(run) / "log.txt").read_text()
    with pytest.raises(StorageError, match="is finished"):
        run_from_store(run.id)


def test_a_killed_run_goes_on_where_it_was(world: World) -> None:
    run = world.ask("cold_start.steps=12", stages=("cold-start",))
    folder = world.folder(run)
    process = start_and_pause(run, step=2)
    assert is_held(folder)
    assert world.run(run.id).state == "running"
    process.kill()
    process.wait()
    assert len(read_metrics(folder / "cold-start")) == 3
    assert not is_held(folder)
    assert world.run(run.id).state == "running"
    before = (folder / "data.jsonl").read_bytes()
    world.label(3)
    assert run_from_store(run.id) == 0
    rows = read_metrics(folder / "cold-start")
    assert [row["step"] for row in rows] == list(range(12))
    assert (folder / "data.jsonl").read_bytes() == before
    assert world.run(run.id).state == "finished"


def test_a_run_is_cancelled_by_signal_and_resumed(world: World) -> None:
    run = world.ask("cold_start.steps=14", stages=("cold-start",))
    folder = world.folder(run)
    process = start_and_pause(run, step=1)
    process.send_signal(signal.SIGTERM)
    process.send_signal(signal.SIGCONT)
    assert process.wait() == 143
    ended = world.run(run.id)
    assert (ended.state, ended.exit_code) == ("cancelled", 143)
    assert "resumed" in ended.message
    steps = len(read_metrics(folder / "cold-start"))
    assert (folder / "cold-start" / "LATEST").read_text() == f"step-{steps:06d}\n"
    assert ended.progress["stage"] == "cold-start"
    assert 0 < ended.progress["step"] <= steps
    assert ended.progress["steps"] == 14
    assert ended.progress["seconds_left"] > 0
    assert run_from_store(run.id) == 0
    assert len(read_metrics(folder / "cold-start")) == 14
    assert world.run(run.id).exit_code == 0


def test_a_run_is_cancelled_in_the_gate_and_its_judgements_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world = make_world(tmp_path / "home", pairs=24, metrics={"test": {"accuracy_without_ties": 0.5}})
    world.label(24)
    run = world.ask(stages=("cold-start",), benchmark_pairs=3)
    judged: list[int] = []

    def judge_once(model: object, reader: object, pairs: list[object], *rest: object, **options: object) -> object:
        judged.append(len(pairs))
        os.kill(os.getpid(), signal.SIGTERM)
        return judge_pairs(model, reader, pairs, *rest, **options)  # type: ignore[arg-type]

    with monkeypatch.context() as stopping:
        stopping.setattr("trainer.evaluation.gate_judging.judge_pairs", judge_once)
        assert run_from_store(run.id, world.home) == 143
    assert world.run(run.id).state == "cancelled"
    assert world.run(run.id).progress["stage"] == "gate"
    [kept] = (world.folder(run) / "gate").glob("*.jsonl")
    assert len(kept.read_text().splitlines()) == judged[0] < run.counts["held_out"]
    first = kept.read_text()
    with kept.open("a") as file:
        file.write('{"identity": "cut of')
    assert run_from_store(run.id, world.home) == 0
    assert kept.read_text().startswith(first)
    assert len(kept.read_text().splitlines()) == run.counts["held_out"]
    candidate = world.run(run.id).candidate_id
    assert candidate is not None
    with world.database.read() as session:
        gate = get_checkpoint(session, candidate).gate
    assert gate is not None
    assert gate["benchmark"]["name"] == "ShapeWorld's test split"
    assert gate["benchmark"]["pairs"] == 3
    # The figures and clips of the benchmark are there for the next run.
    cache = world.home / "training-cache"
    assert len(list((cache / "benchmarks").glob("*.json"))) == 2
    assert len(list((cache / "shapes-test").glob("*.mp4"))) == 6
    world.database.close()


def test_a_wish_in_the_store_ends_a_run_that_no_signal_reaches(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    run = world.ask(stages=("cold-start",))
    with world.database.write() as session:
        mark_running(session, run.id, 1, "elsewhere")
        request_cancel(session, run.id)
    monkeypatch.setattr("trainer.runs.progress.SECONDS", 0.01)
    assert run_from_store(run.id) == 143
    assert world.run(run.id).state == "cancelled"
    # Who resumes it takes the wish back.
    assert run_from_store(run.id) == 0
    assert world.run(run.id).state == "finished"


@pytest.mark.parametrize("place", ["compete", "register"])
def test_a_run_that_dies_after_training_is_entered_once(place: str, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    run = world.ask(stages=("cold-start",))

    def die(*_: object) -> None:
        raise RuntimeError("power cut")

    with monkeypatch.context() as broken:
        broken.setattr(store_run, place, die)
        assert run_from_store(run.id) == 1
    failed = world.run(run.id)
    assert failed.state == "failed"
    assert "power cut" in failed.message
    metrics = (world.folder(run) / "cold-start" / "metrics.jsonl").stat().st_mtime_ns
    judged = {path: path.stat().st_size for path in (world.folder(run) / "gate").glob("*.jsonl")}
    assert len(judged) == (2 if place == "register" else 0)
    assert run_from_store(run.id) == 0
    assert (world.folder(run) / "cold-start" / "metrics.jsonl").stat().st_mtime_ns == metrics
    assert all(path.stat().st_size == size for path, size in judged.items())
    with world.database.read() as session:
        assert [one.run_id for one in list_checkpoints(session)] == [None, run.id]


def test_two_processes_on_one_run_or_one_device(world: World) -> None:
    run, other = world.ask(stages=("cold-start",)), world.ask(stages=("cold-start",))
    with RunLock(world.folder(run)):
        process = start(run)
        _, said = process.communicate()
        assert process.returncode == 2
        [line] = [line for line in said.splitlines() if line.startswith(f"run {run.id}: ")]
        assert "is in use by process" in line
    with device_lock(world.home, "cpu", run.id), pytest.raises(StorageError, match="the device cpu is in use"):
        run_from_store(other.id)
    assert world.run(run.id).state == world.run(other.id).state == "queued"


def test_what_can_not_be_trained_is_said_in_the_row(world: World) -> None:
    for overrides, said in (
        (("data.csv=/etc/passwd",), "come from its row"),
        (("cold_start.stepz=3",), "stepz"),
        (("model.checkpoint=elsewhere",), "come from its row"),
    ):
        run = world.ask(*overrides, stages=("cold-start",))
        assert run_from_store(run.id) == 2
        failed = world.run(run.id)
        assert failed.state == "failed"
        assert said in failed.message
    run = world.ask(stages=("cold-start",))
    (world.home / "base" / "descore.json").write_text("{}")
    assert run_from_store(run.id) == 2
    assert "have changed since" in world.run(run.id).message


def test_a_rival_that_can_not_be_used_is_told_before_any_training(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    place = copy_checkpoint(world.home / "base", world.home / "rival", "rival", {})
    with world.database.write() as session:
        rival = register_checkpoint(
            session, name="rival", location=kept_location(place, world.home), fingerprint=folder_fingerprint(place)
        )
    run = world.ask(stages=("cold-start",))
    with world.database.write() as session:
        session.get_one(RunRow, run.id).rival_id = rival.id
    (place / "descore.json").write_text("{}")
    monkeypatch.setattr(store_run, "train_stages", lambda *_: pytest.fail("it trained"))
    assert run_from_store(run.id) == 2
    said = world.run(run.id).message
    assert "nothing to compare the result with: the files of the checkpoint rival have changed since" in said


@pytest.mark.usefixtures("world")
def test_unknown_runs_are_refused() -> None:
    with pytest.raises(StorageError, match="no run 99"):
        run_from_store(99)


def test_the_time_left_is_told_once_all_speeds_are_known() -> None:
    parts = [
        SchedulePart("a", "before", "judging", 10),
        SchedulePart("a", "training", "steps", 5),
        SchedulePart("gate", "gate", "judging", 20),
    ]
    schedule = Schedule(parts, now=0.0)
    schedule.note("a", "before", 5, 10, now=5.0)
    schedule.note("a", "before", 10, 10, now=10.0)
    assert schedule.progress()["seconds_left"] is None  # nobody knows what a step takes
    schedule.note("a", "training", 1, 5, now=12.0)
    assert schedule.progress()["seconds_left"] == pytest.approx(4 * 2 + 20 * 1)
    schedule.note("a", "training", 3, 5, now=20.0)
    assert schedule.progress() | {"seconds_left": None} == {
        "stage": "a", "part": "training", "step": 3, "steps": 5, "done": 3, "total": 5, "seconds_left": None
    }  # fmt: skip
    assert schedule.progress()["seconds_left"] == pytest.approx(2 * 4 + 20)
    thinking = Schedule([SchedulePart("a", "thoughts", "thoughts", 4), SchedulePart("a", "before", "judging", 10)], now=0.0)
    thinking.note("a", "thoughts", 2, 4, now=6.0)
    assert thinking.progress()["seconds_left"] == pytest.approx(2 * 3 + 10 * 3)
    resumed = Schedule([SchedulePart("a", "training", "steps", 100, rate=3.0)], now=0.0)
    resumed.note("a", "training", 91, 100, now=50.0)
    assert resumed.progress()["seconds_left"] == pytest.approx(9 * 3)
