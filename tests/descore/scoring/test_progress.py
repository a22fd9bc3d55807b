"""Lines of progress, by a clock of the test's own."""

from __future__ import annotations

import io

from descore.scoring.progress import Progress


class Clock:
    """Seconds that pass when the test says so."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


class Terminal(io.StringIO):
    """A stream that a person looks at."""

    def isatty(self) -> bool:
        return True


def test_speed_time_left_and_what_is_waited_for() -> None:
    clock, out = Clock(), io.StringIO()
    progress = Progress([1, 1, 3, 7, 7, 7, 7, 7], 8, out, clock)
    assert progress.line() == "0 of 8 rows"
    with progress.waiting("decoding"):
        clock.now += 1
        with progress.waiting("loading"):
            clock.now += 4
    with progress.waiting("model"):
        clock.now += 7
    progress.reached(2)
    assert progress.seconds_waited == {"decoding": 1.0, "model": 7.0, "loading": 4.0}
    assert progress.line() == "2 of 8 rows, 0.2 rows/s, 36 s left, 58 % of the time waiting for the model"
    assert out.getvalue() == ""  # not half a minute yet
    clock.now = 30
    progress.reached(4)
    assert out.getvalue().count("\n") == 1
    clock.now = 120
    progress.reached(8)
    progress.finish()
    lines = out.getvalue().splitlines()
    assert lines[-1].startswith("8 of 8 rows")
    assert "\r" not in out.getvalue()


def test_a_terminal_has_one_line() -> None:
    clock, out = Clock(), Terminal()
    progress = Progress([0, 1], 2, out, clock)
    for step in (1, 2):
        clock.now += 1
        progress.reached(step)
    progress.finish()
    assert out.getvalue().count("\r") == 3
    assert out.getvalue().count("\n") == 1
