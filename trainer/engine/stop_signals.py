"""Stop signals: the first SIGTERM or SIGINT ends a run at the next step boundary, a second one at once.

with StopSignals() as stop:
    for step in range(steps):
        ...
        if stop.received:
            sys.exit(stop.exit_code)      # 130 after SIGINT, 143 after SIGTERM
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from types import FrameType, TracebackType
from typing import TYPE_CHECKING, Any

from accelerate.utils import gather_object

if TYPE_CHECKING:
    from accelerate import Accelerator

_SIGNALS = (signal.SIGTERM, signal.SIGINT)
# One request may come as two signals: `timeout` tells the process and its group; a launcher hands its own Ctrl-C on to its
# workers, which the terminal has told already. No person is as fast.
_SAME_REQUEST_SECONDS, _LAUNCHED_SECONDS = 0.1, 1.0


class StopSignals:
    """Notes the first signal. Outside the main thread, where Python allows no handlers, it never receives any."""

    def __init__(self) -> None:
        self._first: int | None = None
        self._at = 0.0
        self._same = _LAUNCHED_SECONDS if "LOCAL_RANK" in os.environ else _SAME_REQUEST_SECONDS
        self._before: dict[signal.Signals, Any] = {}

    @property
    def received(self) -> bool:
        """Whether the run is to end at the next step boundary."""
        return self._first is not None

    @property
    def exit_code(self) -> int:
        """128 + the signal's number, 0 without one."""
        return 0 if self._first is None else 128 + self._first

    def __enter__(self) -> StopSignals:
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._handle) for number in _SIGNALS}
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before = {}

    def agreed(self, accelerator: Accelerator) -> bool:
        """Whether any process received a signal; every process asks, and all get the same answer."""
        number = max(gather_object([self._first or 0]))
        if number and self._first is None:
            self.note(number)
        accelerator.wait_for_everyone()
        return bool(number)

    def note(self, number: int) -> None:
        """Ask for the end at the next step boundary, as the signal of this number does."""
        self._first, self._at = number, time.monotonic()

    def _handle(self, number: int, _: FrameType | None) -> None:
        if self._first is None:
            self.note(number)
            print("stopping after this step; the same again stops at once", file=sys.stderr, flush=True)
        elif time.monotonic() - self._at > self._same:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
