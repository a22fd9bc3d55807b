"""What the app does by itself from time to time, beginning when it starts: deleting what has had its time."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence

log = logging.getLogger(__name__)

EVERY_SECONDS = 1800.0


class Housekeeper:
    """A thread that does some tasks over and over; one that fails is logged, and tried again the next time."""

    def __init__(self, tasks: Sequence[Callable[[], object]], every: float = EVERY_SECONDS) -> None:
        self._tasks, self._every = tuple(tasks), every
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Do the tasks now, then again and again."""
        if self._thread is None:
            self._stop.clear()
            self._thread = threading.Thread(target=self._work, name="housekeeper", daemon=True)
            self._thread.start()

    def close(self) -> None:
        """End after the present task."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def tidy(self) -> None:
        """Do each task once."""
        for task in self._tasks:
            if self._stop.is_set():
                return
            try:
                task()
            except Exception:
                log.exception("housekeeping failed")

    def _work(self) -> None:
        while not self._stop.is_set():
            self.tidy()
            self._stop.wait(self._every)
