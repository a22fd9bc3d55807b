"""How much memory a block takes, and a block with less: allocations beyond the limit fail as on a small machine.

    with growth(device) as memory:
        train()
    with limited(device, 0.5 * memory.bytes):
        train()                                 # meets torch.OutOfMemoryError, or RuntimeError on a CPU

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
from dataclasses import dataclass
from pathlib import Path

import torch

from benchmarks.gpu.setting import LeftOutError, release

_MMAP_THRESHOLD, _ARENA_MAX = -3, -8  # of malloc.h
_LARGER = 1 << 17
_POLL_SECONDS = 0.002
_PAGE = resource.getpagesize()


@dataclass
class Growth:
    """Memory of a block: `bytes` at its peak, beyond those at its start."""

    bytes: float = 0.0


@contextmanager
def growth(device: torch.device) -> Iterator[Growth]:
    """Measure how much more memory the block takes at its peak than there was in use before.

    Raises:
        LeftOutError: this system can't tell.
    """
    memory = Growth()
    release()
    if device.type == "cuda":
        before = torch.cuda.memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
        yield memory
        memory.bytes = float(torch.cuda.max_memory_allocated(device) - before)
        return
    _prepare_cpu()
    before, highest, done = _addresses(), [0], threading.Event()

    def watch() -> None:
        while not done.wait(_POLL_SECONDS):
            highest[0] = max(highest[0], _addresses())

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield memory
    finally:
        done.set()
        thread.join()
    memory.bytes = float(max(0, highest[0] - before))


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
