"""What the end of a run, or another app on the same store, means for the checkpoint that serves here.

watch = ServingWatch(database, serving)
watch.tick()      # come back after a run, follow another app, promote what was to be promoted by itself
"""

from __future__ import annotations

import logging
import time

from app.serving.serving import Serving
from descore.errors import CheckpointError
from storage import Database
from storage.training.model_registry import get_checkpoint, promotions
from storage.training.runs import is_here, list_runs, runs_in

log = logging.getLogger(__name__)

RESTORE_SECONDS = 30.0  # between attempts to load a model that has stepped aside
FOLLOW_SECONDS = 300.0  # between attempts to load what another app promoted and can't be used here
WATCHED = 50  # newest runs, and promotions, that are looked at for automatic promotion


class ServingWatch:
    """Looks after what serves in this app; `app.runs.supervisor.Jobs` calls it again and again."""

    def __init__(self, database: Database, serving: Serving) -> None:
        self._database, self._serving = database, serving
        self._restore_at = self._follow_at = 0.0
        self._not_promoted: set[int] = set()

    def tick(self) -> None:
        """Look once.

        Raises:
            StorageError: the store can't be read or written.
        """
        self._restore()
        self._follow()
        self._promote()

    def _restore(self) -> None:
        """Load the model again once nothing runs that it had to step aside for."""
        if self._serving.now.model is not None or time.monotonic() < self._restore_at:
            return
        with self._database.read() as session:
            running = runs_in(session, "running")
        if any(is_here(run, self._database.home) and run.request.get("steps_aside") for run in running):
            return
        try:
            self._serving.restore()
        except (CheckpointError, RuntimeError) as error:
            log.warning("the model can't come back yet: %s", error)
            self._restore_at = time.monotonic() + RESTORE_SECONDS

    def _follow(self) -> None:
        """Serve what another app on this store promoted."""
        if time.monotonic() < self._follow_at:
            return
        try:
            if self._serving.follow(self._database):
                log.info("%s serves now, since another app promoted it", self._serving.now.name)
        except CheckpointError as error:
            log.warning("what another app promoted can't be used here: %s", error)
            self._follow_at = time.monotonic() + FOLLOW_SECONDS

    def _promote(self) -> None:
        """Promote what finished better than what serves, where that was asked for; once only."""
        with self._database.read() as session:
            runs = list_runs(session, WATCHED, "train")
        for run in runs:
            if run.state != "finished" or not run.auto_promote or run.candidate_id is None:
                continue
            if run.rival_id != self._serving.checkpoint_id:  # another one serves by now, with which it was not compared
                continue
            with self._database.read() as session:
                candidate = get_checkpoint(session, run.candidate_id)
                known = {one.checkpoint_id for one in promotions(session, WATCHED)}
            better = (candidate.gate or {}).get("verdict") == "better" and candidate.deleted_at is None
            if not better or candidate.id in known | self._not_promoted:
                continue
            try:
                self._serving.promote(self._database, candidate.id, "automatic")
            except CheckpointError as error:
                log.warning("%s can't be promoted: %s", candidate.name, error)
                self._not_promoted.add(candidate.id)
