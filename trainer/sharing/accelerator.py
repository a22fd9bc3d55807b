"""Accelerate's view of the processes of a run, with a time limit of hours for what one of them waits for.

A rank that judges or samples longer than the others keeps them waiting in their next collective call. NCCL ends a run that
waits for ten minutes, gloo one that waits for thirty; a video model may well think longer.
"""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from accelerate import Accelerator
from accelerate.utils import InitProcessGroupKwargs, KwargsHandler

TIME_LIMIT = "DESCORE_COLLECTIVE_HOURS"  # in the environment
HOURS = 4.0


def collective_time_limit() -> timedelta:
    """Return how long a process waits for the others in a collective call: 4 hours, or as the environment says.

    Raises:
        ValueError: the environment has no positive number of hours.
    """
    text = os.environ.get(TIME_LIMIT, "").strip()
    try:
        hours = float(text) if text else HOURS
    except ValueError:
        hours = math.nan
    if not (math.isfinite(hours) and hours > 0):
        raise ValueError(f"{TIME_LIMIT} is a number of hours above 0, such as 4 (got {text!r})")
    return timedelta(hours=hours)


def make_accelerator(kwargs_handlers: Sequence[KwargsHandler] = (), **settings: Any) -> Accelerator:
    """Make an accelerator; the first one of a process joins it to its group, with the time limit.

    Args:
        kwargs_handlers, settings: of `accelerate.Accelerator`.

    Raises:
        ValueError: as `collective_time_limit`.
    """
    group = InitProcessGroupKwargs(timeout=collective_time_limit())
    return Accelerator(kwargs_handlers=[group, *kwargs_handlers], **settings)
