"""Elsewhere: a run is packed into one folder, trained where the folder is taken to, and its result brought back.

packs/run-7/       in the data folder, unless `python -m trainer pack 7 OUT` chose another one
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from app.runs.places.place import THERE, PlaceError, PlaceState
from app.runs.places.run_processes import PlaceOfProcesses, RunProcesses
from app.runs.places.this_machine import GONE
from storage import Database
from storage.training.pack_folder import AWAY, PACKS, RUN, is_pack_of, read_pack, read_result
from storage.training.run_folder import is_finished, tail
from storage.training.runs import Run

TRAINER = (sys.executable, "-m", "trainer")


class Elsewhere(PlaceOfProcesses):
    """Runs that are packed here and trained where nobody here sees them; one that is away needs no asking to end."""

    def __init__(self, database: Database, processes: RunProcesses, trainer: Sequence[str] = TRAINER) -> None:
        """Set the command whose `pack`, `unpack` and `run` do the work."""
        super().__init__(processes)
        self._database, self._trainer = database, tuple(trainer)

    def start(self, run: Run) -> None:
        """Pack the run, or compare its result where that is back already.

        Raises:
            PlaceError: the process can't be started.
        """
        is_back = all(is_finished(self._processes.folder(run) / stage) for stage in run.stages)
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
            is_of_run = is_pack_of(session, pack, run)
        if not is_of_run:
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
