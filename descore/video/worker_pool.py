"""A pool of decoding processes that can be killed.

A broken file can hang or crash a decoder inside native code, where no signal handler and no thread helps. So
each request goes to a fresh Python process (spawned, never forked: decord hangs in forked children) and has a
wall-clock limit; a process that exceeds it is killed and replaced. Two of them are kept warm, so that both
videos of a pair are read at the same time and nobody waits for imports.

Work of other kinds has a lane of its own: uploads and imports are decoded in processes that start when they are
needed and give way to the others on a busy machine, so that no amount of them delays a judgement.
"""

from __future__ import annotations

import atexit
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Literal, cast, get_args

import numpy as np

from descore.video import types as video_types
from descore.video.types import VideoError, VideoTimeoutError, VideoUnreadableError

PROCESSES = 2  # of each lane but that of tables
LaneName = Literal["judging", "uploads", "imports", "tables"]
# Of a table nobody waits for a single video, and a GPU is done with clips faster than two processes read them.
TABLE_PROCESSES = max(PROCESSES, min(16, (os.cpu_count() or 1) - 1))

_ROOT = str(Path(__file__).resolve().parents[2])
# sys.path is set by hand: the parent's __main__ and its folder must not be imported by the child.
_COMMAND = (
    "import sys; sys.path[:] = [{root!r}] + [p for p in sys.path if p]; "
    "from descore.video.worker import main; main({background})"
)


@dataclass(frozen=True)
class Lane:
    """Whose decoding processes do a job, and for whom.

    Attributes:
        name: each lane has processes of its own.
        visitor: for whom; one visitor has at most one job decoded at a time, in all lanes together, and a second one
            waits without occupying a process. None for as many as the lane has.
    """

    name: LaneName = "judging"
    visitor: str | None = None


JUDGING, UPLOADS, IMPORTS, TABLES = Lane("judging"), Lane("uploads"), Lane("imports"), Lane("tables")


class WorkerCrashedError(RuntimeError):
    """The decoding process ended before it answered."""


class _Worker:
    """One child process and its two pipes; in the background it gives way to other processes."""

    def __init__(self, background: bool = False) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", _COMMAND.format(root=_ROOT, background=background)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            # Unbuffered: after a fork in mid-request, half a message must not be sent a second time.
            bufsize=0,
            start_new_session=True,
        )
        self.pid = self._process.pid
        self._expired = False

    def alive(self) -> bool:
        return not self._expired and self._process.poll() is None

    def ask(self, request: dict[str, Any], seconds: float) -> tuple[dict[str, Any], bytearray]:
        """Send one request and wait for its answer.

        Raises:
            TimeoutError: no answer in time; the process has been killed.
            WorkerCrashedError: the process ended.
        """
        timer = threading.Timer(seconds, self._expire)
        timer.daemon = True
        timer.start()
        try:
            to_child, from_child = self._pipes()
            to_child.write(json.dumps(request).encode() + b"\n")
            to_child.flush()
            header = json.loads(_exactly(from_child, int.from_bytes(_exactly(from_child, 4), "big")))
            return header, _exactly(from_child, header["bytes"])
        except (OSError, EOFError, ValueError) as error:
            expired = self._expired
            self.kill()
            if expired:
                raise TimeoutError from error
            raise WorkerCrashedError(f"exit code {self._process.returncode}") from error
        finally:
            timer.cancel()

    def kill(self) -> None:
        """End the process at once and collect it."""
        self._process.kill()
        self._process.wait()
        self.abandon()

    def abandon(self) -> None:
        """Close this side of the pipes only."""
        for pipe in (self._process.stdin, self._process.stdout):
            try:
                if pipe:
                    pipe.close()
            except OSError:
                continue

    def _expire(self) -> None:
        self._expired = True
        self._process.kill()

    def _pipes(self) -> tuple[BinaryIO, BinaryIO]:
        return cast("BinaryIO", self._process.stdin), cast("BinaryIO", self._process.stdout)


class _Pool:
    """Workers up to a number, each serving one request at a time; safe to use from many threads."""

    def __init__(self, background: bool, processes: int) -> None:
        self._background = background
        self._slots = threading.BoundedSemaphore(processes)
        self._lock = threading.Lock()
        self._idle: list[_Worker] = []
        self._busy: set[_Worker] = set()

    def warm_up(self) -> None:
        with self._lock:
            while len(self._idle) + len(self._busy) < PROCESSES:
                self._idle.append(_Worker(self._background))

    def ask(self, request: dict[str, Any], seconds: float, fresh: bool = False) -> tuple[dict[str, Any], bytearray]:
        with self._slots:
            worker = self._take(fresh)
            try:
                return worker.ask(request, seconds)
            finally:
                with self._lock:
                    self._busy.discard(worker)
                    if worker.alive():
                        self._idle.append(worker)

    def close(self) -> None:
        with self._lock:
            for worker in (*self._idle, *self._busy):
                worker.kill()
            self._idle.clear()

    def forget(self) -> None:
        for worker in (*self._idle, *self._busy):
            worker.abandon()

    def pids(self) -> list[int]:
        with self._lock:
            return [worker.pid for worker in (*self._idle, *self._busy) if worker.alive()]

    def _take(self, fresh: bool) -> _Worker:
        with self._lock:
            while self._idle:
                worker = self._idle.pop()
                if worker.alive() and not fresh:
                    break
                worker.kill()
            else:
                worker = _Worker(self._background)
            self._busy.add(worker)
            return worker


class _Turns:
    """One turn at a time for each visitor; a visitor's requests are served in no particular order."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._visitors: dict[str, tuple[threading.Lock, int]] = {}  # with the number of those who hold it or wait

    @contextmanager
    def turn(self, visitor: str) -> Iterator[None]:
        with self._lock:
            own, waiting = self._visitors.get(visitor, (threading.Lock(), 0))
            self._visitors[visitor] = own, waiting + 1
        try:
            with own:
                yield
        finally:
            with self._lock:
                own, waiting = self._visitors[visitor]
                if waiting > 1:
                    self._visitors[visitor] = own, waiting - 1
                else:
                    del self._visitors[visitor]


def _new_pools() -> dict[LaneName, _Pool]:
    processes = {"tables": TABLE_PROCESSES}
    background = ("uploads", "imports")
    return {name: _Pool(name in background, processes.get(name, PROCESSES)) for name in get_args(LaneName)}


_pools = _new_pools()
_turns = _Turns()


def warm_up() -> None:
    """Start the decoding processes of judging without waiting for them; they import their libraries on their own."""
    _pools["judging"].warm_up()


def shut_down() -> None:
    """Kill the decoding processes; the next request starts new ones."""
    for pool in _pools.values():
        pool.close()


def worker_pids(lane: LaneName = "judging") -> list[int]:
    """Process ids of a lane's living decoding processes."""
    return _pools[lane].pids()


def ask(
    job: str, path: str | os.PathLike[str], seconds: float, lane: Lane, **details: Any
) -> tuple[dict[str, Any], bytearray]:
    """Run `job` on `path` in a decoding process of `lane`; return the answer's header and raw bytes.

    `seconds` count from the moment at which a process takes the job.

    Raises:
        VideoError: the job raised it.
        VideoTimeoutError: the job took more than `seconds`.
        VideoUnreadableError: the file made the decoder crash, twice.
    """
    name = os.fspath(path)
    # A process was started where the caller stood then, which may have been another folder. Text, not a Path, is put
    # together: a Path would make a name of an address, which is refused as such.
    local = name if Path(name).is_absolute() else f"{Path.cwd()}/{name}"
    request = {"job": job, "path": local, "seconds": seconds, **details}
    pool = _pools[lane.name]
    try:
        with _turns.turn(lane.visitor) if lane.visitor is not None else nullcontext():
            try:
                header, payload = pool.ask(request, seconds)
            except WorkerCrashedError:
                # An idle process may have been killed from outside, or decord died of a file that PyAV can read.
                header, payload = pool.ask({**request, "use_decord": False}, seconds, fresh=True)
    except TimeoutError as error:
        raise VideoTimeoutError(name, f"decoding took more than {seconds:g} s and was stopped") from error
    except WorkerCrashedError as error:
        reason = f"it makes the decoder crash ({error}); the file may be damaged"
        raise VideoUnreadableError(name, reason) from error
    if "error" in header:
        kind: type[VideoError] = getattr(video_types, header["error"])
        raise kind(name, header["reason"])
    return header, payload


def as_frames(header: dict[str, Any], payload: bytearray) -> np.ndarray:
    """View the answer's bytes as uint8 (T, H, W, 3)."""
    return np.frombuffer(payload, dtype=np.uint8).reshape(header["shape"])


def _exactly(pipe: BinaryIO, count: int) -> bytearray:
    buffer = bytearray(count)
    view = memoryview(buffer)
    done = 0
    while done < count:
        read = pipe.readinto(view[done:])  # type: ignore[attr-defined]
        if not read:
            raise EOFError
        done += read
    return buffer


def _after_fork() -> None:
    # A forked child must not talk into its parent's pipes, nor keep them open.
    global _pools, _turns
    for pool in _pools.values():
        pool.forget()
    _pools, _turns = _new_pools(), _Turns()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
atexit.register(shut_down)
