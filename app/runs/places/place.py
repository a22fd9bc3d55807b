"""A place where runs run, as the supervisor and the Train page see it.

A run is started there or goes on from its last checkpoint, is asked to end after its step, or ended at once. How it ended it
says itself, in its row; a place finds out about runs that can't any more.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

from storage import StorageError

if TYPE_CHECKING:
    from storage.training.runs import Run


class PlaceError(StorageError):
    """A run can't be started, ended or brought back at a place; the message says why and what to do."""


@dataclass(frozen=True)
class PlaceState:
    """What a place knows of a run that goes on by its row.

    Attributes:
        ended: None while it is there, or nothing is known against that; "failed" where it ended with an error before it
            could say so, "lost" where it is gone.
        message: why it ended, for people.
        exit_code: of its process.
        progress: for the row, of a run that has no process yet which could write it.
    """

    ended: Literal["failed", "lost"] | None = None
    message: str = ""
    exit_code: int | None = None
    progress: Mapping[str, Any] | None = None


THERE = PlaceState()


class Place(Protocol):
    """Where runs run."""

    def start(self, run: Run) -> None:
        """Start a run that was taken from the queue, or go on with it.

        Raises:
            PlaceError: it can't be started.
        """

    def state(self, run: Run) -> PlaceState:
        """Find out about a run that goes on by its row."""

    def cancel(self, run: Run) -> None:
        """Ask a run to end after its step; asked again and again until it has ended."""

    def end(self, run: Run) -> bool:
        """End a run without waiting for its step; tell whether there was something to end."""

    def resumed(self, run: Run) -> None:
        """Forget an earlier wish to end a run."""

    def folder(self, run: Run) -> Path:
        """Return the folder that has the run's curves and samples now."""

    def tail(self, run: Run, size: int) -> str:
        """Return the end of a run's log, at most `size` bytes."""
