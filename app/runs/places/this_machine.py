"""This machine: a run is a process beside the app, on one device or, by accelerate's launcher, on all GPUs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from app.runs.places.place import THERE, PlaceState
from app.runs.places.run_processes import PlaceOfProcesses, RunProcesses
from app.serving.serving import Serving, offload_reason
from storage.training.run_folder import is_held, tail
from storage.training.runs import Run

GONE = "its process ended without a message; it can go on from its last checkpoint"


class ThisMachine(PlaceOfProcesses):
    """Runs as processes of their own, which outlive the app."""

    def __init__(self, processes: RunProcesses, serving: Serving, command: Sequence[str]) -> None:
        """Set the command that does a run, given its number; it starts further processes itself."""
        super().__init__(processes)
        self._serving, self._command = serving, tuple(command)

    def start(self, run: Run) -> None:
        """Start the process; where the device can't hold both models, the serving one leaves it first.

        Raises:
            PlaceError: it can't be started.
        """
        if run.request.get("steps_aside") and self._serving.now.model is not None and not self._serving.elsewhere:
            self._serving.offload(offload_reason(run))
        self._processes.launch(run, (*self._command, str(run.id)))

    def state(self, run: Run) -> PlaceState:
        """Tell whether a process works on the run. One that had an exit code and no word in the store failed early."""
        code = self._processes.exit_code(run)
        if code is not None and code > 0 and not is_held(self.folder(run)):
            return PlaceState("failed", self._processes.last_words(run) or "it could not be started", code)
        return THERE if self._processes.is_alive(run) else PlaceState("lost", GONE)

    def folder(self, run: Run) -> Path:
        """Return the run's folder."""
        return self._processes.folder(run)

    def tail(self, run: Run, size: int) -> str:
        """Return the end of the log."""
        return tail(self.folder(run), size)
