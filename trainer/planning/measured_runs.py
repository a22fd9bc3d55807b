"""What runs of the store took on a device: seconds of a step, seconds to judge a pair, memory."""

from __future__ import annotations

import statistics
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from storage.training.model_registry import list_checkpoints
from storage.training.run_folder import CONFIG, read_metrics
from storage.training.runs import Run, list_runs
from trainer.config import ConfigError, TrainConfig, load_preset
from trainer.paradigm import STAGES, StageName

if TYPE_CHECKING:
    from storage import Database

_RUNS = 50
_LEAST_STEPS = 2  # of which the first warms up


@dataclass(frozen=True)
class MeasuredStage:
    """A stage of a run. seconds: of a step, the median; memory_bytes: the most that the process held."""

    config: TrainConfig
    stage: StageName
    seconds: float
    memory_bytes: float


def measured_stages(database: Database, preset: str, device: str) -> Iterator[MeasuredStage]:
    """The stages of runs of a preset on a device that have some steps, the newest run first."""
    with database.read() as session:
        runs = list_runs(session, _RUNS, kind="train")
    for run in runs:
        if (run.preset, run.device) == (preset, device) and (config := _settings(run, database.home)) is not None:
            for stage in STAGES:
                rows = read_metrics(database.home / run.folder / stage)
                if len(rows) >= _LEAST_STEPS:
                    yield _seen(config, stage, rows)


def seconds_per_step(database: Database, config: TrainConfig, device: str) -> dict[StageName, float]:
    """By stage, from the newest run of the same preset; scaled to the pairs and thoughts of a step of `config`."""
    found: dict[StageName, float] = {}
    for one in measured_stages(database, config.preset, device):
        if one.stage not in found:
            found[one.stage] = one.seconds * work(config, one.stage) / work(one.config, one.stage)
    return found


def memory_bytes(database: Database, preset: str, device: str) -> float | None:
    """The most that a run of the preset has held; None if there was none."""
    return max((one.memory_bytes for one in measured_stages(database, preset, device)), default=None)


def seconds_per_judged_pair(database: Database, preset: str, device: str) -> float | None:
    """From the newest gate of a run of the preset on the device; None if there was none."""
    with database.read() as session:
        runs = list_runs(session, _RUNS, kind="train")
        alike = {run.id for run in runs if (run.preset, run.device) == (preset, device)}
        gates = [one.gate for one in list_checkpoints(session, deleted=True) if one.gate and one.run_id in alike]
    told = [gate["candidate"]["seconds_per_pair"] for gate in gates if gate["pairs"]]
    return told[-1] if told else None


def work(config: TrainConfig, stage: StageName) -> int:
    """Sequences of a step: what its time grows with."""
    if stage == "cold-start":
        return 2 * config.cold_start.pairs_per_step
    return 2 * config.dual_rl.pairs_per_step * config.dual_rl.objective.num_generations


def _settings(run: Run, home: Path) -> TrainConfig | None:
    try:
        return load_preset(home / run.folder / CONFIG)
    except ConfigError:  # it never began, or was written by another version
        return None


def _seen(config: TrainConfig, stage: StageName, rows: list[dict[str, Any]]) -> MeasuredStage:
    seconds = statistics.median(row["seconds"] for row in rows[1:] if row.get("seconds"))
    return MeasuredStage(config, stage, seconds, 1e9 * max(row.get("memory_gb") or 0.0 for row in rows))
