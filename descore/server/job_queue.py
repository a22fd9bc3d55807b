"""The bounded queue before the engine: a few requests are judged at a time, some wait, more are refused."""

from __future__ import annotations

import math
import statistics
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

from descore.server.errors import busy

_MEASURED = 20  # requests that the expected time is the mean of
_LONGEST_WAIT = 60  # seconds that a refused client is told to wait at most
Work = Callable[[threading.Event], None]


class Job:
    """One request in the queue.

    Attributes:
        cancelled: set once its client has left; the work looks at it before each step of the model.
        future: done when the work has ended, or was cancelled before it began.
    """

    def __init__(self) -> None:
        self.cancelled = threading.Event()
        self.future: Future[None] = Future()

    def cancel(self) -> None:
        """End the work within one token, or before it begins."""
        self.cancelled.set()
        self.future.cancel()


class JobQueue:
    """Threads that judge, and the requests that wait for one of them. Threads may share it."""

    def __init__(self, at_once: int, waiting: int, on_start: Callable[[float], None] = lambda _: None) -> None:
        """Make the threads.

        Args:
            at_once: requests that are judged at a time.
            waiting: requests that wait for their turn.
            on_start: called with the seconds that a request waited.
        """
        self.at_once, self._most_waiting, self._on_start = at_once, waiting, on_start
        self._threads = ThreadPoolExecutor(at_once, thread_name_prefix="judging")
        self._lock = threading.Lock()
        self._jobs = self._running = 0
        self._seconds: deque[float] = deque(maxlen=_MEASURED)

    def submit(self, work: Work) -> Job:
        """Have work done as soon as a thread is free; it is called with the event that ends it.

        Raises:
            ServerError: as many wait as may.
        """
        job, begun = Job(), time.monotonic()
        with self._lock:
            waiting = self._jobs - self._running
            if self._jobs >= self.at_once + self._most_waiting:
                seconds = self._expected(waiting)
                raise busy(f"{waiting} requests wait already; try again in {seconds} seconds", seconds)
            self._jobs += 1
        job.future = self._threads.submit(self._run, job, work, begun)
        job.future.add_done_callback(self._end)
        return job

    def counts(self) -> tuple[int, int]:
        """Return how many requests are being judged, and how many wait."""
        with self._lock:
            return self._running, self._jobs - self._running

    def close(self) -> None:
        """Take no more; what runs ends by itself."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _run(self, job: Job, work: Work, begun: float) -> None:
        with self._lock:
            self._running += 1
        start = time.monotonic()
        self._on_start(start - begun)
        try:
            if not job.cancelled.is_set():
                work(job.cancelled)
        finally:
            with self._lock:
                self._running -= 1
                if not job.cancelled.is_set():
                    self._seconds.append(time.monotonic() - start)

    def _end(self, _future: Future[None]) -> None:
        with self._lock:
            self._jobs -= 1

    def _expected(self, waiting: int) -> int:
        """Return the seconds after which a place should be free; 1 while nothing was timed."""
        each = statistics.fmean(self._seconds) if self._seconds else 0.0
        return max(1, min(_LONGEST_WAIT, math.ceil(each * (waiting + 1) / (2 * self.at_once))))
