"""`python -m trainer preflight`: the presets that this machine can run on a checkpoint, their memory and time.

    python -m trainer preflight --checkpoint bundled --pairs 240 --held-out 60 --json

Times come from runs of the same preset on the device; without any, from a short trial on a CPU (kept in the data folder
under `training-cache/offers`), or on a GPU from the plan of its work. A call takes about ten seconds and leaves the rest to
the next call. A trial takes one thread, so its times are rather too long.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from descore.checkpoints.folder import folder_fingerprint, locate
from descore.errors import CheckpointError
from storage import Database, StorageError, open_database
from storage.atomic import write_atomic
from storage.training.devices import process_count, several
from storage.training.preflight import Preflight, PresetPreflight
from storage.training.run_folder import device_holder
from trainer.code_version import code_version
from trainer.config import PRESETS, TrainConfig, load_preset, preset_names
from trainer.planning.estimate import Machine
from trainer.planning.layer_costs import backbone_config, manifest_of, meta_backbone
from trainer.planning.measured_runs import memory_bytes, seconds_per_judged_pair, seconds_per_step
from trainer.planning.plan import make_plan
from trainer.planning.trial_step import trial

if TYPE_CHECKING:
    import argparse

    from trainer.paradigm import StageName

_SECONDS = 9.0
_TRIAL_SECONDS = 6.0
_NICE = 10
# Of a process with PyTorch and transformers, before any weight.
_PROCESS_BYTES = 1.0e9
_USABLE = 0.9
_SEVERAL_GPUS = "8gpu"  # ends the names of presets that take all GPUs of a machine, two or more
_SMALL = 50_000_000  # parameters of a checkpoint that a trial on a CPU takes seconds with
_VIDEO_SECONDS = 5.0
_GPU_FLOPS, _GPU_BANDWIDTH = 400e12, 2.5e12  # an H100 at 40 %, as in `trainer plan`
_KNOBS = (
    "cold_start.steps",
    "cold_start.optim.lr",
    "cold_start.optim.scoring_lr",
    "dual_rl.steps",
    "dual_rl.optim.lr",
    "dual_rl.optim.scoring_lr",
    "dual_rl.objective.num_generations",
    "dual_rl.objective.groups_without_spread",
)


@dataclass(frozen=True)
class _Device:
    name: str
    title: str
    total: float
    free: float
    gpus: int = 0  # that a run may take together

    @property
    def is_gpu(self) -> bool:
        return self.name != "cpu"


def run_preflight(
    database: Database, checkpoint: str, pairs: int, held_out: int, device: str | None = None, seconds: float | None = None
) -> Preflight:
    """Find out which presets a machine can run on a checkpoint.

    Args:
        checkpoint: the checkpoint that would be trained further.
        pairs, held_out: number of pairs to train on and to measure with.
        device: "cpu" or "cuda:0"; None: the GPUs, or the CPU without any.
        seconds: time limit, about ten by default.

    Raises:
        CheckpointError: there is no such checkpoint.
        ValueError: there is no such device.
    """
    here, deadline = _device(device), time.monotonic() + (_SECONDS if seconds is None else seconds)
    busy = device_holder(database.home, here.name) is not None
    checker = _PresetChecker(database, checkpoint, here, busy, deadline)
    presets = tuple(checker.check(name, pairs, held_out) for name in preset_names())
    return Preflight(manifest_of(checkpoint).name, here.name, here.title, here.total, here.free, busy, presets)


class _PresetChecker:
    """Checks one preset after the other, within a time limit."""

    def __init__(self, database: Database, checkpoint: str, device: _Device, busy: bool, deadline: float) -> None:
        self._database, self._checkpoint, self._device = database, checkpoint, device
        self._busy, self._deadline = busy, deadline
        self._fingerprint = folder_fingerprint(locate(checkpoint)[0])
        self._backbone = meta_backbone(checkpoint, torch.float32)

    def check(self, name: str, pairs: int, held_out: int) -> PresetPreflight:
        """Check one preset."""
        config = load_preset(name, [f"model.checkpoint={json.dumps(self._checkpoint)}"])
        made_for = load_preset(name).model.checkpoint
        stages: list[StageName] = []
        if config.cold_start.steps:
            stages.append("cold-start")
        if config.dual_rl.steps:
            stages.append("dual-rl")
        mismatch = self._mismatch(made_for)
        why_not = mismatch or self._missing_hardware(name)
        device = several("cuda", self._device.gpus) if name.endswith(_SEVERAL_GPUS) and not why_not else self._device.name
        memory = self._memory(config, name, device) if mismatch is None else None
        if why_not is None and memory is not None and memory > _USABLE * self._device.total:
            why_not = f"needs {_size(memory)} of memory, and {self._device.title} has {_size(self._device.total)}"
        speeds, judging, source = self._speeds(config, device) if why_not is None else ({}, None, "")
        return PresetPreflight(
            name=name,
            title=_title(name),
            stages=tuple(stages),
            knobs={knob: _value(config, knob) for knob in _KNOBS},
            why_not=why_not,
            memory_bytes=memory,
            steps_aside=why_not is None and memory is not None and memory > _USABLE * self._device.free,
            seconds_per_step={stage: round(seconds, 6) for stage, seconds in speeds.items()},
            seconds=_seconds(config, speeds, judging, held_out, pairs),
            known_from=source,
            device=device,
            elsewhere=mismatch is None,
        )

    def _mismatch(self, made_for: str) -> str | None:
        """Why the preset does not suit the checkpoint: its rates and lengths are for one size of model."""
        if _architecture(self._checkpoint) == _architecture(made_for):
            return None
        return f"made for {made_for}; this checkpoint's model has another size"

    def _missing_hardware(self, name: str) -> str | None:
        if name.endswith("gpu") and not self._device.is_gpu:
            return "needs a CUDA GPU, and this machine shows none"
        if name.endswith(_SEVERAL_GPUS) and self._device.gpus < 2:
            return "made for several GPUs, and this machine shows one"
        return None

    def _memory(self, config: TrainConfig, name: str, device: str) -> float | None:
        """Bytes that a run takes of each of its devices: measured on earlier runs, else planned."""
        measured = memory_bytes(self._database, name, device)
        if measured is not None:
            return measured

        def plan() -> float:
            made = make_plan(config, Machine(1, 80e9, _GPU_FLOPS, _GPU_BANDWIDTH), _VIDEO_SECONDS)
            return _PROCESS_BYTES * (not self._device.is_gpu) + max(stage.longest_peak_bytes for stage in made.stages)

        planned: float | None = self._cached("memory", config, plan, 1.0)
        return planned

    def _speeds(self, config: TrainConfig, device: str) -> tuple[dict[StageName, float], float | None, str]:
        """Seconds of a step by stage, seconds of judging a pair, and the source of both."""
        measured = seconds_per_step(self._database, config, device)
        judging = seconds_per_judged_pair(self._database, config.preset, device)
        if len(measured) == _stage_count(config) and judging is not None:
            return measured, judging, "runs"
        if self._device.is_gpu:
            machine = Machine(process_count(device), self._device.total, _GPU_FLOPS, _GPU_BANDWIDTH)
            planned = make_plan(config, machine, _VIDEO_SECONDS)
            stage_names: dict[str, StageName] = {"cold start": "cold-start", "dual-objective RL": "dual-rl"}
            speeds = {stage_names[stage.name]: sum(stage.seconds_per_step.values()) for stage in planned.stages}
            return {**speeds, **measured}, judging, "plan"
        small = sum(parameter.numel() for parameter in self._backbone.parameters()) < _SMALL
        if not small or self._busy:
            return measured, judging, "runs" if measured else ""
        tried = self._cached(
            "trial", config, lambda: asdict(trial(config, self._checkpoint, _TRIAL_SECONDS)), _TRIAL_SECONDS
        )
        if tried is None:
            return measured, judging, "runs" if measured else ""
        seconds_per_pair = tried["seconds_per_pair"] if judging is None else judging
        return {**tried["seconds_per_step"], **measured}, seconds_per_pair, "trial"

    def _cached(self, name: str, config: TrainConfig, compute: Callable[[], Any], seconds: float) -> Any:
        """Return the result of an earlier call, or of `compute` now if that many seconds are left; else None."""
        key_parts = [
            name,
            self._fingerprint,
            self._device.title,
            code_version(),
            config.cold_start,
            config.dual_rl,
            config.model,
        ]
        key = hashlib.sha256(repr(key_parts).encode()).hexdigest()[:24]
        path = self._database.home / "training-cache" / "offers" / f"{key}.json"
        if path.exists():
            return json.loads(path.read_text("utf-8"))
        if time.monotonic() + seconds > self._deadline:
            return None
        result = compute()
        if name == "trial" and len(result["seconds_per_step"]) < _stage_count(config):
            return result  # a busy machine was too slow for all of it; the next call tries again
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(path, json.dumps(result))
        return result


def run(options: argparse.Namespace) -> int:
    """Run the command; 0, or 2 with one line on stderr where the user has to act."""
    os.nice(_NICE)  # it runs beside people at work, so it takes one core and gives way
    torch.set_num_threads(1)
    try:
        database = open_database()
        try:
            preflight = run_preflight(database, options.checkpoint, options.pairs, options.held_out, options.device)
        finally:
            database.close()
    except (CheckpointError, StorageError, ValueError) as error:
        print(f"preflight: {error}", file=sys.stderr)
        return 2
    print(json.dumps(preflight.to_dict()) if options.json else "\n".join(_lines(preflight)))
    return 0


def _device(name: str | None) -> _Device:
    """Look up a device and its memory.

    Raises:
        ValueError: there is none of this name.
    """
    gpus = torch.cuda.device_count() if name is None else 1
    if name is None:
        name = "cuda:0" if torch.cuda.is_available() else "cpu"
    if name == "cpu":
        return _Device(name, f"this CPU ({os.cpu_count()} cores)", *_machine_memory())
    number = name.removeprefix("cuda:")
    if not number.isdigit() or int(number) >= torch.cuda.device_count():
        raise ValueError(f"there is no device {name}; there are cpu and {torch.cuda.device_count()} GPUs")
    free, total = torch.cuda.mem_get_info(int(number))
    title = torch.cuda.get_device_name(int(number))
    return _Device(name, title if gpus == 1 else f"{gpus} x {title}", float(total), float(free), gpus)


def _machine_memory() -> tuple[float, float]:
    """Bytes in all, and free ones: without swapping, as Linux says; elsewhere half of all."""
    page = os.sysconf("SC_PAGE_SIZE")
    total = float(os.sysconf("SC_PHYS_PAGES") * page)
    try:
        lines = Path("/proc/meminfo").read_text("utf-8").splitlines()
        values = dict(line.split(":", 1) for line in lines)
        return total, 1024 * float(values["MemAvailable"].split()[0])
    except (OSError, KeyError, ValueError):
        return total, total / 2


def _architecture(checkpoint: str) -> tuple[str, int, int]:
    config = backbone_config(checkpoint)
    text = config.get_text_config()
    return config.model_type, text.hidden_size, text.num_hidden_layers


def _seconds(
    config: TrainConfig, speeds: dict[StageName, float], judging: float | None, held_out: int, pairs: int
) -> dict[str, float]:
    """Seconds by stage and "gate". The first stage judges before and after, and thinks about pairs without thoughts."""
    seconds: dict[str, float] = {}
    if judging is None:
        return seconds
    steps = {"cold-start": config.cold_start.steps, "dual-rl": config.dual_rl.steps}
    for index, (stage, speed) in enumerate(speeds.items()):
        judged = held_out * (2 if index == 0 else 1) + (pairs if stage == "cold-start" else 0)
        seconds[stage] = round(steps[stage] * speed + judged * judging, 1)
    return seconds | {"gate": round(2 * held_out * judging, 1)}


def _stage_count(config: TrainConfig) -> int:
    return bool(config.cold_start.steps) + bool(config.dual_rl.steps)


def _title(name: str) -> str:
    """Take the first sentence of the comment at the top of a preset's file."""
    lines = (PRESETS / f"{name}.yaml").read_text("utf-8").splitlines()
    comment = " ".join(line.lstrip("# ") for line in lines if line.startswith("#"))
    return comment.partition(". ")[0].rstrip(".")


def _value(config: TrainConfig, knob: str) -> Any:
    value: Any = config
    for name in knob.split("."):
        value = getattr(value, name)
    return value


def _lines(preflight: Preflight) -> list[str]:
    memory = f"{_size(preflight.memory_free)} of {_size(preflight.memory_total)} memory free"
    lines = [f"{preflight.checkpoint} on {preflight.device_name}, {memory}{', busy with a run' if preflight.busy else ''}"]
    for preset in preflight.presets:
        lines += ["", f"{preset.name}: {preset.title}"]
        if preset.why_not is not None:
            lines.append(f"  can't run: {preset.why_not}")
            continue
        lines.append(f"  {', '.join(f'{name}={value}' for name, value in preset.knobs.items())}")
        if preset.memory_bytes is not None:
            aside = "; the serving model has to leave the device" if preset.steps_aside else ""
            lines.append(f"  memory: {_size(preset.memory_bytes)}{aside}")
        times = ", ".join(f"{stage} {seconds:.0f} s" for stage, seconds in preset.seconds.items())
        lines.append(f"  time: {times} (from {preset.known_from})" if times else "  time: not known yet")
    return lines


def _size(count: float) -> str:
    return f"{count / 1e9:.1f} GB"
