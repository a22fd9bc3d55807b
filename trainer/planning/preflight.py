"""`python -m trainer preflight`: what this machine can train a checkpoint with, what memory it takes and how long it lasts.

    python -m trainer preflight --checkpoint bundled --pairs 240 --held-out 60 --json

Times come from the runs of the store where one of the same preset ran on the device, else from a short trial on a small
checkpoint on a CPU (kept in the data folder under `training-cache/offers`), else on a GPU from the plan of its work. What
would take longer than some ten seconds to find out is left for the next call. Times of a trial are of one thread, so rather
too long.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

import torch

from descore.checkpoints.folder import folder_fingerprint, locate
from descore.errors import CheckpointError
from storage import Database, StorageError, open_database
from storage.atomic import write_atomic
from storage.training.run_folder import device_holder
from trainer.config import PRESETS, TrainConfig, load_preset, preset_names
from trainer.engine.save_trained import code_version
from trainer.paradigm import StageName
from trainer.planning.estimate import Machine
from trainer.planning.layer_costs import backbone_config, manifest_of, meta_backbone
from trainer.planning.measured_runs import memory_bytes, seconds_per_judged_pair, seconds_per_step
from trainer.planning.plan import make_plan
from trainer.planning.trial_step import trial

if TYPE_CHECKING:
    import argparse

_SECONDS = 9.0
_TRIAL_SECONDS = 6.0
_NICE = 10
# A process with PyTorch and transformers holds so much before any weight.
_PROCESS_BYTES = 1.0e9
_USABLE = 0.9
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
)


@dataclass(frozen=True)
class PresetOffer:
    """A preset on this machine.

    title: one sentence. knobs: name of a setting, as `--set` takes it -> its value. why_not: None where it can run.
    memory_bytes: what a run takes, None where not known. steps_aside: it fits only if the serving model leaves the device.
    seconds_per_step: by stage; seconds: by stage and "gate", judging of held-out pairs included; both without what is not
    known yet. known_from: "runs", "trial", "plan" or "".
    """

    name: str
    title: str
    stages: tuple[StageName, ...]
    knobs: dict[str, Any]
    why_not: str | None
    memory_bytes: float | None
    steps_aside: bool
    seconds_per_step: dict[str, float] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    known_from: str = ""


@dataclass(frozen=True)
class Offer:
    """busy: a run has the device now, so nothing was tried."""

    checkpoint: str
    device: str
    device_name: str
    memory_total: float
    memory_free: float
    busy: bool
    presets: tuple[PresetOffer, ...]


@dataclass(frozen=True)
class _Device:
    name: str
    title: str
    total: float
    free: float

    @property
    def is_gpu(self) -> bool:
        return self.name != "cpu"


def make_offer(
    database: Database, checkpoint: str, pairs: int, held_out: int, device: str | None = None, seconds: float | None = None
) -> Offer:
    """What can be run.

    Args:
        checkpoint: what would be trained further. pairs, held_out: how many there are to train on and to measure with.
        seconds: how long finding it out may take, some ten by default.

    Raises:
        CheckpointError: there is no such checkpoint.
        ValueError: there is no such device.
    """
    here, deadline = _device(device), time.monotonic() + (_SECONDS if seconds is None else seconds)
    busy = device_holder(database.home, here.name) is not None
    asking = _Asking(database, checkpoint, here, busy, deadline)
    presets = tuple(asking.preset(name, pairs, held_out) for name in preset_names())
    return Offer(manifest_of(checkpoint).name, here.name, here.title, here.total, here.free, busy, presets)


class _Asking:
    """Finds out about presets one after the other, as long as there is time."""

    def __init__(self, database: Database, checkpoint: str, device: _Device, busy: bool, deadline: float) -> None:
        self._database, self._checkpoint, self._device = database, checkpoint, device
        self._busy, self._deadline = busy, deadline
        self._fingerprint = folder_fingerprint(locate(checkpoint)[0])
        self._backbone = meta_backbone(checkpoint, torch.float32)

    def preset(self, name: str, pairs: int, held_out: int) -> PresetOffer:
        """One preset."""
        config = load_preset(name, [f"model.checkpoint={json.dumps(self._checkpoint)}"])
        made_for = load_preset(name).model.checkpoint
        stages: list[StageName] = []
        if config.cold_start.steps:
            stages.append("cold-start")
        if config.dual_rl.steps:
            stages.append("dual-rl")
        mismatch = self._mismatch(made_for)
        why_not = mismatch or self._hardware(name)
        memory = self._memory(config, name) if mismatch is None else None
        if why_not is None and memory is not None and memory > _USABLE * self._device.total:
            why_not = f"needs {_size(memory)} of memory, and {self._device.title} has {_size(self._device.total)}"
        speeds, judging, source = self._speeds(config) if why_not is None else ({}, None, "")
        return PresetOffer(
            name=name,
            title=_title(name),
            stages=tuple(stages),
            knobs={knob: _value(config, knob) for knob in _KNOBS},
            why_not=why_not,
            memory_bytes=memory,
            steps_aside=why_not is None and memory is not None and memory > _USABLE * self._device.free,
            seconds_per_step={stage: round(one, 3) for stage, one in speeds.items()},
            seconds=_seconds(config, speeds, judging, held_out, pairs),
            known_from=source,
        )

    def _mismatch(self, made_for: str) -> str | None:
        """A preset's rates and lengths suit the model that it was made for, and no other size."""
        if _size_of(self._checkpoint) == _size_of(made_for):
            return None
        return f"made for {made_for}; this checkpoint's model has another size"

    def _hardware(self, name: str) -> str | None:
        if name.endswith("gpu") and not self._device.is_gpu:
            return "needs a CUDA GPU, and this machine shows none"
        if name.endswith("8gpu"):
            return "needs eight GPUs: start it by accelerate launch in a terminal, see docs/training.md"
        return None

    def _memory(self, config: TrainConfig, name: str) -> float | None:
        """From runs, else from the plan."""
        seen = memory_bytes(self._database, name, self._device.name)
        if seen is not None:
            return seen

        def plan() -> float:
            made = make_plan(config, Machine(1, 80e9, _GPU_FLOPS, _GPU_BANDWIDTH), _VIDEO_SECONDS)
            return _PROCESS_BYTES * (not self._device.is_gpu) + max(stage.longest_peak_bytes for stage in made.stages)

        return self._kept("memory", config, plan, 1.0)

    def _speeds(self, config: TrainConfig) -> tuple[dict[StageName, float], float | None, str]:
        """Seconds of a step by stage, of judging a pair, and where they come from."""
        seen = seconds_per_step(self._database, config, self._device.name)
        judging = seconds_per_judged_pair(self._database, config.preset, self._device.name)
        asked = bool(config.cold_start.steps) + bool(config.dual_rl.steps)
        if len(seen) == asked and judging is not None:
            return seen, judging, "runs"
        if self._device.is_gpu:
            made = make_plan(config, Machine(1, self._device.total, _GPU_FLOPS, _GPU_BANDWIDTH), _VIDEO_SECONDS)
            named: dict[str, StageName] = {"cold start": "cold-start", "dual-objective RL": "dual-rl"}
            found = {named[stage.name]: sum(stage.seconds_per_step.values()) for stage in made.stages}
            return {**found, **seen}, judging, "plan"
        small = sum(parameter.numel() for parameter in self._backbone.parameters()) < _SMALL
        if not small or self._busy:
            return seen, judging, "runs" if seen else ""
        tried = self._kept("trial", config, lambda: asdict(trial(config, self._checkpoint, _TRIAL_SECONDS)), _TRIAL_SECONDS)
        if tried is None:
            return seen, judging, "runs" if seen else ""
        known = tried["seconds_per_pair"] if judging is None else judging
        return {**tried["seconds_per_step"], **seen}, known, "trial"

    def _kept(self, what: str, config: TrainConfig, find: Callable[[], Any], seconds: float) -> Any:
        """What an earlier call found, or what `find` gives now if there are so many seconds left; else None."""
        facts = [
            what,
            self._fingerprint,
            self._device.title,
            code_version(),
            config.cold_start,
            config.dual_rl,
            config.model,
        ]
        key = hashlib.sha256(repr(facts).encode()).hexdigest()[:24]
        path = self._database.home / "training-cache" / "offers" / f"{key}.json"
        if path.exists():
            return json.loads(path.read_text("utf-8"))
        if time.monotonic() + seconds > self._deadline:
            return None
        found = find()
        asked = bool(config.cold_start.steps) + bool(config.dual_rl.steps)
        if what == "trial" and len(found["seconds_per_step"]) < asked:
            return found  # a busy machine was too slow for all of it; the next call tries again
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(path, json.dumps(found))
        return found


def run(options: argparse.Namespace) -> int:
    """Run the command; 0, or 2 with one line on stderr where the user has to act."""
    os.nice(_NICE)  # it runs beside people at work, so it takes one core and gives way
    torch.set_num_threads(1)
    try:
        database = open_database()
        try:
            found = make_offer(database, options.checkpoint, options.pairs, options.held_out, options.device)
        finally:
            database.close()
    except (CheckpointError, StorageError, ValueError) as error:
        print(f"preflight: {error}", file=sys.stderr)
        return 2
    print(json.dumps(asdict(found)) if options.json else "\n".join(_lines(found)))
    return 0


def _device(name: str | None) -> _Device:
    """
    Raises:
        ValueError: there is none of this name.
    """
    if name is None:
        name = "cuda:0" if torch.cuda.is_available() else "cpu"
    if name == "cpu":
        return _Device(name, f"this CPU ({os.cpu_count()} cores)", *_machine_memory())
    number = name.removeprefix("cuda:")
    if not number.isdigit() or int(number) >= torch.cuda.device_count():
        raise ValueError(f"there is no device {name}; there are cpu and {torch.cuda.device_count()} GPUs")
    free, total = torch.cuda.mem_get_info(int(number))
    return _Device(name, torch.cuda.get_device_name(int(number)), float(total), float(free))


def _machine_memory() -> tuple[float, float]:
    """Bytes in all, and free ones: what Linux could give without swapping; elsewhere half of them."""
    page = os.sysconf("SC_PAGE_SIZE")
    total = float(os.sysconf("SC_PHYS_PAGES") * page)
    try:
        with open("/proc/meminfo", encoding="utf-8") as file:
            told = dict(line.split(":", 1) for line in file)
        return total, 1024 * float(told["MemAvailable"].split()[0])
    except (OSError, KeyError, ValueError):
        return total, total / 2


def _size_of(checkpoint: str) -> tuple[str, int, int]:
    config = backbone_config(checkpoint)
    text = config.get_text_config()
    return config.model_type, text.hidden_size, text.num_hidden_layers


def _seconds(
    config: TrainConfig, speeds: dict[StageName, float], judging: float | None, held_out: int, pairs: int
) -> dict[str, float]:
    """By stage and "gate". The first stage judges before and after, and thinks about pairs that have no thoughts."""
    found: dict[str, float] = {}
    if judging is None:
        return found
    steps = {"cold-start": config.cold_start.steps, "dual-rl": config.dual_rl.steps}
    for place, (stage, speed) in enumerate(speeds.items()):
        judged = held_out * (2 if place == 0 else 1) + (pairs if stage == "cold-start" else 0)
        found[stage] = round(steps[stage] * speed + judged * judging, 1)
    return found | {"gate": round(2 * held_out * judging, 1)}


def _title(name: str) -> str:
    """The first sentence of the comment that a preset's file begins with."""
    lines = (PRESETS / f"{name}.yaml").read_text("utf-8").splitlines()
    comment = " ".join(line.lstrip("# ") for line in lines if line.startswith("#"))
    return comment.partition(". ")[0].rstrip(".")


def _value(config: TrainConfig, knob: str) -> Any:
    found: Any = config
    for name in knob.split("."):
        found = getattr(found, name)
    return found


def _lines(offer: Offer) -> list[str]:
    memory = f"{_size(offer.memory_free)} of {_size(offer.memory_total)} memory free"
    lines = [f"{offer.checkpoint} on {offer.device_name}, {memory}{', busy with a run' if offer.busy else ''}"]
    for one in offer.presets:
        lines += ["", f"{one.name}: {one.title}"]
        if one.why_not is not None:
            lines.append(f"  can't run: {one.why_not}")
            continue
        lines.append(f"  {', '.join(f'{name}={value}' for name, value in one.knobs.items())}")
        if one.memory_bytes is not None:
            aside = "; the model that serves has to step aside" if one.steps_aside else ""
            lines.append(f"  memory: {_size(one.memory_bytes)}{aside}")
        told = ", ".join(f"{stage} {seconds:.0f} s" for stage, seconds in one.seconds.items())
        lines.append(f"  time: {told} (from {one.known_from})" if told else "  time: not known yet")
    return lines


def _size(count: float) -> str:
    return f"{count / 1e9:.1f} GB"
