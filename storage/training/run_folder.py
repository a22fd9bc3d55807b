"""The folder of a run, as other processes read it: its lock, log, metrics and samples.

    with RunLock(folder): ...                # the run's own process, as long as it lives
    is_held(folder)                          # anybody: is it alive?
    tail(folder, 8000), read_metrics(folder / "dual-rl"), read_samples(folder), disk_bytes(folder)

A lock of the operating system (flock) ends with its process however that ended, and is seen by an app that was started
later. The file itself stays and tells who had it last.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import socket
import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any

from storage.data_home import ensure_folder
from storage.errors import StorageError
from storage.training.devices import lock_names

# Files of a run, and of each of its stages.
CONFIG, LOG, SAMPLES, GATE, LOCK = "config.yaml", "log.txt", "samples.jsonl", "gate.json", "lock"
PROGRESS, PAIR_IDS = "progress.json", "pair-ids.json"
METRICS, BEFORE, REPORT, CHECKPOINT = "metrics.jsonl", "before.json", "report.json", "checkpoint"
# Somebody who only looks holds the lock for a moment; see `_is_held`.
_PATIENCE_SECONDS = 0.5


class LockHeldError(StorageError):
    """Another process has the lock; the message says which. holder: what it wrote into the file."""

    def __init__(self, message: str, holder: dict[str, Any]) -> None:
        super().__init__(message)
        self.holder = holder


class FileLock:
    """An exclusive lock on a file for the length of a `with` block, in this process only and not in its children.

    Raises (on entering):
        LockHeldError: another process has it.
        StorageError: the file can't be made.
    """

    def __init__(self, path: Path, what: str, about: dict[str, Any] | None = None) -> None:
        """Prepare the lock; nothing is locked before the block.

        Args:
            what: names the locked thing in messages, as in "run 7".
            about: written into the file beside process and host, for those who find it locked.
        """
        self._path, self._what = path, what
        self._about = {**(about or {}), "pid": os.getpid(), "host": socket.gethostname()}
        self._handle: int | None = None

    def __enter__(self) -> FileLock:
        ensure_folder(self._path.parent)
        try:
            handle = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as error:
            raise StorageError(f"can't open the lock {self._path.name}: {error.strerror or error}") from error
        deadline = time.monotonic() + _PATIENCE_SECONDS
        while not _try(handle, fcntl.LOCK_EX):
            if time.monotonic() > deadline:
                os.close(handle)
                holder = _holder(self._path)
                who = f"process {holder['pid']} on {holder['host']}" if "pid" in holder else "another process"
                raise LockHeldError(f"{self._what} is in use by {who}; wait for it or end it", holder)
            time.sleep(0.02)
        os.truncate(handle, 0)
        os.pwrite(handle, json.dumps(self._about).encode(), 0)
        self._handle = handle
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._handle is not None:
            os.close(self._handle)
            self._handle = None


class RunLock(FileLock):
    """The lock of a run, held by the process that works on it; `is_held` of the same folder is how others notice its end."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder / LOCK, f"run {folder.name}")


def is_held(folder: Path) -> bool:
    """Whether a living process works on the run in this folder."""
    return _is_held(folder / LOCK)


def run_holder(folder: Path) -> dict[str, Any] | None:
    """Who works on the run in this folder now: {"pid", "host"}; None if nobody does."""
    return _who_holds(folder / LOCK)


@contextmanager
def device_lock(home: Path, device: str, run_id: int | None = None) -> Iterator[None]:
    """Hold the lock of a device ("cpu", "cuda:0", "cuda:0-7"): one run at a time, whose number others can read from it.

    Raises (on entering):
        LockHeldError: another process has it, or one of several.
        StorageError: its file can't be made.
    """
    with ExitStack() as locks:
        for name in lock_names(device):
            locks.enter_context(FileLock(_device_file(home, name), f"the device {name}", {"run": run_id}))
        yield


def device_holder(home: Path, device: str) -> dict[str, Any] | None:
    """Who trains on a device now, or on one of several: {"run", "pid", "host"}; None if nobody does."""
    holders = (_who_holds(_device_file(home, name)) for name in lock_names(device))
    return next((holder for holder in holders if holder is not None), None)


def read_metrics(stage_folder: Path) -> list[dict[str, Any]]:
    """Read the whole lines of a stage's metrics, in order; none where it has not begun."""
    path = stage_folder / METRICS
    return list(_whole_rows(path.read_text("utf-8").splitlines())) if path.exists() else []


def read_samples(folder: Path) -> list[dict[str, Any]]:
    """Thoughts on a few pairs: {"pair_id", "stage", "when", "thought_a", "thought_b", "rewards"}, in order of writing."""
    path = folder / SAMPLES
    lines = path.read_text("utf-8").splitlines() if path.exists() else []
    return [row for row in map(_row, lines) if row is not None]


def is_finished(stage_folder: Path) -> bool:
    """Whether a stage's folder holds a finished stage, by its report."""
    try:
        report = json.loads((stage_folder / REPORT).read_text("utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(report, dict) and report.get("status") == "finished"


def tail(folder: Path, size: int = 16_000) -> str:
    """Read the end of a run's log: whole lines, at most `size` bytes, of a progress bar only its last state."""
    path = folder / LOG
    if not path.exists():
        return ""
    with path.open("rb") as file:
        length = file.seek(0, os.SEEK_END)
        file.seek(max(0, length - size))
        text = file.read(size).decode("utf-8", errors="replace")
    if length > size:
        text = text.partition("\n")[2] or text
    return "\n".join(line.rstrip("\r").rpartition("\r")[2] for line in text.split("\n"))


def disk_bytes(folder: Path) -> int:
    """Sum up the size of all files in a folder; what vanishes meanwhile counts nothing."""
    total = 0
    for parent, _, names in os.walk(folder):
        for name in names:
            try:
                total += Path(parent, name).lstat().st_size
            except OSError:
                continue
    return total


def _device_file(home: Path, name: str) -> Path:
    return home / "locks" / f"{re.sub(r'[^a-z0-9]+', '-', name.lower())}.lock"


def _who_holds(path: Path) -> dict[str, Any] | None:
    return _holder(path) if _is_held(path) else None


def _is_held(path: Path) -> bool:
    try:
        handle = os.open(path, os.O_RDONLY)
    except OSError:
        return False
    try:
        # Shared, so that those who only look don't see each other.
        return not _try(handle, fcntl.LOCK_SH)
    finally:
        os.close(handle)


def _try(handle: int, kind: int) -> bool:
    try:
        fcntl.flock(handle, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _holder(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def _row(line: str) -> dict[str, Any] | None:
    try:
        row = json.loads(line)
    except ValueError:  # cut off by a kill
        return None
    return row if isinstance(row, dict) else None


def _whole_rows(lines: Iterable[str]) -> Iterable[dict[str, Any]]:
    for row in map(_row, lines):
        if row is not None and isinstance(row.get("step"), int):
            yield row
