"""How much memory a block takes, and a block with less: allocations beyond the limit fail as on a small machine.

    with Growth(torch.device("cpu")) as memory:
        torch.ones(1024, 1024).sum()
    memory.bytes

In a block of `limited(device, 0.5 * memory.bytes)` the same meets torch.OutOfMemoryError, or a RuntimeError on a CPU.
On a GPU PyTorch's own limit of a process is set. On a CPU it is that of the process's addresses, on Linux alone, where
malloc is told to take larger blocks from the system and to give them back; what other threads take counts too.
"""

from __future__ import annotations

import ctypes
import resource
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from benchmarks.gpu.setting import LeftOutError, release

_MMAP_THRESHOLD, _ARENA_MAX = -3, -8  # of malloc.h
_LARGER = 1 << 17
_POLL_SECONDS = 0.002
_PAGE = resource.getpagesize()


class Growth:
    """How much more memory a block takes at its peak than there was in use before.

    Attributes:
        bytes: known after the block.
    """

    def __init__(self, device: torch.device) -> None:
        self.bytes = 0.0
        self._device = device
        self._before = self._highest = 0
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Growth:
        """Begin.

        Raises:
            LeftOutError: this system can't tell.
        """
        release()
        if self._device.type == "cuda":
            self._before = torch.cuda.memory_allocated(self._device)
            torch.cuda.reset_peak_memory_stats(self._device)
            return self
        _prepare_cpu()
        self._thread.start()
        self._before = _addresses()
        return self

    def __exit__(self, *_: object) -> None:
        if self._device.type == "cuda":
            self._highest = torch.cuda.max_memory_allocated(self._device)
        else:
            self._done.set()
            self._thread.join()
        self.bytes = float(max(0, self._highest - self._before))

    def _watch(self) -> None:
        while not self._done.wait(_POLL_SECONDS):
            self._highest = max(self._highest, _addresses())


@contextmanager
def limited(device: torch.device, size: float) -> Iterator[None]:
    """Let the block have `size` bytes more than are in use now.

    Raises:
        LeftOutError: this system has no such limit.
    """
    release()
    if device.type == "cuda":
        whole = torch.cuda.get_device_properties(device).total_memory
        torch.cuda.set_per_process_memory_fraction(min(1.0, (torch.cuda.memory_allocated(device) + size) / whole), device)
        try:
            yield
        finally:
            torch.cuda.set_per_process_memory_fraction(1.0, device)
        return
    _prepare_cpu()
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (_addresses() + int(size), hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


def _prepare_cpu() -> None:
    if not sys.platform.startswith("linux"):
        raise LeftOutError("memory on a CPU can be limited on Linux alone")
    malloc = ctypes.CDLL(None)
    malloc.mallopt(_MMAP_THRESHOLD, _LARGER)
    malloc.mallopt(_ARENA_MAX, 1)  # each further thread would reserve addresses of its own


def _addresses() -> int:
    """Return the bytes of addresses that the process has, by which the limit counts."""
    return int(Path("/proc/self/statm").read_text("ascii").split()[0]) * _PAGE
