"""Queueing of runs that judge pairs of the store with a registered checkpoint, as the Analyse and the Train page do.

run = queue_scoring(database, serving, checkpoint.id, {"pairs": [1, 2, 3], "modes": ["think"]}, lead.id)
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from app.serving.serving import Serving
from storage import Database
from storage.training.model_registry import get_checkpoint
from storage.training.runs import Run, RunRequest, create_run, list_runs


def queue_scoring(database: Database, serving: Serving, checkpoint_id: int, request: Mapping[str, Any], by: int) -> Run:
    """Put a scoring into the queue of the device on which the app judges.

    Args:
        request: which pairs and modes, see `trainer.evaluation.score_pairs`.
        by: a user's id.

    Raises:
        NotInStoreError: there is no such checkpoint.
        StorageError: it was deleted.
    """
    device = scoring_device(database, serving)
    with database.write() as session:
        checkpoint = get_checkpoint(session, checkpoint_id)
        wanted = RunRequest("score", f"score {checkpoint.name}", device, parent_id=checkpoint.id, request=request)
        return create_run(session, wanted, None, by)


def scoring_device(database: Database, serving: Serving) -> str:
    """Return the device of the app's own model; while that is offloaded, the device of the last run."""
    model = serving.now.model
    if model is not None and not serving.elsewhere:
        return str(model.model.device.type)
    with database.read() as session:
        return next((run.device for run in list_runs(session, 1)), "cpu")
