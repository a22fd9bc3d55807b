"""Does a run that is killed again and again still end where an undisturbed one does? One JSON line.

    python -m benchmarks.interrupted_training --kills 20

Runs of each stage on the bundled checkpoint save after each step. Every other SIGKILL is aimed at a save (it comes when a
checkpoint is being written), the others come at random moments of a run's start and first steps; then the run is begun
again. Only kills of runs with steps left count: where a run ends before its kill, a new one takes its place. Twice a byte
of the newest checkpoint is flipped. At last the run is left alone. One more run is stopped by SIGTERM halfway and resumed.

`half_written`: kills that left a half-written checkpoint. `passed_over`: damaged checkpoints that the run itself went back
behind. `equal_to_straight_run`: all trained weights are those of a run that nobody disturbed, byte for byte.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from benchmarks.helpers.noise_pairs import noise_table
from trainer.config import TrainConfig, load_preset
from trainer.engine.checkpoints import RunCheckpoints
from trainer.engine.metrics_log import read_metrics
from trainer.paradigm import StageName
from trainer.runs.pipeline import run

STAGES: tuple[StageName, ...] = ("cold-start", "dual-rl")
_PAIRS = 4
_DAMAGED = re.compile(r"checkpoint (step-\d+) is damaged")


@dataclass(frozen=True)
class Trial:
    """One run in its folder, started as often as needed."""

    stage: StageName
    config: TrainConfig
    folder: Path
    home: Path

    def start(self) -> int:
        """Start a child that runs the stage, and return its id. Forked, so that a start costs no imports."""
        child = os.fork()
        if child:
            return child
        code = 1
        try:
            said = os.open(self.folder.with_suffix(".log"), os.O_WRONLY | os.O_CREAT | os.O_APPEND)
            os.dup2(said, 1)
            os.dup2(said, 2)
            code = run([self.stage], self.config, self.folder, self.home)
        finally:
            os._exit(code)

    def finish(self) -> None:
        """Start it and leave it alone.

        Raises:
            RuntimeError: it failed.
        """
        _, status = os.waitpid(self.start(), 0)
        self.check(os.waitstatus_to_exitcode(status), 0)

    def check(self, code: int, expected: int) -> None:
        """Refuse an unexpected exit code.

        Raises:
            RuntimeError: the run ended with another exit code; with the end of what it said.
        """
        if code != expected:
            raise RuntimeError(f"{self.folder.name} ended with code {code}, not {expected}:\n{self.said()[-2000:]}")

    def said(self) -> str:
        """All that its processes wrote to stdout and stderr."""
        path = self.folder.with_suffix(".log")
        return path.read_text("utf-8", errors="replace") if path.exists() else ""

    @property
    def checkpoints(self) -> RunCheckpoints:
        """Of the stage."""
        return RunCheckpoints(self.folder / self.stage, self.config.keep)

    @property
    def steps(self) -> int:
        """The steps that its stage has."""
        return (self.config.cold_start if self.stage == "cold-start" else self.config.dual_rl).steps

    @property
    def saved(self) -> int:
        """Steps in the newest whole checkpoint."""
        newest = self.checkpoints.newest()
        return 0 if newest is None else newest.step

    @property
    def logged(self) -> list[int]:
        """The steps that its log has a line of."""
        return [row["step"] for row in read_metrics(self.folder / self.stage)]

    def half_written(self) -> set[str]:
        """Return the names of checkpoints that are not (yet) whole."""
        try:
            checkpoints = self.folder / self.stage / "checkpoints"
            return {path.name for path in checkpoints.iterdir() if path.name.startswith(".partial.")}
        except FileNotFoundError:
            return set()

    def weights(self) -> bytes:
        """Return the newest checkpoint's trained weights as bytes; equal bytes mean equal weights."""
        newest = self.checkpoints.newest()
        return b"" if newest is None else (newest.folder / "weights.safetensors").read_bytes()

    def flip_a_byte(self) -> bool:
        """Damage the newest checkpoint's weights, where there is an older one to go back to and steps are still to come."""
        newest = self.checkpoints.newest()
        if newest is None or not 2 <= newest.step < self.steps:
            return False
        path = newest.folder / "weights.safetensors"
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 1
        path.write_bytes(content)
        return True


@dataclass
class Timing:
    """Of an undisturbed run, in seconds: until its first step is logged, each step, and all."""

    start: float
    step: float
    all: float


class Disturber:
    """Kills the runs of one stage, and counts."""

    def __init__(self, trial: Callable[[str], Trial], timing: Timing, straight: bytes, seed: int) -> None:
        self.counted = self.aimed = self.half_written = self.damaged = self.runs_ended_first = 0
        self.steps_after_each_kill: list[int] = []
        self.ended: list[dict[str, Any]] = []
        self._trial, self._timing, self._straight = trial, timing, straight
        self._rng = random.Random(seed)
        self._number = 0
        self.current = trial("killed-0")

    def kill(self, aimed: bool) -> None:
        """Start the current run and kill it; where it ends before that, count it as ended and take a new one."""
        known = self.current.half_written()
        child = self.current.start()
        wanted = self._rng.randint(1, 4) if aimed else None
        deadline = time.monotonic() + self._rng.uniform(0, self._timing.start + 5 * self._timing.step)
        seen: set[str] = set()
        while (len(seen) < wanted) if wanted else (time.monotonic() < deadline):
            ended, status = os.waitpid(child, os.WNOHANG)
            if ended:
                self.current.check(os.waitstatus_to_exitcode(status), 0)
                self.runs_ended_first += 1
                self._close()
                return
            seen |= self.current.half_written() - known
            time.sleep(0.0002)
        if aimed:
            time.sleep(self._rng.uniform(0, 0.03))  # somewhere in the writing, hashing and renaming
        os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        if os.WIFSIGNALED(status) and self.current.saved < self.current.steps:
            self.counted += 1
            self.aimed += aimed
            self.half_written += bool(self.current.half_written() - known)
            self.steps_after_each_kill.append(self.current.saved)

    def damage(self) -> None:
        """Flip a byte of the newest checkpoint."""
        self.damaged += self.current.flip_a_byte()

    def end(self) -> None:
        """Leave the current run alone."""
        self.current.finish()
        self._close()

    def report(self) -> dict[str, Any]:
        """Sum up the figures of all killed runs."""
        return {
            "kills": self.counted,
            "aimed_at_saves": self.aimed,
            "half_written": self.half_written,
            "steps_after_each_kill": self.steps_after_each_kill,
            "damaged": self.damaged,
            "passed_over": sum(one["passed_over"] for one in self.ended),
            "runs": len(self.ended),
            "runs_that_ended_before_their_kill": self.runs_ended_first,
            "steps": [one["steps"] for one in self.ended],
            "log_lines": [one["log_lines"] for one in self.ended],
            "equal_to_straight_run": all(one["equal"] for one in self.ended),
        }

    def _close(self) -> None:
        self.ended.append(outcome(self.current, self._straight))
        self._number += 1
        self.current = self._trial(f"killed-{self._number}")


def outcome(trial: Trial, straight: bytes) -> dict[str, Any]:
    """Compare a finished run with the undisturbed one. log_lines: 0 unless there is one for each step, in order."""
    logged = trial.logged
    return {
        "steps": trial.saved,
        "log_lines": len(logged) if logged == list(range(len(logged))) else 0,
        "equal": trial.weights() == straight,
        "passed_over": len(set(_DAMAGED.findall(trial.said()))),
    }


def measure(stage: StageName, kills: int, steps: int, seed: int, folder: Path) -> dict[str, Any]:
    """One stage: an undisturbed run, runs with kills, and one that is stopped and resumed.

    Raises:
        RuntimeError: a run that was left alone failed.
    """
    config = _config(folder / "pairs" / "pairs.csv", steps)

    def trial(name: str) -> Trial:
        return Trial(stage, config, folder / stage / name, folder / "home")

    (folder / stage).mkdir()
    replace(trial("warm"), config=_config(folder / "pairs" / "pairs.csv", 2)).finish()  # fills the caches of frames
    straight = trial("straight")
    timing = _timed(straight)
    weights = straight.weights()
    disturber = Disturber(trial, timing, weights, seed)
    while disturber.counted < kills:
        disturber.kill(aimed=2 * disturber.aimed <= disturber.counted)
        if disturber.damaged < 2 and disturber.counted >= (disturber.damaged + 1) * kills // 3:
            disturber.damage()
    disturber.end()
    return {
        **disturber.report(),
        "stopped_and_resumed": _stopped_and_resumed(trial("stopped"), weights),
        "straight": {"steps": straight.saved, "log_lines": len(straight.logged), "seconds": round(timing.all, 2)},
        "start_seconds": round(timing.start, 2),
        "step_seconds": round(timing.step, 3),
    }


def _timed(trial: Trial) -> Timing:
    began, first = time.monotonic(), 0.0
    child = trial.start()
    while True:
        ended, status = os.waitpid(child, os.WNOHANG)
        first = first or (time.monotonic() - began if trial.logged else 0.0)
        if ended:
            break
        time.sleep(0.01)
    trial.check(os.waitstatus_to_exitcode(status), 0)
    whole = time.monotonic() - began
    return Timing(first, (whole - first) / max(trial.saved - 1, 1), whole)


def _stopped_and_resumed(trial: Trial, straight: bytes) -> dict[str, Any]:
    """SIGTERM after half of the steps, then the same again to the end."""
    child = trial.start()
    while len(trial.logged) < trial.steps // 2:
        time.sleep(0.005)
    os.kill(child, signal.SIGTERM)
    _, status = os.waitpid(child, 0)
    code = os.waitstatus_to_exitcode(status)
    trial.check(code, 128 + signal.SIGTERM)
    stopped, lines = trial.saved, len(trial.logged)
    trial.finish()
    return {"exit_code": code, "stopped_after": stopped, "log_lines_then": lines, **outcome(trial, straight)}


def _config(table: Path, steps: int) -> TrainConfig:
    """Configure small quick steps, each with a checkpoint."""
    small = [f"data.csv={table}", "data.held_out_share=0", "save_every=1", "keep=3", "anchors=0"]
    for stage in ("cold_start", "dual_rl"):
        small += [f"{stage}.{name}" for name in (f"steps={steps}", "pairs_per_step=1", "micro_batch_pairs=1")]
    thoughts = ["num_generations=2", "max_tokens=12", "reward.length_low=1", "reward.length_high=12"]
    return load_preset("tiny-cpu", [*small, *(f"dual_rl.objective.{name}" for name in thoughts)])


def is_right(report: dict[str, Any], kills: int, steps: int) -> bool:
    """Whether every run ended as the straight one did, and every damaged checkpoint was passed over."""
    stopped = report["stopped_and_resumed"]
    return (
        report["kills"] >= kills
        and {*report["steps"], *report["log_lines"], stopped["steps"], stopped["log_lines"]} == {steps}
        and report["equal_to_straight_run"]
        and report["passed_over"] == report["damaged"]
        and stopped["equal"]
        and stopped["stopped_after"] == stopped["log_lines_then"] < steps
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Print one JSON line; 0 if all runs ended as they should."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.interrupted_training")
    parser.add_argument("--kills", type=int, default=20, help="of each stage")
    parser.add_argument("--steps", type=int, default=40, help="of a run")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--stages", nargs="+", choices=STAGES, default=STAGES)
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        noise_table(folder / "pairs", _PAIRS)
        report = {stage: measure(stage, options.kills, options.steps, options.seed, folder) for stage in options.stages}
    print(json.dumps(report))
    return 0 if all(is_right(one, options.kills, options.steps) for one in report.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
