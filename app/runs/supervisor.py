"""Runs in processes of their own: started one a device, supervised, ended, found again after a restart of the app.

    supervisor = RunSupervisor(database, serving)
    supervisor.start()                       # a thread that supervises the runs of the store until `close`
    supervisor.cancel(run_id); supervisor.resume(run_id)

The state of a run is in the store and in its folder, never here. A run that holds the lock of its folder is alive; one that
is running by the store and holds no lock has died, and is marked lost. A run outlives the app.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Literal

from app.serving.follow_registry import RegistryFollower
from app.serving.serving import Serving, offload_reason
from app.serving.zero_gpu import environment_of_children
from storage import Database, StorageError
from storage.data_home import data_home_id
from storage.schema import RunState
from storage.training.run_folder import LOG, is_held, run_holder, tail
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
)

log = logging.getLogger(__name__)

PROJECT = Path(__file__).resolve().parents[2]
COMMAND = (sys.executable, "-m", "trainer", "run")
TICK_SECONDS = 1.0
# A run ends after the step that it is in, which can take minutes; then it is ended at once.
GRACE_SECONDS = 600.0
# The time that a started process may take until it holds the lock of its run.
BEGIN_SECONDS = 180.0
LAST_WORDS = 4000  # bytes


class RunSupervisor:
    """Supervises the runs of one store on this machine."""

    def __init__(self, database: Database, serving: Serving, command: Sequence[str] = COMMAND) -> None:
        """Set the command that does a run, given its number."""
        self._database, self._serving, self._command = database, serving, tuple(command)
        self._children: dict[int, subprocess.Popen[bytes]] = {}
        self._signalled: set[int] = set()
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
            StorageError: it does not run on this machine.
        """
        with self._database.write() as session:
            run = request_cancel(session, run_id)
        if not self._send(run, signal.SIGKILL):
            raise StorageError(f"run {run_id} does not run on this machine")
        self.wake()

    def resume(self, run_id: int) -> Run:
        """Put a run that was cancelled, failed or lost back into the queue; it goes on from its last checkpoint.

        Raises:
            StorageError: it did not end that way.
        """
        with self._database.write() as session:
            run = requeue(session, run_id)
        self._signalled.discard(run_id)
        self.wake()
        return run

    def tick(self) -> None:
        """Run one polling step: note ended runs, end cancelled ones, begin queued ones, follow the registry.

        Raises:
            StorageError: the store can't be read or written.
        """
        with self._one_tick:
            for step in (
                self._reap,
                self._mark_dead,
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

    def _reap(self) -> None:
        """Note which of our processes have ended. One with an exit code and no word in the store failed before it could."""
        for run_id, process in list(self._children.items()):
            code = process.poll()
            if code is None:
                continue
            del self._children[run_id]
            run = self._run(run_id)
            if run.state == "running" and code > 0 and run.pid in (process.pid, None) and not is_held(self._folder(run)):
                self._finish(run, "failed", code, last_words(self._folder(run)) or "it could not be started")

    def _mark_dead(self) -> None:
        for run in self._runs("running"):
            # The lock first and the state after it: a run says that it has ended before it gives the lock back.
            if not is_here(run, self._database.home) or run.id in self._children:
                continue
            if is_held(self._folder(run)) or _is_starting(run):
                continue
            run = self._run(run.id)
            if run.state != "running":
                continue
            if run.cancel_requested_at is not None:
                self._finish(run, "cancelled", None, "ended at once; it can go on from its last checkpoint")
            else:
                with self._database.write() as session:
                    mark_lost(session, run.id, "its process died without a word; it can go on from its last checkpoint")

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
            if run.id not in self._signalled:
                if self._send(run, signal.SIGTERM):
                    self._signalled.add(run.id)
            elif (datetime.now(timezone.utc) - asked_at).total_seconds() > GRACE_SECONDS:
                self._send(run, signal.SIGKILL)

    def _send(self, run: Run, number: signal.Signals) -> bool:
        """Signal a run's process and its children; tell whether there was one."""
        if run.pid in (None, os.getpid()) or not is_here(run, self._database.home):
            return False
        # A data folder can be shared: a process of another machine must not be taken for one of ours.
        holder = run_holder(self._folder(run)) or {}
        if run.id not in self._children and holder.get("host") != socket.gethostname():
            return False
        with contextlib.suppress(ProcessLookupError):
            # A run that was started by hand may share its group with a shell.
            if os.getpgid(run.pid) == run.pid:
                os.killpg(run.pid, number)
            else:
                os.kill(run.pid, number)
            return True
        return False

    # ---- what is to begin ----------------------------------------------------------------------------------------

    def _begin(self) -> None:
        while self._runs("queued"):
            with self._database.write() as session:
                run = next_queued(session)
                if run is None:
                    return
                # Taken, so that no other app takes it too; its own process says so again, with its own number.
                run = mark_running(session, run.id, os.getpid(), data_home_id(self._database.home))
            self._launch(run)

    def _launch(self, run: Run) -> None:
        """Start the process of a run that was taken from the queue."""
        if run.request.get("steps_aside") and self._serving.now.model is not None and not self._serving.elsewhere:
            self._serving.offload(offload_reason(run))
        folder = self._folder(run)
        folder.mkdir(parents=True, exist_ok=True)
        environment = {**environment_of_children(), "DESCORE_HOME": str(self._database.home), "PYTHONUNBUFFERED": "1"}
        try:
            with (folder / LOG).open("ab") as output:
                process = subprocess.Popen(
                    [*self._command, str(run.id)],
                    cwd=PROJECT,
                    env=environment,
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=output,
                    start_new_session=True,
                )
        except OSError as error:
            self._finish(run, "failed", None, f"it could not be started: {error}")
            return
        self._children[run.id] = process
        with contextlib.suppress(StorageError), self._database.write() as session:
            mark_running(session, run.id, process.pid, data_home_id(self._database.home))

    # ---- runs ----------------------------------------------------------------------------------------------------

    def _runs(self, state: RunState) -> tuple[Run, ...]:
        with self._database.read() as session:
            return runs_in(session, state)

    def _run(self, run_id: int) -> Run:
        with self._database.read() as session:
            return get_run(session, run_id)

    def _folder(self, run: Run) -> Path:
        return self._database.home / run.folder


def _is_starting(run: Run) -> bool:
    """Tell whether a process was started for it a short while ago, and is alive."""
    if run.pid is None or run.started_at is None:
        return False
    if (datetime.now(timezone.utc) - run.started_at).total_seconds() > BEGIN_SECONDS:
        return False
    try:
        os.kill(run.pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def last_words(folder: Path) -> str:
    """Return the last line that a process wrote, where it says why it ended."""
    lines = [line.strip() for line in tail(folder, LAST_WORDS).splitlines()]
    return next((line for line in reversed(lines) if line), "")
