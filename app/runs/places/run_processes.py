"""Processes on this machine that work on runs: started, signalled, found again by the lock of the run's folder."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
from collections.abc import Sequence
from datetime import datetime, timezone
from pathlib import Path

from app.runs.places.place import PlaceError
from app.serving.zero_gpu import environment_of_children
from storage import Database, StorageError
from storage.data_home import data_home_id
from storage.training.run_folder import LOG, is_held, run_holder, tail
from storage.training.runs import Run, is_here, mark_running

PROJECT = Path(__file__).resolve().parents[3]
# The time that a started process may take until it holds the lock of its run.
BEGIN_SECONDS = 180.0
LAST_WORDS = 4000  # bytes


class RunProcesses:
    """The processes that this app has started for runs, and those that it finds."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._children: dict[int, subprocess.Popen[bytes]] = {}
        self._signalled: set[int] = set()

    def launch(self, run: Run, command: Sequence[str]) -> None:
        """Start a process for a run; what it says goes into the run's log.

        Raises:
            PlaceError: it can't be started.
        """
        folder = self.folder(run)
        folder.mkdir(parents=True, exist_ok=True)
        environment = {**environment_of_children(), "DESCORE_HOME": str(self._database.home), "PYTHONUNBUFFERED": "1"}
        try:
            with (folder / LOG).open("ab") as output:
                process = subprocess.Popen(
                    command,
                    cwd=PROJECT,
                    env=environment,
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=output,
                    start_new_session=True,
                )
        except OSError as error:
            raise PlaceError(f"it could not be started: {error}") from error
        self._children[run.id] = process
        self.forget_signals(run)
        with contextlib.suppress(StorageError), self._database.write() as session:
            mark_running(session, run.id, process.pid, data_home_id(self._database.home))

    def exit_code(self, run: Run) -> int | None:
        """Return the exit code of a process that has ended since the last call; None if none has."""
        process = self._children.get(run.id)
        code = None if process is None else process.poll()
        if code is not None:
            del self._children[run.id]
        return code

    def is_alive(self, run: Run) -> bool:
        """Whether a process works on the run, or will in a moment."""
        return run.id in self._children or is_held(self.folder(run)) or is_starting(run)

    def ask_to_end(self, run: Run) -> None:
        """Send SIGTERM, once."""
        if run.id not in self._signalled and self.send(run, signal.SIGTERM):
            self._signalled.add(run.id)

    def forget_signals(self, run: Run) -> None:
        """Let the next `ask_to_end` be heard."""
        self._signalled.discard(run.id)

    def send(self, run: Run, number: signal.Signals) -> bool:
        """Signal a run's process and its children; tell whether there was one."""
        if run.pid in (None, os.getpid()) or not is_here(run, self._database.home):
            return False
        # A data folder can be shared: a process of another machine must not be taken for one of ours.
        holder = run_holder(self.folder(run)) or {}
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

    def folder(self, run: Run) -> Path:
        """Return the run's folder in the data folder."""
        return self._database.home / run.folder

    def last_words(self, run: Run) -> str:
        """Return the last line that a process wrote, where it says why it ended."""
        return last_words(self.folder(run))


class PlaceOfProcesses:
    """The part of a place that all places have whose work is done by processes of this machine."""

    def __init__(self, processes: RunProcesses) -> None:
        self._processes = processes

    def cancel(self, run: Run) -> None:
        """Send SIGTERM, which a process takes for a wish to end after its step."""
        self._processes.ask_to_end(run)

    def end(self, run: Run) -> bool:
        """Kill the process; tell whether there was one."""
        return self._processes.send(run, signal.SIGKILL)

    def resumed(self, run: Run) -> None:
        """Forget an earlier wish to end a run."""
        self._processes.forget_signals(run)


def last_words(folder: Path) -> str:
    """Return the last line of the log in a run's folder."""
    lines = [line.strip() for line in tail(folder, LAST_WORDS).splitlines()]
    return next((line for line in reversed(lines) if line), "")


def is_starting(run: Run) -> bool:
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
