"""Counters and values that all processes of a run see, without collective calls.

    store = SharedStore(accelerator)
    number = store.add("taken")                       # 1, 2, 3, ... over all processes, each once
    order = store.from_main("order", lambda: [2, 0])  # computed by the main process, known to all
    store.meet("end")                                 # returns when every process is here

Who waits here asks again and again, so no time limit of a process group counts. A process that fails says so, and whoever
waits for it stops.
"""

from __future__ import annotations

import itertools
import pickle
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

import torch.distributed as dist
from torch.distributed.distributed_c10d import _get_default_store

if TYPE_CHECKING:
    from accelerate import Accelerator

Value = TypeVar("Value")

_SECONDS = 0.1  # between two looks at what another process does
_FAILED = "failed"
_SENTENCE = "another process of this run failed; its own lines in the log say why"
_numbers = itertools.count()  # every process makes its stores in the same order


class OtherProcessFailedError(RuntimeError):
    """Another process of the run failed, so waiting for it makes no sense; its own log says why."""


class SharedStore:
    """A store of one purpose, made by every process; alone, a process keeps it itself."""

    def __init__(self, accelerator: Accelerator) -> None:
        self._processes: int = accelerator.num_processes
        self._is_main: bool = accelerator.is_main_process
        self._own: dict[str, int] = {}
        name = f"descore/{next(_numbers)}"
        self._store = dist.PrefixStore(name, _get_default_store()) if self._processes > 1 else None

    def add(self, name: str, amount: int = 1) -> int:
        """Add to a counter, which begins at 0, and return its new value."""
        if self._store is None:
            self._own[name] = self._own.get(name, 0) + amount
            return self._own[name]
        return int(self._store.add(name, amount))

    def from_main(self, name: str, make: Callable[[], Value]) -> Value:
        """Return what `make` returns on the main process, on all of them.

        Raises:
            OtherProcessFailedError: the main process failed before.
        """
        if self._store is None:
            return make()
        if self._is_main:
            value = make()
            self._store.set(name, pickle.dumps(value))
            return value
        store = self._store
        self._wait(lambda: bool(store.check([name])))
        shared: Value = pickle.loads(store.get(name))
        return shared

    def meet(self, name: str, while_waiting: Callable[[], None] = lambda: None) -> None:
        """Return when every process has called this, however long the last one takes.

        Args:
            while_waiting: called again and again.

        Raises:
            OtherProcessFailedError: one of them failed.
        """

        def all_here() -> bool:
            while_waiting()
            return self.add(name, 0) >= self._processes

        self.add(name)
        self._wait(all_here)

    def fail(self) -> None:
        """Let those who wait, or will, stop with `OtherProcessFailedError`."""
        self.add(_FAILED)

    def _wait(self, is_over: Callable[[], bool]) -> None:
        try:
            while not is_over():
                if self.add(_FAILED, 0):
                    raise OtherProcessFailedError(_SENTENCE)
                time.sleep(_SECONDS)
        except dist.DistNetworkError as error:  # the process that kept the store is gone
            raise OtherProcessFailedError(_SENTENCE) from error
