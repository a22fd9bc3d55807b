"""Progress of a run and its remaining time, written to the store every two seconds.

    with Reporter(database, run.id, schedule, stop) as reporter:
        reporter.report("cold-start", "training", done=3, total=24)

The reporter's thread also reads whether the run is to be cancelled, for runs that no signal reaches.
"""

from __future__ import annotations

import logging
import signal
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Any

from storage import Database, StorageError
from storage.training.runs import set_progress

if TYPE_CHECKING:
    from trainer.engine.stop_signals import StopSignals

log = logging.getLogger(__name__)

SECONDS = 2.0
# Until one of them was seen: judging a pair is mostly thinking about it.
_ALIKE = {"thoughts": "judging", "judging": "thoughts"}


@dataclass(frozen=True)
class SchedulePart:
    """A part of a run.

    Attributes:
        kind: parts of one kind take the same time for a unit.
        units: number of pairs or steps.
        rate: seconds for a unit, if known ahead.
    """

    stage: str
    part: str
    kind: str
    units: int
    rate: float | None = None


class Schedule:
    """The parts of a run in their order, and the measured time for a unit of each."""

    def __init__(self, parts: Sequence[SchedulePart], now: float | None = None) -> None:
        self._parts = {(part.stage, part.part): part for part in parts}
        self._rates = {part.kind: part.rate for part in parts if part.rate is not None}
        self._at: tuple[str, str] | None = None
        self._heard = time.monotonic() if now is None else now
        self._since = (self._heard, 0)
        self._done = 0
        self._steps = (0, 0)

    def note(self, stage: str, part: str, done: int, total: int, now: float | None = None) -> None:
        """Note how far a part is. now: seconds of a steady clock, by default this moment."""
        moment, key = time.monotonic() if now is None else now, (stage, part)
        kind = self._parts[key].kind if key in self._parts else part
        if self._at != key:
            # A resumed run begins further on, so the first units of a part only give an upper bound of its rate.
            if done:
                self._rates.setdefault(kind, (moment - self._heard) / done)
            self._since = (moment, done)
        elif done > self._since[1]:
            self._rates[kind] = (moment - self._since[0]) / (done - self._since[1])
        self._parts[key] = SchedulePart(stage, part, kind, total)
        self._at, self._heard, self._done = key, moment, done
        if part == "training":
            self._steps = (done, total)

    def progress(self) -> dict[str, Any]:
        """Return the row's progress; seconds_left is None until the speed of each remaining part is known."""
        if self._at is None:
            return {}
        return {
            "stage": self._at[0],
            "part": self._at[1],
            "step": self._steps[0],
            "steps": self._steps[1],
            "done": self._done,
            "total": self._parts[self._at].units,
            "seconds_left": self._left(),
        }

    def _left(self) -> float | None:
        keys, left = list(self._parts), 0.0
        for key in keys[keys.index(self._at) :]:  # type: ignore[arg-type]
            part = self._parts[key]
            units = part.units - (self._done if key == self._at else 0)
            rate = self._rates.get(part.kind, self._rates.get(_ALIKE.get(part.kind, "")))
            if units > 0 and rate is None:
                return None
            left += max(units, 0) * (rate or 0.0)
        return round(left, 1)


class Reporter:
    """Writes progress to the store, and stops a run that is to be cancelled. An error costs only progress."""

    def __init__(self, database: Database, run_id: int, schedule: Schedule, stop: StopSignals) -> None:
        self._database, self._run_id, self._schedule, self._stop = database, run_id, schedule, stop
        self._lock, self._over = threading.Lock(), threading.Event()
        self._thread = threading.Thread(target=self._follow, name="progress", daemon=True)

    def __enter__(self) -> Reporter:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._over.set()
        self._thread.join()
        self._tell()

    def report(self, stage: str, part: str, done: int, total: int) -> None:
        """Report how far a part of the run is."""
        with self._lock:
            self._schedule.note(stage, part, done, total)

    def _follow(self) -> None:
        while not self._over.wait(SECONDS):
            self._tell()

    def _tell(self) -> None:
        with self._lock:
            progress = self._schedule.progress()
        try:
            with self._database.write() as session:
                run = set_progress(session, self._run_id, progress)
        except StorageError as error:  # a store that is busy or away for a moment must not cost a run
            log.warning("can't write the progress: %s", error)
            return
        if run.cancel_requested_at is not None and not self._stop.received:
            self._stop.note(signal.SIGTERM)
