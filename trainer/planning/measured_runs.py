"""Time and memory of earlier runs on a device: seconds of a step, seconds to judge a pair, bytes."""

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
    """A stage of an earlier run.

    Attributes:
        seconds: of a step, the median.
        memory_bytes: the most that the process held.
    """

    config: TrainConfig
    stage: StageName
    seconds: float
    memory_bytes: float


def measured_stages(database: Database, preset: str, device: str) -> Iterator[MeasuredStage]:
    """Read the stages of runs of a preset on a device that have some steps, the newest run first."""
    with database.read() as session:
        runs = list_runs(session, _RUNS, kind="train")
    for run in runs:
        if (run.preset, run.device) == (preset, device) and (config := _settings(run, database.home)) is not None:
            for stage in STAGES:
                rows = read_metrics(database.home / run.folder / stage)
                if len(rows) >= _LEAST_STEPS:
                    yield _measured(config, stage, rows)


def seconds_per_step(database: Database, config: TrainConfig, device: str) -> dict[StageName, float]:
    """Seconds of a step by stage, from the newest run of the same preset, scaled to the pairs and thoughts of `config`."""
    seconds: dict[StageName, float] = {}
    for measured in measured_stages(database, config.preset, device):
        if measured.stage not in seconds:
            scale = work(config, measured.stage) / work(measured.config, measured.stage)
            seconds[measured.stage] = measured.seconds * scale
    return seconds


def memory_bytes(database: Database, preset: str, device: str) -> float | None:
    """Return the most memory that a run of the preset has held; None if there was none."""
    return max((measured.memory_bytes for measured in measured_stages(database, preset, device)), default=None)


def seconds_per_judged_pair(database: Database, preset: str, device: str) -> float | None:
    """Seconds to judge a pair, from the newest gate of a run of the preset on the device; None if there was none."""
    with database.read() as session:
        runs = list_runs(session, _RUNS, kind="train")
        alike = {run.id for run in runs if (run.preset, run.device) == (preset, device)}
        checkpoints = list_checkpoints(session, deleted=True)
        gates = [checkpoint.gate for checkpoint in checkpoints if checkpoint.gate and checkpoint.run_id in alike]
    seconds = [gate["candidate"]["seconds_per_pair"] for gate in gates if gate["pairs"]]
    return seconds[-1] if seconds else None


def work(config: TrainConfig, stage: StageName) -> int:
    """Count the sequences of a step, which its time grows with."""
    if stage == "cold-start":
        return 2 * config.cold_start.pairs_per_step
    return 2 * config.dual_rl.pairs_per_step * config.dual_rl.objective.num_generations


def _settings(run: Run, home: Path) -> TrainConfig | None:
    try:
        return load_preset(home / run.folder / CONFIG)
    except ConfigError:  # it never began, or was written by another version
        return None


def _measured(config: TrainConfig, stage: StageName, rows: list[dict[str, Any]]) -> MeasuredStage:
    seconds = statistics.median(row["seconds"] for row in rows[1:] if row.get("seconds"))
    return MeasuredStage(config, stage, seconds, 1e9 * max(row.get("memory_gb") or 0.0 for row in rows))
