"""Settings of a run of the store: preset, changes and checkpoint of its row, or what its folder kept when it began."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from storage.errors import StorageError
from storage.training.run_folder import CONFIG
from trainer.config import ModelConfig, TrainConfig, load_preset, preset_names
from trainer.runs.errors import RunRefusedError
from trainer.runs.parent import location

if TYPE_CHECKING:
    from storage import Database
    from storage.training.runs import Run
    from trainer.paradigm import StageName

# Settings that a run of the store takes from its row: files, and the checkpoint that it starts from.
_FIXED = ("data.", "model.checkpoint", "preset", "paradigm")


def run_settings(database: Database, run: Run) -> TrainConfig:
    """Read the settings from the run folder, or for a new run from its row.

    Raises:
        RunRefusedError, ValueError: the row asks for something that there is not.
        StorageError, CheckpointError: its checkpoint can't be used any more.
    """
    kept = database.home / run.folder / CONFIG
    if run.parent_id is None:
        raise StorageError(f"run {run.id} names no checkpoint to start from")
    if run.preset not in preset_names():
        raise RunRefusedError(f"there is no preset {run.preset}; presets are {', '.join(preset_names())}")
    refused = [override for override in run.overrides if override.strip().startswith(_FIXED)]
    if refused:
        raise RunRefusedError(f"{', '.join(refused)}: data and checkpoint of a run come from its row")
    config = load_preset(kept) if kept.exists() else load_preset(run.preset, run.overrides)
    model: ModelConfig = replace(config.model, checkpoint=location(database, run.parent_id))
    snapshot = run.snapshot or {}
    data = replace(
        config.data,
        **{
            name: snapshot[name] for name in ("held_out_share", "held_out_by", "min_labels", "consensus") if name in snapshot
        },
        campaigns=tuple(snapshot.get("campaigns", ())),
    )
    return replace(config, model=model, data=data)


def stage_names(run: Run) -> list[StageName]:
    """Return the stages of a run.

    Raises:
        RunRefusedError: there is no such stage.
    """
    return to_stage_names(run.stages)


def to_stage_names(names: Sequence[str]) -> list[StageName]:
    """Check the names of stages.

    Raises:
        RunRefusedError: there is no such stage.
    """
    return [_stage(name) for name in names]


def _stage(name: str) -> StageName:
    if name == "cold-start":
        return "cold-start"
    if name == "dual-rl":
        return "dual-rl"
    raise RunRefusedError(f"there is no stage {name}; stages are cold-start and dual-rl")
