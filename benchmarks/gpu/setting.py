"""Where and how large a part of the GPU report is measured, and how its seconds and its memory are taken.

    setting = Setting(torch.device("cpu"), smallest=True, repeats=1, folder=folder)
    seconds = setting.seconds(lambda: model(inputs))        # one number a repeat, after a call that does not count
    with PeakMemory(setting.device) as memory:
        ...
    memory.figures()                                        # {"peak_memory_gb": ..., ...}

A function of a part returns figures as JSON has them: names with their units, and the dtype and the number of repeats.
"""

from __future__ import annotations

import gc
import importlib.util
import resource
import statistics
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

import torch

Figures = dict[str, Any]
Value = TypeVar("Value")
_POLL_SECONDS = 0.05


class LeftOutError(RuntimeError):
    """The part can't be measured on this machine; the message says what is missing."""


@dataclass(frozen=True)
class Setting:
    """Where and how large a part is measured.

    Attributes:
        device: the GPU that is measured, with its index, or the CPU.
        smallest: sizes that only show that the part runs, for tests on a CPU.
        repeats: how often what takes time is done; its median counts.
        folder: the part's own, empty, and gone afterwards.
    """

    device: torch.device
    smallest: bool
    repeats: int
    folder: Path

    def size(self, usual: Value, smallest: Value) -> Value:
        """Choose one of two sizes."""
        return smallest if self.smallest else usual

    def seconds(self, work: Callable[[], object]) -> list[float]:
        """Measure the seconds of `work`, once a repeat, after a call that does not count.

        Each measurement waits for the device.
        """
        work()
        return self.seconds_of(lambda _: work(), range(self.repeats))

    def seconds_of(self, work: Callable[[Value], object], inputs: Iterable[Value]) -> list[float]:
        """Measure the seconds of `work` for each of the inputs; what making an input takes is not counted."""
        taken = []
        for each in inputs:
            self.wait()
            start = time.perf_counter()
            work(each)
            self.wait()
            taken.append(time.perf_counter() - start)
        return taken

    def wait(self) -> None:
        """Wait until the device has computed everything."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)


class PeakMemory:
    """The most memory of a block: what PyTorch allocated on the GPU, and what the whole device had in use.

    On a CPU it is the most that the process ever held, the time before the block included.

    Attributes:
        device_peak: bytes that the GPU had in use at most, by all processes, as asked now and then; 0 on a CPU.
    """

    def __init__(self, device: torch.device) -> None:
        self._device, self._done = device, threading.Event()
        self.device_peak = 0
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> PeakMemory:
        release()
        if self._device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self._device)
            self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._done.set()
        if self._thread.is_alive():
            self._thread.join()

    def _watch(self) -> None:
        """Ask the device now and then: an engine may take memory that PyTorch does not count."""
        while not self._done.is_set():
            free, total = torch.cuda.mem_get_info(self._device)
            self.device_peak = max(self.device_peak, total - free)
            self._done.wait(_POLL_SECONDS)

    @property
    def peak(self) -> float:
        """Bytes at the peak: of PyTorch on a GPU, of the process on a CPU."""
        if self._device.type == "cuda":
            return float(torch.cuda.max_memory_allocated(self._device))
        return float(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)

    def figures(self) -> Figures:
        """Return the figures, in GB of 10^9 bytes."""
        if self._device.type == "cuda":
            return {"peak_memory_gb": gigabytes(self.peak), "device_peak_gb": gigabytes(self.device_peak)}
        return {"process_peak_gb": gigabytes(self.peak)}


def release() -> None:
    """Free the memory of what nothing refers to any more."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def timed(seconds: Sequence[float]) -> Figures:
    """Return the median of seconds, all of them, and how many they are."""
    return {
        "seconds": round(statistics.median(seconds), 4),
        "all_seconds": [round(each, 4) for each in seconds],
        "repeats": len(seconds),
    }


def gigabytes(size: float) -> float:
    """Return bytes in GB."""
    return round(size / 1e9, 3)


def dtype_name(dtype: torch.dtype) -> str:
    """Return a dtype's name, such as "bfloat16"."""
    return str(dtype).removeprefix("torch.")


def needs_vllm() -> None:
    """Refuse where vLLM is not installed.

    Raises:
        LeftOutError: it is not.
    """
    if importlib.util.find_spec("vllm") is None:
        raise LeftOutError("vLLM is not installed here: pip install -r requirements-vllm.txt")
