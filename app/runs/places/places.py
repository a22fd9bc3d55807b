"""All places, and which of them can be chosen now."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass

from app.runs.places.elsewhere import TRAINER, Elsewhere
from app.runs.places.place import Place, PlaceError
from app.runs.places.run_processes import RunProcesses
from app.runs.places.slurm import LOOK_SECONDS, Slurm
from app.runs.places.this_machine import ThisMachine
from app.serving.serving import Serving
from storage import Database
from storage.schema import RunPlace
from storage.training.runs import Run

COMMAND = (sys.executable, "-m", "trainer", "run")


@dataclass(frozen=True)
class PlaceChoice:
    """A place in the form of the Train page.

    Attributes:
        about: what it has, for people; "" where the page knows better.
        why_not: why it can't be chosen; "" where it can.
    """

    name: RunPlace
    about: str = ""
    why_not: str = ""


class Places:
    """The places of one store."""

    def __init__(
        self,
        database: Database,
        serving: Serving,
        command: Sequence[str] = COMMAND,
        trainer: Sequence[str] = TRAINER,
        look_seconds: float = LOOK_SECONDS,
    ) -> None:
        """Set the command that does a run here, the one that packs and unpacks, and how often SLURM is asked."""
        processes = RunProcesses(database)
        self.here = ThisMachine(processes, serving, command)
        self.slurm = Slurm(database, command, look_seconds)
        self.elsewhere = Elsewhere(database, processes, trainer)

    def of(self, run: Run) -> Place:
        """Return the place of a run."""
        places: dict[RunPlace, Place] = {"here": self.here, "slurm": self.slurm, "elsewhere": self.elsewhere}
        return places[run.place]

    def choices(self) -> tuple[PlaceChoice, ...]:
        """Return the places in the order of the form."""
        try:
            settings = self.slurm.settings()
        except PlaceError as error:
            slurm = PlaceChoice("slurm", why_not=str(error))
        else:
            gpus = "no GPU" if not settings.gpus else "1 GPU" if settings.gpus == 1 else f"{settings.gpus} GPUs"
            partition = f"partition {settings.partition}, " if settings.partition else ""
            slurm = PlaceChoice("slurm", f"{partition}{gpus}, {settings.hours:g} h")
        return PlaceChoice("here"), slurm, PlaceChoice("elsewhere")
