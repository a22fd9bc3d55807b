"""Checkpoints of a run: whole or not there, verified when read, damaged ones passed over."""

from __future__ import annotations

import itertools
import json
import logging
import os
import random
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from accelerate.tracking import GeneralTracker

from tests.helpers.paths import ROOT
from tests.helpers.tiny_runs import OPTIM, tiny_config, tiny_model, tiny_pairs, tiny_run
from trainer.engine.checkpoints import MANIFEST, RunCheckpoint, RunCheckpoints, damage
from trainer.engine.metrics_log import RunLog, read_metrics
from trainer.engine.optim import build_optimizers
from trainer.engine.train_state import Progress, load_state, random_states, save_state

if TYPE_CHECKING:
    from collections.abc import Callable

    from trainer.config import TrainConfig
    from trainer.data.pairs import TrainingPair


def write(text: str):
    def files(folder: Path) -> None:
        (folder / "weights").write_text(text)
        (folder / "sharded").mkdir()
        (folder / "sharded" / "one").write_text(text)

    return files


def test_the_newest_is_found_and_only_some_are_kept(tmp_path: Path) -> None:
    checkpoints = RunCheckpoints(tmp_path, keep=2)
    assert checkpoints.newest() is None
    for step in (9, 10, 1_000_000):
        checkpoints.save(step, write(f"at {step}"))
    newest = RunCheckpoints(tmp_path, keep=2).newest()
    assert newest is not None
    assert newest.step == 1_000_000
    assert (newest.folder / "weights").read_text() == "at 1000000"
    assert (tmp_path / "LATEST").read_text() == f"{newest.folder.name}\n"
    assert sorted(path.name for path in (tmp_path / "checkpoints").iterdir()) == ["step-000010", "step-1000000"]


@pytest.mark.parametrize("harm", ["changed", "missing", "shorter", "no manifest", "torn manifest", "foreign manifest"])
def test_a_damaged_one_is_passed_over(harm: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    checkpoints = RunCheckpoints(tmp_path, keep=3)
    checkpoints.save(1, write("good"))
    newest = checkpoints.save(2, write("better")).folder
    file, manifest = newest / "sharded" / "one", newest / MANIFEST
    if harm == "changed":
        file.write_text("betteR")
    elif harm == "missing":
        file.unlink()
    elif harm == "shorter":
        file.write_text("bet")
    elif harm == "no manifest":
        manifest.unlink()
    else:
        manifest.write_text('{"files": {"weigh' if harm == "torn manifest" else "[1]")
    assert damage(newest) is not None
    with caplog.at_level(logging.WARNING):
        found = checkpoints.newest()
    assert found is not None
    assert found.step == 1
    assert "step-000002 is damaged" in caplog.text
    # The run goes on behind it and comes past the same step again.
    again = checkpoints.save(2, write("best"))
    assert checkpoints.newest() == again
    assert (again.folder / "weights").read_text() == "best"


@pytest.mark.parametrize("keep", [1, 2])
def test_what_the_run_went_back_behind_takes_no_place_of_a_good_one(keep: int, tmp_path: Path) -> None:
    checkpoints = RunCheckpoints(tmp_path, keep)
    (checkpoints.save(200, write("damaged")).folder / "weights").unlink()
    assert checkpoints.newest() is None
    for step in (50, 100):
        saved = checkpoints.save(step, write("good"))
        assert checkpoints.newest() == saved
    assert len(list((tmp_path / "checkpoints").iterdir())) == keep


def test_a_writer_that_fails_leaves_the_last_one(tmp_path: Path) -> None:
    checkpoints = RunCheckpoints(tmp_path, keep=1)
    checkpoints.save(1, write("good"))

    def fails(folder: Path) -> None:
        (folder / "weights").write_text("half")
        raise OSError("the disk answers no more")

    with pytest.raises(OSError, match="answers no more"):
        checkpoints.save(2, fails)
    found = checkpoints.newest()
    assert found is not None
    assert found.step == 1
    checkpoints.save(3, write("good"))
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["step-000003"]  # what was left is tidied up


def test_state_comes_back_exactly(tmp_path: Path) -> None:
    accelerator, (one, other) = Accelerator(cpu=True), (tiny_model(), tiny_model())
    optimizers = [build_optimizers(model, OPTIM) for model in (one, other)]
    for parameter in one.parameters():
        parameter.grad = torch.randn_like(parameter)
    optimizers[0][0].step()
    save_state(tmp_path, accelerator, one, optimizers[0], Progress(7, 2, 1), random_states())
    drawn = random.random(), np.random.random(), torch.rand(1).item()
    assert load_state(tmp_path, accelerator, other, optimizers[1]) == Progress(7, 2, 1)
    assert (random.random(), np.random.random(), torch.rand(1).item()) == drawn
    for a, b in zip(one.parameters(), other.parameters(), strict=True):
        assert torch.equal(a, b)
        b.grad = a.grad
    for optimizer in (*optimizers[0], *optimizers[1]):
        optimizer.step()
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))


def test_weights_of_another_model_are_refused(tmp_path: Path) -> None:
    accelerator, model = Accelerator(cpu=True), tiny_model(lora=True)
    save_state(tmp_path, accelerator, model, build_optimizers(model, OPTIM), Progress(), random_states())
    with pytest.raises(ValueError, match="other weights than are trained now"):
        load_state(tmp_path, accelerator, tiny_model(), build_optimizers(tiny_model(), OPTIM))


def test_the_log_goes_on_without_lines_of_steps_that_are_done_again(tmp_path: Path) -> None:
    accelerator = Accelerator(cpu=True)
    with RunLog(tmp_path, accelerator, "test", 0, 9) as log:
        for step in range(4):
            log.write(step, {"loss": 0.5, "kl": float("nan"), "note": None})
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 4, "lo')  # killed in the middle of a line
    with RunLog(tmp_path, accelerator, "test", 2, 9) as log:
        log.write(2, {"loss": 0.25})
    rows = read_metrics(tmp_path)
    assert [(row["step"], row["loss"]) for row in rows] == [(0, 0.5), (1, 0.5), (2, 0.25)]
    assert rows[0]["kl"] is None


def test_trackers_get_the_figures_of_each_stage_under_its_name(tmp_path: Path) -> None:
    logged: list[tuple[dict, int]] = []

    class ListTracker(GeneralTracker):
        name, requires_logging_directory, tracker = "list", False, None

        def __init__(self) -> None:
            super().__init__()

        def store_init_configuration(self, values: dict) -> None:
            """Nothing to keep."""

        def log(self, values: dict, step: int | None = None, **_more: object) -> None:
            logged.append((values, step or 0))

    accelerator = Accelerator(cpu=True, log_with=ListTracker())
    accelerator.init_trackers("run")
    (tmp_path / "cold-start").mkdir()
    with RunLog(tmp_path / "cold-start", accelerator, "cold start", 0, 2) as log:
        log.write(1, {"loss": 0.5, "kl": None})
    assert logged == [({"cold-start/loss": 0.5}, 1)]


# Calls during a save, in their order: SIGKILL comes in their place. True: the save leaves a half-written folder behind.
KILL_POINTS = {
    "trainer.engine.train_state.save_file": True,
    "torch.save": True,
    "trainer.engine.checkpoints._file_summary": True,
    "trainer.engine.checkpoints.sync": True,
    "trainer.engine.checkpoints.RunCheckpoints._point_at": False,
    "trainer.engine.checkpoints.RunCheckpoints._prune": False,
}


def killed_run(config: TrainConfig, pairs: list[TrainingPair], folder: Path, target: str, saves: int) -> None:
    """Train in a child process that dies by SIGKILL when it calls `target` in a save, after some whole saves."""
    child = os.fork()
    if child == 0:
        with pytest.MonkeyPatch.context() as patch:
            save = RunCheckpoints.save
            done = itertools.count()

            def armed(self: RunCheckpoints, step: int, write: Callable[[Path], None]) -> RunCheckpoint:
                if next(done) == saves:
                    patch.setattr(target, lambda *_, **__: os.kill(os.getpid(), signal.SIGKILL))
                return save(self, step, write)

            patch.setattr(RunCheckpoints, "save", armed)
            tiny_run("cold-start", config, pairs, folder)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status)
    assert os.WTERMSIG(status) == signal.SIGKILL


@pytest.mark.training
def test_a_run_survives_being_killed_at_each_point_of_a_save(tmp_path: Path) -> None:
    count = len(KILL_POINTS) + 4
    config, pairs = tiny_config(keep=3), tiny_pairs(4)
    config = replace(config, cold_start=replace(config.cold_start, steps=count, pairs_per_step=2, micro_batch_pairs=2))
    _, expected = tiny_run("cold-start", config, pairs, tmp_path / "straight")
    checkpoints = RunCheckpoints(tmp_path / "killed" / "run", keep=3)
    for number, (target, leaves_partial) in enumerate(KILL_POINTS.items()):
        begun = checkpoints.newest()
        killed_run(config, pairs, tmp_path / "killed", target, saves=2 if number == 0 else 1)
        reached = checkpoints.newest()
        assert reached is not None
        assert reached.step > (0 if begun is None else begun.step), target
        assert bool(list(reached.folder.parent.glob(".partial.*"))) == leaves_partial, target
        if number == 1:  # and a disk that lies: the run goes back behind the damaged checkpoint
            weights = reached.folder / "weights.safetensors"
            content = bytearray(weights.read_bytes())
            content[len(content) // 2] ^= 1
            weights.write_bytes(content)
            before = checkpoints.newest()
            assert before is not None
            assert before.step == reached.step - 1
    resumed, found = tiny_run("cold-start", config, pairs, tmp_path / "killed")
    assert (resumed.steps, resumed.exit_code) == (count, 0)
    assert all(torch.equal(expected[name], found[name]) for name in expected)
    assert [row["step"] for row in read_metrics(tmp_path / "killed" / "run")] == list(range(count))


@pytest.mark.endurance
def test_a_run_survives_being_killed_at_random_moments() -> None:
    command = [sys.executable, "-m", "benchmarks.interrupted_training", "--kills", "12", "--steps", "24", "--seed", "1"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    for report in json.loads(done.stdout.splitlines()[-1]).values():
        assert report["kills"] >= 12
        assert report["passed_over"] == report["damaged"]
        assert report["equal_to_straight_run"]
        assert report["stopped_and_resumed"]["equal"]
