"""The checkpoint that a run of the store begins from: where its files are, and whether it is of the benchmark's world."""

from __future__ import annotations

from typing import TYPE_CHECKING

from descore.checkpoints.folder import folder_fingerprint, locate
from storage import StorageError
from storage.training.model_registry import get_checkpoint, lineage, usable_location
from trainer.shapeworld.pairs import BENCHMARK_SPLIT

if TYPE_CHECKING:
    from storage import Database
    from storage.training.runs import Run

BENCHMARK_PAIRS = 100


def location(database: Database, checkpoint_id: int) -> str:
    """Locate a registered checkpoint, for `load_checkpoint`.

    Raises:
        StorageError: its files are gone, or are not those that were registered.
        CheckpointError: it can't be found.
    """
    with database.read() as session:
        checkpoint = get_checkpoint(session, checkpoint_id)
    if checkpoint.deleted_at is not None:
        raise StorageError(f"the checkpoint {checkpoint.name} was deleted; start a new run from another one")
    found = usable_location(checkpoint, database.home)
    if folder_fingerprint(locate(found)[0]) != checkpoint.fingerprint:
        raise StorageError(
            f"the files of the checkpoint {checkpoint.name} have changed since; start a new run from another one"
        )
    return found


def benchmark_pairs(database: Database, run: Run) -> int:
    """Count the ShapeWorld pairs of the gate: none, unless a checkpoint of the lineage is of that world."""
    with database.read() as session:
        family = lineage(session, run.parent_id) if run.parent_id is not None else ()
    count = run.request.get("benchmark_pairs", BENCHMARK_PAIRS)
    return int(count) if any(BENCHMARK_SPLIT in checkpoint.metrics for checkpoint in family) else 0
