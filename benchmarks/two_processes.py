"""Do two processes train as one process does with the doubled batch? One JSON line.

    python -m benchmarks.two_processes

Each stage runs twice on the bundled checkpoint, in float32, with the same pairs in a step: by `torchrun` (gloo) in two
processes that take two pairs in a pass, and in one process that takes four. All runs are `python -m trainer` as people call
it. The pairs are an odd number, and thoughts have different lengths, so that wrong averages would show.

`largest_difference`: of any trained number between the two, over the largest trained number of its tensor.
`apart_over_moved`: length of the difference of all trained weights over the length of the way they moved in training.
`logged`: largest relative difference of each figure of the log. Muon orthogonalises updates in bfloat16, whose rounding is
what its runs differ by (some 5e-3 of the way); so the default is AdamW.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors.torch import load_file

from benchmarks.helpers.noise_pairs import noise_table
from benchmarks.helpers.running_app import ROOT, free_port
from descore.checkpoints.folder import load_checkpoint
from trainer.engine.checkpoints import RunCheckpoints
from trainer.engine.metrics_log import read_metrics

if TYPE_CHECKING:
    import torch

    from trainer.paradigm import StageName

STAGES: tuple[StageName, ...] = ("cold-start", "dual-rl")
LIMIT = 1e-3
_PAIRS = 7
_LOGGED = ("loss", "grad_norm", "margin", "accuracy", "reward_format", "thought_tokens")


def measure(stage: StageName, steps: int, optimizer: str, folder: Path) -> dict[str, Any]:
    """Both runs of one stage, and how far apart they ended.

    Raises:
        RuntimeError: one of them failed.
    """
    names = {"one": 1, "two": 2}
    for name, processes in names.items():
        _train(stage, steps, optimizer, processes, folder, folder / f"{stage} {name}")
    one, two = (_weights(folder / f"{stage} {name}" / stage) for name in names)
    began = {key: value.float() for key, value in load_checkpoint("bundled")[0].named_parameters()}
    logs = [read_metrics(folder / f"{stage} {name}" / stage) for name in names]
    logged = {
        name: max(abs(a[name] - b[name]) / max(abs(a[name]), 1e-6) for a, b in zip(*logs, strict=True))
        for name in _LOGGED
        if name in logs[0][0]
    }
    return {
        "largest_difference": max(float((one[key] - two[key]).abs().max() / one[key].abs().max()) for key in one),
        "apart_over_moved": _length(one, two) / _length(one, {key: began[key].detach() for key in one}),
        "logged": logged,
        "tensors": len(one),
        "same_names": one.keys() == two.keys(),
    }


def _train(stage: StageName, steps: int, optimizer: str, processes: int, folder: Path, out: Path) -> None:
    part = stage.replace("-", "_")
    settings = [f"{part}.steps={steps}", f"{part}.pairs_per_step=4", f"{part}.micro_batch_pairs={4 // processes}"]
    settings += [f"{part}.optim.optimizer={optimizer}", "dual_rl.objective.num_generations=3"]
    settings += ["model.precision=fp32", "data.held_out_share=0", "anchors=0"]
    launcher = ["-m", "torch.distributed.run", "--nproc-per-node", "2", "--master-port", str(free_port())]
    command = [sys.executable, *(launcher if processes > 1 else []), "-m", "trainer", stage, "--preset", "tiny-cpu"]
    command += ["--csv", str(folder / "pairs" / "pairs.csv"), "--out", str(out)]
    command += [word for setting in settings for word in ("--set", setting)]
    environment = {**os.environ, "DESCORE_HOME": str(folder / "home"), "ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} ended with code {done.returncode}:\n{done.stderr[-3000:]}")


def _weights(stage: Path) -> dict[str, torch.Tensor]:
    newest = RunCheckpoints(stage, keep=1).newest()
    return {} if newest is None else load_file(newest.folder / "weights.safetensors")


def _length(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> float:
    return sum(float((one[key].double() - other[key].double()).square().sum()) for key in one) ** 0.5


def main(arguments: Sequence[str] | None = None) -> int:
    """Print one JSON line; 0 if both stages end within `LIMIT` of the way that their weights moved."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.two_processes")
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--optimizer", choices=("adamw", "muon"), default="adamw")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as name:
        noise_table(Path(name) / "pairs", _PAIRS)
        report = {stage: measure(stage, options.steps, options.optimizer, Path(name)) for stage in STAGES}
    print(json.dumps(report))
    return 0 if all(one["same_names"] and one["apart_over_moved"] < LIMIT for one in report.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
