"""Does a run that is killed again and again still end where an undisturbed one does? One JSON line.

    python -m benchmarks.interrupted_training --kills 20

A run of the cold start on the bundled checkpoint saves after each step. It is ended by SIGKILL at random moments (saves
included, since it does little else) and begun again, then left alone. `during_save`: kills that left a half-written
checkpoint behind. `equal_to_straight_run`: all trained weights are those of a run that nobody disturbed, bit for bit.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import random
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file

from descore.answer import DIMENSIONS, render_answer
from descore.video import encode_h264
from trainer.config import TrainConfig, load_preset
from trainer.run_checkpoints import RunCheckpoints
from trainer.run_log import read_metrics
from trainer.runs import run

_PAIRS = 4


def measure(kills: int, steps: int, seed: int, folder: Path) -> dict[str, Any]:
    """Run once undisturbed and once with kills.

    Raises:
        RuntimeError: a run that was left alone failed.
    """
    config, home = _config(_table(folder / "pairs"), steps), folder / "home"
    _finish(config, folder / "warm", home)  # decodes the videos and runs the tower, which all later ones find done
    began = time.monotonic()
    _finish(config, folder / "straight", home)
    seconds = time.monotonic() - began
    killed = folder / "killed"
    rng, during_save, reached = random.Random(seed), 0, []
    for _ in range(kills):
        child = _start(config, killed, home)
        # A start takes a share of the time: kills come before, in and after the steps.
        time.sleep(rng.uniform(0.2, 1.0) * seconds)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        during_save += any((killed / "cold-start" / "checkpoints").glob(".partial.*"))
        newest = RunCheckpoints(killed / "cold-start", keep=2).newest()
        reached.append(0 if newest is None else newest.step)
    _finish(config, killed, home)
    one, other = (_weights(folder / name / "cold-start") for name in ("straight", "killed"))
    newest = RunCheckpoints(killed / "cold-start", keep=2).newest()
    return {
        "kills": kills,
        "during_save": during_save,
        "steps_after_each_kill": reached,
        "steps": 0 if newest is None else newest.step,
        "log_lines": len(read_metrics(killed / "cold-start")),
        "equal_to_straight_run": one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one),
        "straight_seconds": round(seconds, 2),
    }


def _table(folder: Path) -> Path:
    """A table of small clips of moving noise, with thoughts."""
    folder.mkdir()
    thought = render_answer("noise", dict.fromkeys(DIMENSIONS, "0"), 1.0)
    with (folder / "pairs.csv").open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(["path_A", "path_B", "prompt", "TA", "CoT_A", "CoT_B"])
        for pair in range(_PAIRS):
            for side in "AB":
                noise = np.random.default_rng([pair, ord(side)]).integers(0, 255, (16, 64, 64, 3), dtype=np.uint8)
                encode_h264(noise, folder / f"{pair}{side}.mp4", fps=8)
            table.writerow([f"{pair}A.mp4", f"{pair}B.mp4", f"noise {pair}", "AB"[pair % 2], thought, thought])
    return folder / "pairs.csv"


def _config(table: Path, steps: int) -> TrainConfig:
    config = load_preset("tiny-cpu", [f"data.csv={table}", "data.held_out_share=0", "save_every=1", "keep=2", "anchors=0"])
    small = replace(config.cold_start, steps=steps, pairs_per_step=1, pairs_per_pass=1)
    return replace(config, cold_start=small)


def _start(config: TrainConfig, folder: Path, home: Path) -> int:
    """A child that runs the cold start; its id. Forked, so that a start costs no imports."""
    child = os.fork()
    if child:
        return child
    code = 1
    try:
        quiet = os.open(os.devnull, os.O_WRONLY)
        os.dup2(quiet, 1)
        os.dup2(quiet, 2)
        code = run(["cold-start"], config, folder, home)
    finally:
        os._exit(code)


def _finish(config: TrainConfig, folder: Path, home: Path) -> None:
    _, status = os.waitpid(_start(config, folder, home), 0)
    if os.waitstatus_to_exitcode(status) != 0:
        raise RuntimeError(f"the run in {folder.name} failed with code {os.waitstatus_to_exitcode(status)}")


def _weights(stage: Path) -> dict[str, torch.Tensor]:
    newest = RunCheckpoints(stage, keep=2).newest()
    return {} if newest is None else load_file(newest.folder / "weights.safetensors")


def main(arguments: Sequence[str] | None = None) -> int:
    """Print one JSON line; 0 if the killed run ended as it should."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.interrupted_training")
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        report = measure(options.kills, options.steps, options.seed, Path(folder))
    print(json.dumps(report))
    return 0 if report["steps"] == options.steps == report["log_lines"] and report["equal_to_straight_run"] else 1


if __name__ == "__main__":
    sys.exit(main())
