"""From a trained run to a registered checkpoint: its own folder, the gate, and the end of the run in one transaction.

    checkpoints/run-7/         the checkpoint, under the name of its run
    runs/7/gate.json           the comparison, as the registry keeps it

Each step goes on where an interrupted one stopped: the folder is written aside and renamed, judged pairs are kept one by
one, and the registry knows a checkpoint by its content.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from descore.checkpoints.folder import copy_checkpoint, folder_fingerprint, read_manifest
from descore.errors import CheckpointError
from storage import Database, StorageError
from storage.atomic import write_atomic
from storage.training.model_registry import (
    FOLDER,
    Checkpoint,
    get_checkpoint,
    kept_location,
    list_checkpoints,
    register_checkpoint,
    set_gate,
)
from storage.training.run_folder import CHECKPOINT, GATE, disk_bytes
from storage.training.runs import Run, finish
from trainer.data.pairs import LoadedPairs
from trainer.data.run_pairs import read_pairs
from trainer.evaluation.gate_judging import GateWork, JudgedCheckpoint, rename_judgements, run_gate
from trainer.runs.parent import benchmark_pairs, location

if TYPE_CHECKING:
    from trainer.config import TrainConfig
    from trainer.engine.stop_signals import StopSignals
    from trainer.evaluation.gate import Gate
    from trainer.evaluation.held_out import OnProgress


def publish(database: Database, run: Run, source: Path) -> Path:
    """Copy the run's checkpoint from `source` into its own folder among those that can serve, unless it is there.

    Raises:
        CheckpointError: `source` is incomplete, or the folder is taken.
    """
    folder = database.home / FOLDER / f"run-{run.id}"
    if not _is_of(folder, run):
        for leftover in folder.parent.glob(f".{folder.name}.*"):  # of a copy that was killed
            shutil.rmtree(leftover, ignore_errors=True)
        copy_checkpoint(source, folder, _free_name(database, run.name), {"run": run.id, "snapshot": run.snapshot_hash})
    if source.is_dir():  # of a run that was trained elsewhere the pairs are judged already
        run_folder = database.home / run.folder
        rename_judgements(run_folder, database.home, folder_fingerprint(source), folder_fingerprint(folder))
        shutil.rmtree(source, ignore_errors=True)
    return folder


def compete(
    database: Database, run: Run, folder: Path, config: TrainConfig, on_progress: OnProgress, stop: StopSignals
) -> tuple[JudgedCheckpoint, Gate]:
    """Run the gate of the checkpoint in `folder` against the run's rival.

    Raises:
        trainer.evaluation.gate_judging.GateStoppedError: a signal came in between.
        StorageError: the rival can't be used any more.
    """
    rival = rival_of(database, run)
    pairs = read_pairs(database.home / run.folder) or LoadedPairs((), (), ())
    candidate = JudgedCheckpoint(read_manifest(folder).name, str(folder), folder_fingerprint(folder))
    pairs_at_once = config.dual_rl.micro_batch_pairs * config.dual_rl.objective.num_generations
    count = benchmark_pairs(database, run)
    cached = config.data.frame_cache
    work = GateWork(database.home / run.folder, database.home, pairs_at_once, count, cached, familiar(pairs))
    gate = run_gate(candidate, rival, pairs.held_out, work, on_progress, stop)
    return candidate, gate


def rival_of(database: Database, run: Run) -> JudgedCheckpoint:
    """Return the checkpoint that the run's candidate is compared with.

    Raises:
        StorageError: there is none, or its files can't be used any more.
    """
    if run.rival_id is None:
        raise StorageError(f"run {run.id} names no checkpoint to compare with; start a new one")
    with database.read() as session:
        rival = get_checkpoint(session, run.rival_id)
    try:
        return JudgedCheckpoint(rival.name, location(database, rival.id), rival.fingerprint)
    except (StorageError, CheckpointError) as error:
        raise StorageError(f"there would be nothing to compare the result with: {error}") from error


def familiar(pairs: LoadedPairs) -> frozenset[str]:
    """Find the held-out pairs whose videos both occur in training pairs, with another partner or another prompt."""
    trained = {content for pair in pairs.train for content in pair.contents}
    return frozenset(pair.identity for pair in pairs.held_out if trained.issuperset(pair.contents))


def register(database: Database, run: Run, folder: Path, candidate: JudgedCheckpoint, gate: Gate) -> Checkpoint:
    """Register the checkpoint with its gate and end the run, in one transaction."""
    manifest, figures = read_manifest(folder), gate.to_dict() | {"rival_id": run.rival_id}
    write_atomic(database.home / run.folder / GATE, json.dumps(figures, indent=1, ensure_ascii=False))
    origin: dict[str, Any] = dict(manifest.lineage)
    with database.write() as session:
        checkpoint = register_checkpoint(
            session,
            name=manifest.name,
            location=kept_location(folder, database.home),
            fingerprint=candidate.fingerprint,
            parent_id=run.parent_id,
            run_id=run.id,
            stage=origin.get("stage"),
            snapshot_hash=run.snapshot_hash,
            settings=origin.get("config"),
            code_version=origin.get("code", ""),
            metrics=manifest.metrics,
            disk_bytes=disk_bytes(folder),
        )
        set_gate(session, checkpoint.id, figures)
        finish(session, run.id, "finished", 0, gate.sentence, checkpoint.id, gate.verdict)
    return replace(checkpoint, gate=figures)


def forget_steps(run_folder: Path) -> None:
    """Remove the checkpoints between the steps, which only an unfinished run needs."""
    for states in run_folder.glob("*/checkpoints"):
        shutil.rmtree(states, ignore_errors=True)


def trained_folder(run_folder: Path, stages: Sequence[str]) -> Path:
    """Folder of the checkpoint of the last trained stage."""
    trained = [stage for stage in stages if (run_folder / stage).is_dir()]
    return run_folder / trained[-1] / CHECKPOINT


def _is_of(folder: Path, run: Run) -> bool:
    """Whether the folder holds the whole checkpoint of this run."""
    try:
        origin = read_manifest(folder).lineage
    except CheckpointError:
        return False
    return (origin.get("run"), origin.get("snapshot")) == (run.id, run.snapshot_hash)


def _free_name(database: Database, name: str) -> str:
    """Find a name that no other checkpoint has, since manifest and registry both hold it."""
    with database.read() as session:
        taken = {checkpoint.name for checkpoint in list_checkpoints(session, deleted=True)}
    candidates = (name, *(f"{name} {number}" for number in range(2, len(taken) + 3)))
    return next(candidate for candidate in candidates if candidate not in taken)
