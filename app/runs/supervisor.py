"""Runs at their places: started one a device, supervised, ended, found again after a restart of the app.

    supervisor = RunSupervisor(database, serving)
    supervisor.start()                       # a thread that supervises the runs of the store until `close`
    supervisor.cancel(run_id); supervisor.resume(run_id)

The state of a run is in the store and in its folder, never here; where and how it works is its place's business
(`app.runs.places`). A run that goes on by its row and is gone at its place is marked lost. A run outlives the app.
"""

from __future__ import annotations

import contextlib
import logging
import os
import threading
from datetime import datetime, timezone
from pathlib import Path
from typing import Literal

from app.runs.places.place import PlaceError, PlaceState
from app.runs.places.places import Places
from app.serving.follow_registry import RegistryFollower
from app.serving.serving import Serving
from storage import Database, StorageError
from storage.data_home import data_home_id
from storage.schema import RunState
from storage.training.run_queue import next_queued
from storage.training.runs import (
    Run,
    finish,
    get_run,
    is_here,
    mark_lost,
    mark_running,
    request_cancel,
    requeue,
    runs_in,
    set_progress,
)

log = logging.getLogger(__name__)

TICK_SECONDS = 1.0
# A run ends after the step that it is in, which can take minutes; then it is ended at once.
GRACE_SECONDS = 600.0
ENDED_AT_ONCE = "ended at once; it can go on from its last checkpoint"


class RunSupervisor:
    """Supervises the runs of one store whose data folder this machine has.

    Attributes:
        places: where they run.
    """

    def __init__(self, database: Database, serving: Serving, places: Places | None = None) -> None:
        """Set the places, by default those of this machine."""
        self._database, self.places = database, places or Places(database, serving)
        self._follower = RegistryFollower(database, serving)
        self._wake, self._stop = threading.Event(), threading.Event()
        self._thread: threading.Thread | None = None
        # One tick at a time: a handler that cancels may tick, too.
        self._one_tick = threading.Lock()

    def start(self) -> None:
        """Begin to supervise the runs, in a thread."""
        if self._thread is None:
            self._stop.clear()
            self._thread = threading.Thread(target=self._poll, name="run-supervisor", daemon=True)
            self._thread.start()

    def close(self) -> None:
        """Stop supervising. Runs go on by themselves."""
        self._stop.set()
        self._wake.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def wake(self) -> None:
        """Run the next polling step now, since something has changed."""
        self._wake.set()

    def cancel(self, run_id: int) -> Run:
        """End a run: a queued one now, a running one after its step, with a checkpoint to resume from.

        Raises:
            StorageError: it has ended already.
        """
        with self._database.write() as session:
            run = request_cancel(session, run_id)
        self.wake()
        return run

    def end_at_once(self, run_id: int) -> None:
        """End a running run without waiting for its step; the steps since its last checkpoint are done again.

        Raises:
            StorageError: there is nothing of it that could be ended from here.
        """
        with self._database.write() as session:
            run = request_cancel(session, run_id)
        if not is_here(run, self._database.home) or not self.places.of(run).end(run):
            raise StorageError(f"run {run_id} does not run on this machine")
        self.wake()

    def resume(self, run_id: int) -> Run:
        """Put a run that was cancelled, failed or lost back into the queue; it goes on from its last checkpoint.

        Raises:
            StorageError: it did not end that way.
        """
        with self._database.write() as session:
            run = requeue(session, run_id)
        self.places.of(run).resumed(run)
        self.wake()
        return run

    def bring_back(self, run_id: int, folder: Path) -> Run:
        """Start to take the result of a packed run back from a folder of this machine.

        Raises:
            StorageError: the run is not away, or the folder is not its finished pack.
        """
        run = self._run(run_id)
        self.places.elsewhere.bring_back(run, folder)
        self.wake()
        return run

    def tick(self) -> None:
        """Run one polling step: note ended runs, end cancelled ones, begin queued ones, follow the registry.

        Raises:
            StorageError: the store can't be read or written.
        """
        with self._one_tick:
            for step in (
                self._look,
                self._end_cancelled,
                self._begin,
                self._follower.tick,
            ):
                step()

    def _poll(self) -> None:
        while not self._stop.is_set():
            try:
                self.tick()
            except Exception:
                log.exception("supervising the runs failed; it is tried again")
            self._wake.wait(TICK_SECONDS)
            self._wake.clear()

    # ---- what has ended ------------------------------------------------------------------------------------------

    def _look(self) -> None:
        """Ask the places about the runs that go on by their rows."""
        for run in self._runs("running"):
            if not is_here(run, self._database.home):
                continue
            # The place first and the row after it: a run says that it has ended before it is gone.
            state = self.places.of(run).state(run)
            if state.progress is not None:
                with contextlib.suppress(StorageError), self._database.write() as session:
                    set_progress(session, run.id, state.progress)
            if state.ended is not None:
                self._note_end(self._run(run.id), state)

    def _note_end(self, run: Run, state: PlaceState) -> None:
        """Write into a row that its run has ended, unless it did so itself."""
        if run.state != "running":
            return
        if state.ended == "failed":
            self._finish(run, "failed", state.exit_code, state.message)
        elif run.cancel_requested_at is not None:
            self._finish(run, "cancelled", None, state.message if run.place == "elsewhere" else ENDED_AT_ONCE)
        else:
            with self._database.write() as session:
                mark_lost(session, run.id, state.message)

    def _finish(self, run: Run, state: Literal["failed", "cancelled"], exit_code: int | None, message: str) -> None:
        # It may have noted its own end meanwhile; that counts.
        with contextlib.suppress(StorageError), self._database.write() as session:
            finish(session, run.id, state, exit_code=exit_code, message=message)

    # ---- what is to end ------------------------------------------------------------------------------------------

    def _end_cancelled(self) -> None:
        for run in self._runs("running"):
            asked_at = run.cancel_requested_at
            if asked_at is None or not is_here(run, self._database.home):
                continue
            place = self.places.of(run)
            place.cancel(run)
            if (datetime.now(timezone.utc) - asked_at).total_seconds() > GRACE_SECONDS:
                place.end(run)

    # ---- what is to begin ----------------------------------------------------------------------------------------

    def _begin(self) -> None:
        while self._runs("queued"):
            with self._database.write() as session:
                run = next_queued(session)
                if run is None:
                    return
                # Taken, so that no other app takes it too; its own process says so again, with its own number.
                run = mark_running(session, run.id, os.getpid(), data_home_id(self._database.home))
            try:
                self.places.of(run).start(run)
            except PlaceError as error:
                self._finish(run, "failed", None, str(error))

    # ---- runs ----------------------------------------------------------------------------------------------------

    def _runs(self, state: RunState) -> tuple[Run, ...]:
        with self._database.read() as session:
            return runs_in(session, state)

    def _run(self, run_id: int) -> Run:
        with self._database.read() as session:
            return get_run(session, run_id)
