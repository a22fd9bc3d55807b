"""Training and measuring from Python, with results in the place of exit codes.

    result = train("runs/api", preset="tiny-cpu", settings=["cold_start.steps=2", "dual_rl.steps=0"], csv="pairs.csv")
    result.finished, result.checkpoint                  # True, runs/api/cold-start/checkpoint

`python -m trainer` does the same from a shell. Both go on in a folder that holds a run.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from trainer.config import DataConfig, TrainConfig, load_preset, preset_names

if TYPE_CHECKING:
    from trainer.paradigm import Paradigm, StageName

StagesName = Literal["run", "cold-start", "dual-rl"]
STAGES: dict[StagesName, list[StageName]] = {
    "run": ["cold-start", "dual-rl"],
    "cold-start": ["cold-start"],
    "dual-rl": ["dual-rl"],
}


@dataclass(frozen=True)
class TrainResult:
    """What a run left.

    Attributes:
        folder: of the run.
        finished: False where a signal ended it at a step boundary; the same call goes on there.
        checkpoint: folder of the last finished stage's checkpoint; None where no stage is finished.
        reports: each stage's report by its name, such as reports["dual-rl"]["after"], the agreement on held-out pairs.
    """

    folder: Path
    finished: bool
    checkpoint: Path | None
    reports: dict[str, dict[str, Any]]


def train(
    out: str | Path,
    preset: str | Path | None = None,
    settings: Sequence[str] = (),
    *,
    stages: StagesName = "run",
    paradigm: Paradigm | None = None,
    checkpoint: str | None = None,
    csv: str | Path | None = None,
    videos: str | Path | None = None,
) -> TrainResult:
    """Train a checkpoint on labelled pairs, in this process.

    Args:
        out: the run's folder; a run that is there goes on.
        preset: name of a preset, or a YAML file; only for a new run.
        settings: changes to it, such as "cold_start.steps=100".
        stages: both, or one of them.
        paradigm: the method, or one of the baselines.
        checkpoint: what to start from: a name, folder or Hub id.
        csv: a table of labelled pairs, in the place of the store.
        videos: the folder that the table's paths start from; by default the table's own.

    Raises:
        ValueError: settings, table or folder that can't be used; among them trainer.runs.errors.RunRefusedError.
        descore.errors.CheckpointError, storage.StorageError: checkpoint or pairs can't be read.
        trainer.engine.loop.TrainingFailedError: the numbers were not finite.
    """
    from trainer.runs.pipeline import run, settle

    if stages not in STAGES:
        raise ValueError(f"stages is one of {', '.join(STAGES)}, not {stages!r}")
    folder = Path(out)
    config = settle(settings_of(folder, preset, settings, paradigm, checkpoint, csv, videos), folder)
    code = run(STAGES[stages], config, folder)
    return read_result(folder, finished=code == 0)


def evaluate(
    checkpoint: str | Path = "bundled", *, csv: str | Path | None = None, videos: str | Path | None = None
) -> dict[str, Any]:
    """Measure how well a checkpoint agrees with the held-out pairs of the store, or of a table.

    `descore.evaluate` measures on all rows of a table.

    Args:
        checkpoint: a name, folder or Hub id.
        csv, videos: as in `train`.

    Returns:
        Accuracies with intervals, format and sub-scores of the thoughts, as `python -m trainer evaluate --json` prints them.

    Raises:
        descore.errors.CheckpointError, descore.errors.RewardError, storage.StorageError, ValueError: as `evaluate_held_out`.
    """
    from trainer.evaluation.held_out import evaluate_held_out

    return evaluate_held_out(str(checkpoint), data_of(DataConfig(), csv, videos))


def settings_of(
    folder: Path,
    preset: str | Path | None,
    settings: Sequence[str],
    paradigm: Paradigm | None,
    checkpoint: str | None,
    csv: str | Path | None,
    videos: str | Path | None,
) -> TrainConfig:
    """Return the settings of a new run, or of the run in `folder`; arguments and errors as in `train`."""
    from storage.training.run_folder import CONFIG

    kept = folder / CONFIG
    source = preset or (kept if kept.exists() else None)
    if source is None:
        raise ValueError(f"a new run needs a preset (--preset): {', '.join(preset_names())}, or a YAML file")
    config = load_preset(source, settings)
    if paradigm:
        config = replace(config, paradigm=paradigm)
    if checkpoint:
        config = replace(config, model=replace(config.model, checkpoint=checkpoint))
    return replace(config, data=data_of(config.data, csv, videos))


def data_of(settings: DataConfig, csv: str | Path | None, videos: str | Path | None) -> DataConfig:
    """Put a table and its folder into the data settings, as absolute paths: a run may go on from another folder.

    Raises:
        ValueError: the folder of a table's videos without a table.
    """
    if videos is not None and csv is None and settings.csv is None:
        raise ValueError("videos (--videos) is the folder of a table's videos; it needs csv (--csv)")
    if csv is not None:
        settings = replace(settings, csv=str(Path(csv).absolute()))
    return settings if videos is None else replace(settings, videos=str(Path(videos).absolute()))


def read_result(folder: Path, finished: bool) -> TrainResult:
    """Read what the stages of a run have left."""
    from storage.training.run_folder import CHECKPOINT, REPORT

    reports: dict[str, dict[str, Any]] = {}
    checkpoint = None
    for stage in STAGES["run"]:
        if (path := folder / stage / REPORT).exists():
            reports[stage] = json.loads(path.read_text("utf-8"))
            if reports[stage]["status"] == "finished":
                checkpoint = folder / stage / CHECKPOINT
    return TrainResult(folder, finished, checkpoint, reports)
