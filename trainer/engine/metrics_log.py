"""What a run says while it goes: one JSON line a step for machines, a progress bar for people.

    run/metrics.jsonl     {"step": 12, "loss": 0.61, "accuracy": 0.75, ..., "tokens_per_second": 913.0, "memory_gb": 1.9}

TensorBoard gets the same figures in run/trackers, where it is installed; trackio where that is. The run's log
says when a figure leaves its bounds (`storage.training.alarms`), and when it is back.
"""

from __future__ import annotations

import json
import logging
import math
import resource
import sys
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

import torch
from tqdm import tqdm

from storage.atomic import write_atomic
from storage.training.alarms import AlarmWatch
from storage.training.run_folder import METRICS, read_metrics

if TYPE_CHECKING:
    from accelerate import Accelerator

__all__ = ["METRICS", "RunLog", "memory_gb", "read_metrics", "trackers"]

log = logging.getLogger(__name__)

_SHOWN = ("loss", "accuracy", "reward", "lr")


def trackers() -> list[str]:
    """List the trackers of accelerate that are installed."""
    return [name for name in ("tensorboard", "trackio") if find_spec(name) is not None]


class RunLog:
    """Writes on the main process only; on the others every call does nothing."""

    def __init__(
        self, run_folder: Path, accelerator: Accelerator, title: str, first: int, steps: int, every: int = 1
    ) -> None:
        """first: the step that the run begins at; lines of it and later ones, left by a run that was killed, are dropped."""
        self._accelerator = accelerator
        self._every = every
        self._stage = run_folder.name
        self._last = steps - 1
        self._main = accelerator.is_main_process
        if self._main:
            path = run_folder / METRICS
            _keep_before(path, first)
            self._alarms = AlarmWatch(self._stage, read_metrics(run_folder))
            self._file = path.open("a", encoding="utf-8", buffering=1)
            interval = 0.5 if sys.stderr.isatty() else 10
            self._bar = tqdm(initial=first, total=steps, desc=title, mininterval=interval, dynamic_ncols=True)

    def __enter__(self) -> RunLog:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._main:
            self._file.close()
            self._bar.close()

    def write(self, step: int, figures: Mapping[str, float | str | None]) -> None:
        """Write the figures of one step; a number that is not finite becomes null."""
        if not self._main:
            return
        self._bar.update()
        if step % self._every and step != self._last:
            return
        row = {"step": step, **{name: _plain(value) for name, value in figures.items()}}
        self._file.write(json.dumps(row, allow_nan=False) + "\n")
        for alarm in self._alarms.add(row):
            text = f"alarm, {alarm.when}" if alarm.is_on else f"back within bounds after {alarm.when}"
            log.warning("%s: %s%s", text, alarm.sentence, f" {alarm.advice}" if alarm.is_on else "")
        self._bar.set_postfix({name: row[name] for name in _SHOWN if row.get(name) is not None}, refresh=False)
        if self._accelerator.trackers:
            numbers = {name: value for name, value in row.items() if isinstance(value, (int, float)) and name != "step"}
            self._accelerator.log({f"{self._stage}/{name}": value for name, value in numbers.items()}, step=step)


def memory_gb(device: torch.device) -> float:
    """Measure the most memory that this process has held: on its GPU, else of the machine."""
    if device.type == "cuda":
        return float(torch.cuda.max_memory_allocated(device)) / 1e9
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e9


def _keep_before(path: Path, first: int) -> None:
    if not path.exists():
        return
    rows = [row for row in read_metrics(path.parent) if row["step"] < first]
    write_atomic(path, "".join(json.dumps(row) + "\n" for row in rows))


def _plain(value: float | str | None) -> float | str | None:
    if value is None or isinstance(value, (str, int)):
        return value
    return round(float(value), 6) if math.isfinite(value) else None
