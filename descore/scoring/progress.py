"""Progress of a run over a table: rows a second, time left, and what it waits for.

    progress = Progress(last_positions=[1, 1, 3], questions=4, out=sys.stderr)
    with progress.waiting("decoding"):
        ...
    progress.reached(2)                                     # the first two questions are answered, so two rows are
    progress.finish()

On a terminal one line is drawn anew; into a file or a pipe a line is written every half minute.
"""

from __future__ import annotations

import time
from bisect import bisect_left
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Literal, TextIO

Cause = Literal["decoding", "model", "loading"]
_NAMES: dict[Cause, str] = {"decoding": "decoding", "model": "the model", "loading": "the checkpoint"}
_WINDOW = 60.0  # seconds that speed and waiting are taken over
_ON_TERMINAL, _IN_FILE = 0.5, 30.0  # seconds between two lines


class Progress:
    """Counts, times and their line."""

    def __init__(
        self,
        last_positions: Sequence[int],
        questions: int,
        out: TextIO | None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Start to count.

        Args:
            last_positions: for each row the position of the later one of its questions.
            questions: of the table, known ones too.
            out: where lines go; None for nowhere.
            clock: seconds.
        """
        self._ends = sorted(last_positions)
        self._questions, self._out, self._clock = questions, out, clock
        self._terminal = out is not None and out.isatty()
        self._reached = 0
        self._waited: dict[Cause, float] = dict.fromkeys(_NAMES, 0.0)
        self._inner = 0.0  # seconds of waits inside of the one that is measured
        self._history = deque([(clock(), 0, self.seconds_waited)])
        self._written = clock()

    @property
    def seconds_waited(self) -> dict[Cause, float]:
        """Seconds that the run waited for each cause."""
        return dict(self._waited)

    @contextmanager
    def waiting(self, cause: Cause) -> Iterator[None]:
        """Measure how long something takes that the run waits for; a wait inside of another one counts once."""
        start, before, self._inner = self._clock(), self._inner, 0.0
        try:
            yield
        finally:
            seconds = self._clock() - start
            self._waited[cause] += seconds - self._inner
            self._inner = before + seconds

    def reached(self, questions: int) -> None:
        """Note that all questions before this position are answered, and write a line when it is time."""
        self._reached = questions
        now = self._clock()
        if now - self._written >= (_ON_TERMINAL if self._terminal else _IN_FILE):
            self._write(self.line())
            self._written = now
            self._history.append((now, questions, self.seconds_waited))
            while len(self._history) > 2 and now - self._history[1][0] > _WINDOW:
                self._history.popleft()

    def finish(self) -> None:
        """Write the last line."""
        self._write(self.line())
        if self._terminal and self._out is not None:
            print(file=self._out)

    def line(self) -> str:
        """Describe where the run stands."""
        start, questions, before = self._history[0]
        seconds, total = self._clock() - start, len(self._ends)
        rows = bisect_left(self._ends, self._reached)
        text = f"{rows:,} of {total:,} rows"
        if seconds <= 0 or self._reached <= questions:
            return text
        speed = (rows - bisect_left(self._ends, questions)) / seconds
        left = (self._questions - self._reached) * seconds / (self._reached - questions)
        waited = {cause: self._waited[cause] - before[cause] for cause in _NAMES}
        cause = max(waited, key=lambda name: waited[name])
        share = min(100, round(100 * waited[cause] / seconds))
        return f"{text}, {speed:.1f} rows/s, {_duration(left)} left, {share} % of the time waiting for {_NAMES[cause]}"

    def _write(self, line: str) -> None:
        if self._out is not None:
            ends = {"end": "", "flush": True} if self._terminal else {"flush": True}
            print(f"\r{line:<100}" if self._terminal else line, file=self._out, **ends)


def _duration(seconds: float) -> str:
    minutes, hours = round(seconds / 60), seconds / 3600
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{minutes} min" if minutes < 120 else f"{hours:.1f} h"
