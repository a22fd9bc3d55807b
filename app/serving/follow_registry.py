"""Keeping the checkpoint that serves here in step with the registry, after runs and after other apps on the same store.

follower = RegistryFollower(database, serving)
follower.tick()      # restore the model after a run, follow another app, promote what may be promoted automatically
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

RESTORE_SECONDS = 30.0  # between attempts to load an offloaded model
FOLLOW_SECONDS = 300.0  # between attempts to load what another app promoted and can't be used here
WATCHED = 50  # newest runs, and promotions, that are looked at for automatic promotion


class RegistryFollower:
    """Keeps an app's `Serving` in step with the registry; `app.runs.supervisor` calls `tick` again and again."""

    def __init__(self, database: Database, serving: Serving) -> None:
        self._database, self._serving = database, serving
        self._restore_at = self._follow_at = 0.0
        self._not_promoted: set[int] = set()

    def tick(self) -> None:
        """Run one polling step.

        Raises:
            StorageError: the store can't be read or written.
        """
        self._restore()
        self._follow()
        self._promote()

    def _restore(self) -> None:
        """Load the model again once no run needs its memory."""
        if self._serving.now.model is not None or time.monotonic() < self._restore_at:
            return
        with self._database.read() as session:
            running = runs_in(session, "running")
        if any(is_here(run, self._database.home) and run.request.get("steps_aside") for run in running):
            return
        try:
            self._serving.restore()
        except (CheckpointError, RuntimeError) as error:
            log.warning("the model can't be restored yet: %s", error)
            self._restore_at = time.monotonic() + RESTORE_SECONDS

    def _follow(self) -> None:
        """Serve the checkpoint that another app on this store promoted."""
        if time.monotonic() < self._follow_at:
            return
        try:
            if self._serving.follow(self._database):
                log.info("%s serves now, since another app promoted it", self._serving.now.name)
        except CheckpointError as error:
            log.warning("what another app promoted can't be used here: %s", error)
            self._follow_at = time.monotonic() + FOLLOW_SECONDS

    def _promote(self) -> None:
        """Promote, once only, a finished candidate that the gate found better, where the run asks for that."""
        with self._database.read() as session:
            runs = list_runs(session, WATCHED, "train")
        for run in runs:
            if run.state != "finished" or not run.auto_promote or run.candidate_id is None:
                continue
            if run.rival_id != self._serving.checkpoint_id:  # another one serves by now, with which it was not compared
                continue
            with self._database.read() as session:
                candidate = get_checkpoint(session, run.candidate_id)
                promoted = {promotion.checkpoint_id for promotion in promotions(session, WATCHED)}
            better = (candidate.gate or {}).get("verdict") == "better" and candidate.deleted_at is None
            if not better or candidate.id in promoted | self._not_promoted:
                continue
            try:
                self._serving.promote(self._database, candidate.id, "automatic")
            except CheckpointError as error:
                log.warning("%s can't be promoted: %s", candidate.name, error)
                self._not_promoted.add(candidate.id)
