"""A run of the store in several processes by accelerate's launcher: the command line, and two of them on the CPU."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from storage.training.run_folder import RunLock, is_held, read_metrics, read_samples
from storage.training.runs import mark_running
from tests.helpers.paths import ROOT
from tests.helpers.store_world import World, make_world
from tests.helpers.tiny_runs import tiny_config
from tests.helpers.waiting import wait_until
from trainer.engine.loop import TrainingFailedError
from trainer.engine.stop_signals import StopSignals
from trainer.runs.device import choose_device
from trainer.runs.errors import RunRefusedError
from trainer.runs.processes import SETTINGS, launch_command, train_in_processes, useful_processes
from trainer.runs.store_run import run_from_store
from trainer.runs.tether import ORPHANED, TETHER, LaunchNotes, Refusal, Tether


def test_the_command_line_of_eight_gpus() -> None:
    command = launch_command(["cold-start", "dual-rl"], Path("/data/runs/7"), 8)
    assert command[:3] == [sys.executable, "-m", "accelerate.commands.launch"]
    assert command[3:] == [
        *("--config_file", str(SETTINGS), "--num_processes", "8", "--main_process_port", "0"),
        *("-m", "trainer", "run", "--out", "/data/runs/7"),
    ]
    assert launch_command(["dual-rl"], Path("x"), 2)[-3:] == ["dual-rl", "--out", "x"]
    assert launch_command(["cold-start"], Path("x"), 2)[-3:] == ["cold-start", "--out", "x"]
    with pytest.raises(RunRefusedError, match="in this order"):
        launch_command(["dual-rl", "cold-start"], Path("x"), 2)


def test_the_launcher_takes_this_command_line_for_a_run_on_many_gpus() -> None:
    """Accelerate's own parser reads it: several GPUs of one machine, the number that the command names, a free port."""
    from accelerate.commands.launch import _validate_launch_command, launch_command_parser

    arguments = launch_command(["cold-start", "dual-rl"], Path("runs/7"), 8)[3:]
    options, defaults, _ = _validate_launch_command(launch_command_parser().parse_args(arguments))
    assert (options.multi_gpu, options.num_processes, options.num_machines) == (True, 8, 1)
    assert (options.use_fsdp, options.use_deepspeed, options.cpu) == (False, False, False)
    assert (options.gpu_ids, options.main_process_port) == ("all", 0)
    assert (options.module, options.training_script) == (True, "trainer")
    assert options.training_script_args == ["run", "--out", "runs/7"]
    assert defaults is not None


def test_no_more_processes_are_started_than_a_step_has_pairs() -> None:
    config = tiny_config()
    assert [useful_processes(config, devices) for devices in (0, 1, 3, 8)] == [1, 1, 3, 4]
    without_rl = replace(config, dual_rl=replace(config.dual_rl, steps=0, pairs_per_step=1, micro_batch_pairs=1))
    assert useful_processes(without_rl, 8) == 4


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    monkeypatch.setenv("DESCORE_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.delenv("DATABASE_URL", raising=False)
    made = make_world(tmp_path / "home", pairs=24)
    made.label(24)
    yield made
    made.database.close()


@pytest.mark.slow
@pytest.mark.parametrize(("device", "visible"), [("cuda:0-3", "0,1,2,3"), ("cuda:2", "2"), ("slurm", "5"), ("cpu:0-1", "")])
def test_a_run_sees_its_devices_alone(world: World, monkeypatch: pytest.MonkeyPatch, device: str, visible: str) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "5")  # as SLURM sets it
    monkeypatch.setattr(os, "nice", lambda _more: 0)
    run = world.ask(device=device, place="slurm" if device == "slurm" else "here")
    choose_device(run.id)
    assert os.environ["CUDA_VISIBLE_DEVICES"] == visible


@pytest.mark.training
def test_two_processes_train_a_run_of_the_store(world: World) -> None:
    run = world.ask(device="cpu:0-1")
    assert run_from_store(run.id) == 0
    done = world.run(run.id)
    assert (done.state, done.exit_code, done.device) == ("finished", 0, "cpu:0-1"), done.message
    assert done.progress["stage"] == "gate"
    for stage, steps in (("cold-start", 3), ("dual-rl", 2)):
        assert [row["step"] for row in read_metrics(world.folder(run) / stage)] == list(range(steps))
        report = json.loads((world.folder(run) / stage / "report.json").read_text())
        assert report["status"] == "finished"
    # Two processes took part: each has its file of thoughts.
    assert {path.name for path in (world.folder(run) / "cold-start").glob("thoughts-*")} == {
        "thoughts-00000.jsonl",
        "thoughts-00001.jsonl",
    }
    moments = {(sample["stage"], sample["when"]) for sample in read_samples(world.folder(run))}
    assert moments == {(stage, when) for stage in ("cold-start", "dual-rl") for when in ("before", "after")}


@pytest.mark.training
@pytest.mark.endurance  # launched processes that load torch, twice
def test_a_run_in_two_processes_stops_after_a_step_and_goes_on(world: World) -> None:
    run = world.ask("cold_start.steps=400", device="cpu:0-1", stages=("cold-start",))
    folder = world.folder(run)
    process = subprocess.Popen([sys.executable, "-m", "trainer", "run", str(run.id)], cwd=ROOT, stderr=subprocess.DEVNULL)
    wait_until(lambda: len(read_metrics(folder / "cold-start")) > 1, "the second step")
    process.send_signal(signal.SIGTERM)
    assert process.wait() == 143
    assert not is_held(folder)
    ended = world.run(run.id)
    assert (ended.state, ended.exit_code) == ("cancelled", 143)
    steps = len(read_metrics(folder / "cold-start"))
    assert 1 < steps < 400
    assert (folder / "cold-start" / "LATEST").read_text() == f"step-{steps:06d}\n"
    assert json.loads((folder / "cold-start" / "report.json").read_text())["status"] == "stopped"


@pytest.mark.training
@pytest.mark.endurance  # launched processes that load torch
def test_what_launched_processes_refuse_is_the_callers_error(world: World) -> None:
    run = world.ask(device="cpu:0-1", stages=("dual-rl",))
    folder = world.folder(run)
    folder.mkdir(parents=True)
    (folder / "cold-start").mkdir()  # begun and not finished: stage 2 can't follow
    assert run_from_store(run.id) == 2
    failed = world.run(run.id)
    assert (failed.state, failed.exit_code) == ("failed", 2)
    assert "is not finished; finish it first" in failed.message


WATCHED = """
import sys, time
from trainer.engine.stop_signals import StopSignals
from trainer.runs.tether import Tether

with StopSignals() as stop, Tether.from_environment(stop):
    print("watching", flush=True)
    while not stop.received:
        time.sleep(0.05)
sys.exit(9)
"""


def watched(folder: Path) -> subprocess.Popen[str]:
    """Start a process that is tethered to whoever holds the lock of `folder`, and wait until it watches."""
    environment = {**os.environ, TETHER: str(folder)}
    process = subprocess.Popen([sys.executable, "-c", WATCHED], cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "watching\n"
    return process


@pytest.mark.slow
def test_a_tethered_process_stops_when_it_is_asked_and_ends_with_its_caller(tmp_path: Path) -> None:
    notes = LaunchNotes(tmp_path)
    with RunLock(tmp_path):
        process = watched(tmp_path)
        notes.ask_to_stop()
        assert process.wait() == 9
        notes.clear()
        process = watched(tmp_path)
    assert process.wait() == ORPHANED


def test_nothing_watches_a_process_that_nobody_launched(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(TETHER, raising=False)
    with StopSignals() as stop, Tether.from_environment(stop) as tether:
        assert tether.notes is None


def test_the_first_reason_counts(tmp_path: Path) -> None:
    notes = LaunchNotes(tmp_path)
    assert notes.refusal() is None
    notes.refuse(Refusal("the second rank hangs", failed=True))
    notes.refuse(Refusal("because of the first", failed=False))
    assert notes.refusal() == Refusal("the second rank hangs", failed=True)
    notes.clear()
    assert notes.refusal() is None


@pytest.mark.training
def test_a_process_that_dies_is_a_failed_training(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    run = world.ask(device="cpu:0-1", stages=("cold-start",))
    folder = world.folder(run)
    with world.database.write() as session:
        mark_running(session, run.id, os.getpid(), "here")
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text((ROOT / "trainer" / "presets" / "tiny-cpu.yaml").read_text())
    monkeypatch.setattr(
        "trainer.runs.processes.launch_command", lambda *_: [sys.executable, "-c", "import os; os.kill(os.getpid(), 9)"]
    )
    with RunLock(folder), StopSignals() as stop, pytest.raises(TrainingFailedError, match="a training process died"):
        train_in_processes(["cold-start"], folder, 2, stop, lambda _progress: None, world.home, cpu=True)
