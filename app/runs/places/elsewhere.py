"""Elsewhere: a run is packed into one folder, trained where the folder is taken to, and its result brought back.

packs/run-7/       in the data folder, unless `python -m trainer pack 7 OUT` chose another one
"""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from app.runs.places.place import THERE, PlaceError, PlaceState
from app.runs.places.run_processes import RunProcesses
from app.runs.places.this_machine import GONE
from storage import Database
from storage.training.model_registry import get_checkpoint
from storage.training.pack_folder import AWAY, PACKS, RUN, read_pack, read_result, run_key
from storage.training.run_folder import REPORT, tail
from storage.training.runs import Run

TRAINER = (sys.executable, "-m", "trainer")


class Elsewhere:
    """Runs that are packed here and trained where nobody here sees them."""

    def __init__(self, database: Database, processes: RunProcesses, trainer: Sequence[str] = TRAINER) -> None:
        """Set the command whose `pack`, `unpack` and `run` do the work."""
        self._database, self._processes, self._trainer = database, processes, tuple(trainer)

    def start(self, run: Run) -> None:
        """Pack the run, or compare its result where that is back already.

        Raises:
            PlaceError: the process can't be started.
        """
        is_back = all(_is_trained(self._processes.folder(run) / stage) for stage in run.stages)
        command = ("run", str(run.id)) if is_back else ("pack", str(run.id), str(self.pack(run)))
        self._processes.launch(run, (*self._trainer, *command))

    def state(self, run: Run) -> PlaceState:
        """Tell whether the run is away, or a process packs it, brings it back or compares it."""
        code = self._processes.exit_code(run)
        if self.is_busy(run):
            return THERE
        if is_away(run):
            if run.cancel_requested_at is None:
                return THERE
            return PlaceState("lost", f"cancelled; its result can still be brought back from {self.pack(run)}")
        if code is not None and code > 0:
            return PlaceState("failed", self._processes.last_words(run) or "it could not be packed", code)
        return PlaceState("lost", GONE)

    def cancel(self, run: Run) -> None:
        """End a process that works on the run; one that is away needs no asking."""
        self._processes.ask_to_end(run)

    def end(self, run: Run) -> bool:
        """Kill a process that works on the run."""
        return self._processes.send(run, signal.SIGKILL)

    def resumed(self, run: Run) -> None:
        """Forget an earlier wish to end a run."""
        self._processes.forget_signals(run)

    def folder(self, run: Run) -> Path:
        """Return the run's folder in its pack, while it is away and the pack can be seen from here."""
        packed = self.pack(run) / RUN
        return packed if is_away(run) and packed.is_dir() else self._processes.folder(run)

    def tail(self, run: Run, size: int) -> str:
        """Return the end of the log: of the training, where the pack can be seen from here."""
        return tail(self.folder(run), size) or tail(self._processes.folder(run), size)

    def is_busy(self, run: Run) -> bool:
        """Whether a process of this machine packs the run, brings it back or compares it."""
        return self._processes.is_alive(run)

    def pack(self, run: Run) -> Path:
        """Return the folder of a run's pack."""
        return Path(run.job) if run.job else self._database.home / PACKS / f"run-{run.id}"

    def bring_back(self, run: Run, folder: Path) -> None:
        """Start to take the result of a pack back. What is wrong at first sight is said at once, the rest in the row.

        Args:
            folder: of the finished pack, on this machine.

        Raises:
            PlaceError: the run is not away.
            PackError: the folder is no pack of this run, or is not finished.
        """
        if not is_away(run):
            raise PlaceError(f"run {run.id} is not away; there is nothing to bring back")
        if self.is_busy(run):
            raise PlaceError(f"a process works on run {run.id} just now; try again in a moment")
        pack = read_pack(folder)
        with self._database.read() as session:
            parent = None if run.parent_id is None else get_checkpoint(session, run.parent_id)
        if pack.run != run.id or parent is None or run_key(run, parent.fingerprint) != pack.key:
            raise PlaceError(f"{folder.name} is the pack of another run; give that of run {run.id}")
        if read_result(folder, pack) is None:
            raise PlaceError(
                f"{folder.name} is not finished. Let `python -m trainer run {folder.name}` end where it runs, and copy the "
                "folder here again"
            )
        self._processes.launch(run, (*self._trainer, "unpack", str(folder)))


def is_away(run: Run) -> bool:
    """Whether a run is packed, and its result not back."""
    return run.place == "elsewhere" and run.state == "running" and run.progress.get("stage") == AWAY


def _is_trained(stage_folder: Path) -> bool:
    try:
        report = json.loads((stage_folder / REPORT).read_text("utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(report, dict) and report.get("status") == "finished"
