"""What training of the bundled checkpoint takes on a device, and what it keeps to there: resume, small memory, ratios.

The runs are those of `python -m trainer`, on a few pairs of noise: what their videos show does not matter to their time.
"""

from __future__ import annotations

import signal
import statistics
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from benchmarks.gpu.limited_memory import Growth, limited
from benchmarks.gpu.setting import Figures, PeakMemory, Setting, dtype_name, gigabytes, needs_vllm, timed
from benchmarks.helpers.noise_pairs import noise_table
from trainer.config import TrainConfig, load_preset
from trainer.engine.checkpoints import RunCheckpoints
from trainer.engine.metrics_log import read_metrics
from trainer.engine.precision import Precision
from trainer.engine.stop_signals import StopSignals
from trainer.engine.trainable import load_for_training
from trainer.paradigm import STAGES, StageName
from trainer.runs.observer import Part, RunObserver
from trainer.runs.pipeline import run

_SHARES = (0.75, 0.5, 0.35, 0.25, 0.15)  # of the memory that a step takes where there is enough
_RATIOS = ("sampler_ratio", "sampler_ratio_max", "sampler_ratio_outside")


class _StopAfter(RunObserver):
    """Sends a run the signal to stop after some steps."""

    def __init__(self, stop: StopSignals, steps: int) -> None:
        self._stop, self._steps = stop, steps

    def progress(self, stage: StageName, part: Part, done: int, total: int) -> None:  # noqa: ARG002
        if part == "training" and done == self._steps:
            self._stop.note(signal.SIGTERM)


class _AroundLastStep(RunObserver):
    """Enters a block when the first of two steps of a run is done, and leaves it when the second one is.

    What loads, and what is there from the first step on, is outside.
    """

    def __init__(self, block: AbstractContextManager[object]) -> None:
        self._block = block
        self._stack = ExitStack()

    def __enter__(self) -> _AroundLastStep:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def progress(self, stage: StageName, part: Part, done: int, total: int) -> None:  # noqa: ARG002
        if part == "training" and done < total:
            self._stack.enter_context(self._block)
        elif part == "training":
            self._stack.close()


def cold_start(setting: Setting) -> Figures:
    """Train some steps of stage 1."""
    return _steps(setting, "cold-start")


def dual_rl(setting: Setting) -> Figures:
    """Train some steps of stage 2 with rollouts of the own engine."""
    return _steps(setting, "dual-rl", "dual_rl.engine=own")


def dual_rl_by_vllm(setting: Setting) -> Figures:
    """Train some steps of stage 2 with rollouts of vLLM."""
    needs_vllm()
    return _steps(setting, "dual-rl", "dual_rl.engine=vllm")


def resume(setting: Setting) -> Figures:
    """Stop a run of each stage by SIGTERM, resume it, and compare its weights with those of two runs that nobody stopped.

    On a CPU they must be equal bit for bit. A GPU's kernels may add in another order each time: there the difference of the
    two straight runs says what a resumed one may differ by.
    """
    figures: Figures = {}
    steps = setting.size(8, 3)
    for stage in STAGES:
        config = _config(setting, stage, steps, "dual_rl.engine=own", "save_every=1")
        straight, again, stopped = (setting.folder / stage / name for name in ("straight", "again", "stopped"))
        for folder in (straight, again):
            _finish(setting, stage, config, folder)
        stop = StopSignals()
        observer = _StopAfter(stop, (steps - 1) // 2)
        code = run([stage], config, stopped, setting.folder / "home", observer=observer, stop=stop)
        steps_then = len(read_metrics(stopped / stage))
        _finish(setting, stage, config, stopped)
        figures[stage] = {
            "exit_code": code,
            "stopped_after": steps_then,
            "steps": len(read_metrics(stopped / stage)),
            "equal_bit_for_bit": _bytes(stopped, stage) == _bytes(straight, stage),
            "straight_runs_equal_bit_for_bit": _bytes(again, stage) == _bytes(straight, stage),
            "largest_difference": _difference(stopped, straight, stage),
            "largest_difference_of_straight_runs": _difference(again, straight, stage),
        }
    promised = setting.device.type == "cpu"
    if promised and not all(figures[stage]["equal_bit_for_bit"] for stage in STAGES):
        raise AssertionError(f"a resumed run differs from a straight one: {figures}")
    return {**figures, "promised_bit_for_bit": promised, "dtype": _computes_in(setting, "auto"), "repeats": 1}


def out_of_memory(setting: Setting) -> Figures:
    """Train stage 2 with enough memory, then with too little for its last step: budgets halve, weights come out as before.

    Raises:
        AssertionError: no limit between a sixth and three quarters of a step's memory made the run halve its budgets.
    """
    sizes = [f"dual_rl.objective.{each}" for each in ("num_generations=8", f"max_tokens={setting.size(200, 48)}")]
    config = _config(setting, "dual-rl", 2, "dual_rl.engine=own", "model.precision=fp32", *sizes)
    roomy = setting.folder / "roomy"
    memory = Growth(setting.device)
    with _AroundLastStep(memory) as observer:
        _finish(setting, "dual-rl", config, roomy, observer)
    before = read_metrics(roomy / "dual-rl")
    for share in _SHARES:
        tight = setting.folder / f"tight-{share}"
        with _AroundLastStep(limited(setting.device, share * memory.bytes)) as observer:
            _finish(setting, "dual-rl", config, tight, observer)
        rows = read_metrics(tight / "dual-rl")
        if rows[-1]["out_of_memory"]:
            break
    else:
        raise AssertionError(f"no run was out of memory, down to {_SHARES[-1]} of {gigabytes(memory.bytes)} GB")
    return {
        "memory_gb": gigabytes(memory.bytes),
        "limit_gb": gigabytes(share * memory.bytes),
        "out_of_memory": rows[-1]["out_of_memory"],
        "budgets": {name: [before[-1][name], rows[-1][name]] for name in ("forward_tokens", "sampling_tokens")},
        "steps": len(rows),
        "loss": [[row["loss"] for row in before], [row["loss"] for row in rows]],
        "grad_norm": [[row["grad_norm"] for row in before], [row["grad_norm"] for row in rows]],
        "largest_difference_of_weights": _difference(tight, roomy, "dual-rl"),
        "largest_update": _largest_update(config, roomy),
        "dtype": "float32",
        "repeats": 1,
    }


def sampler_ratio(setting: Setting) -> Figures:
    """Compare the own engine's probabilities of tokens with the trained model's: by precision, with and without LoRA."""
    figures: Figures = {}
    for precision in ("fp32", "bf16"):
        for name, lora in (("whole", "null"), ("lora", "{r: 8, alpha: 16}")):
            changes = ("dual_rl.engine=own", f"model.precision={precision}", f"model.lora={lora}")
            figures[f"{precision} {name}"] = _ratio(setting, f"{precision}-{name}", *changes)
    return {**figures, "dtype": "as named", "repeats": 1}


def sampler_ratio_by_vllm(setting: Setting) -> Figures:
    """Compare the trained model's probabilities of sampled tokens with vLLM's, in the run's own precision."""
    needs_vllm()
    figures = {
        name: _ratio(setting, name, "dual_rl.engine=vllm", f"model.lora={lora}")
        for name, lora in (("whole", "null"), ("lora", "{r: 8, alpha: 16}"))
    }
    return {**figures, "dtype": _computes_in(setting, "auto"), "repeats": 1}


def _steps(setting: Setting, stage: StageName, *changes: str) -> Figures:
    """Train a stage and sum up its log; the first step warms up and is not counted."""
    config = _config(setting, stage, 1 + setting.size(max(6, setting.repeats), setting.repeats), *changes)
    with PeakMemory(setting.device) as memory:
        _finish(setting, stage, config, setting.folder / "run")
    rows = read_metrics(setting.folder / "run" / stage)
    settings = config.cold_start if stage == "cold-start" else config.dual_rl
    figures = timed([row["seconds"] for row in rows[1:]])
    more = {name: rows[-1][name] for name in _RATIOS if name in rows[-1]}
    return {
        **figures,
        **memory.figures(),
        **more,
        "pairs_per_step": settings.pairs_per_step,
        "tokens_per_second": round(statistics.median(row["tokens_per_second"] for row in rows[1:]), 1),
        "loss": [row["loss"] for row in rows],
        "dtype": _computes_in(setting, config.model.precision),
    }


def _ratio(setting: Setting, name: str, *changes: str) -> dict[str, Any]:
    """Return the figures of the last of two steps, so that weights were updated, and handed over, once."""
    config = _config(setting, "dual-rl", 2, *changes)
    _finish(setting, "dual-rl", config, setting.folder / name)
    last = read_metrics(setting.folder / name / "dual-rl")[-1]
    return {each: last[each] for each in _RATIOS}


def _config(setting: Setting, stage: StageName, steps: int, *changes: str) -> TrainConfig:
    """Configure the preset of the bundled checkpoint, without judging before and after."""
    table = setting.folder / "pairs" / "pairs.csv"
    if not table.exists():
        noise_table(table.parent, setting.size(16, 2))
    name = stage.replace("-", "_")
    own = [f"data.csv={table}", "data.held_out_share=0", "anchors=0", "save_every=1000", f"{name}.steps={steps}"]
    if setting.smallest:
        own += [f"{name}.{each}" for each in ("pairs_per_step=2", "micro_batch_pairs=2", "optim.optimizer=adamw")]
        objective = ("num_generations=2", "max_tokens=12", "reward.length_low=1", "reward.length_high=12")
        own += [f"dual_rl.objective.{each}" for each in objective]
    return load_preset("tiny-cpu", [*own, *changes])


def _finish(
    setting: Setting, stage: StageName, config: TrainConfig, folder: Path, observer: RunObserver | None = None
) -> None:
    """Train a stage to its end.

    Raises:
        RuntimeError: it ended otherwise.
    """
    if code := run([stage], config, folder, setting.folder / "home", observer=observer, stop=StopSignals()):
        raise RuntimeError(f"{stage} ended with exit code {code}")


def _weights(folder: Path, stage: StageName) -> Path:
    newest = RunCheckpoints(folder / stage, 1).newest()
    if newest is None:
        raise RuntimeError(f"{stage} left no checkpoint of the run")
    return newest.folder / "weights.safetensors"


def _bytes(folder: Path, stage: StageName) -> bytes:
    return _weights(folder, stage).read_bytes()


def _difference(one: Path, other: Path, stage: StageName) -> float:
    first, second = (load_file(_weights(folder, stage)) for folder in (one, other))
    return max(float((first[name] - second[name]).abs().max()) for name in first)


def _largest_update(config: TrainConfig, folder: Path) -> float:
    """Return the largest change of a weight in the run, beside which a difference is small or large."""
    start = dict(load_for_training(config, torch.device("cpu")).model.named_parameters())
    now = load_file(_weights(folder, "dual-rl"))
    return max(float((value - start[name].detach().float()).abs().max()) for name, value in now.items())


def _computes_in(setting: Setting, precision: Any) -> str:
    half = Precision.of(precision, setting.device).half
    return f"weights float32, forwards {dtype_name(torch.bfloat16 if half else torch.float32)}"
