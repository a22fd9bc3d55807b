"""Waiting for an event. The patience only ends a test that hangs; no test asserts how long something takes."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

PATIENCE = 180.0  # seconds
STEP = 0.05  # seconds between two checks


def wait_until(happened: Callable[[], bool], event: str, patience: float = PATIENCE) -> None:
    """Return once something has happened; `event` names it where it never does."""
    deadline = time.monotonic() + patience
    while not happened():
        assert time.monotonic() < deadline, f"{event} never happened"
        time.sleep(STEP)
