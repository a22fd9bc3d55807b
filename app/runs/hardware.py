"""Processor, memory, GPUs and disk of the machine of this app, as they are in use now.

GPUs are asked of NVIDIA's own program; where there is none, the figures of the preflight have to do.
"""

from __future__ import annotations

import logging
import os
import platform
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import psutil

from storage.training.preflight import Preflight

log = logging.getLogger(__name__)

GPU_PROGRAM = "nvidia-smi"
GPU_FIELDS = ("index", "name", "memory.used", "memory.total", "utilization.gpu")
GPU_SECONDS = 5.0  # a driver that hangs must not hold the page
_MEBIBYTE = 2**20


@dataclass(frozen=True)
class Room:
    """Room on a device, in bytes."""

    used: float
    total: float

    @property
    def share(self) -> float:
        """Return the share in use, 0 to 1."""
        return min(1.0, max(0.0, self.used / self.total)) if self.total else 0.0


@dataclass(frozen=True)
class Gpu:
    """One GPU.

    Attributes:
        device: as runs name it, such as "cuda:0".
        busy: share of the time in which it computes, 0 to 1; None where not known.
    """

    device: str
    name: str
    memory: Room
    busy: float | None


@dataclass(frozen=True)
class Hardware:
    """The machine of this app.

    Attributes:
        processor: its name.
        cores: of the processor that this process may use.
        load: processes that compute or wait for a core, on average over a minute.
        memory: of the machine.
        disk: on which the data folder lies.
    """

    processor: str
    cores: int
    load: float
    memory: Room
    disk: Room
    gpus: tuple[Gpu, ...]


def read_hardware(home: Path, preflight: Preflight | None) -> Hardware:
    """Measure this machine. It takes milliseconds, with GPUs up to a second.

    Args:
        home: the data folder.
        preflight: what the trainer said of its device; None before it has.
    """
    memory, disk = psutil.virtual_memory(), shutil.disk_usage(home)
    return Hardware(
        processor=_processor(),
        cores=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
        load=psutil.getloadavg()[0],
        memory=Room(float(memory.total - memory.available), float(memory.total)),
        disk=Room(float(disk.used), float(disk.used + disk.free)),
        gpus=gpus_now() or _gpus_of(preflight),
    )


def gpus_now() -> tuple[Gpu, ...]:
    """Ask NVIDIA's program for the GPUs; none where it is missing or fails."""
    program = shutil.which(GPU_PROGRAM)
    if program is None:
        return ()
    command = [program, f"--query-gpu={','.join(GPU_FIELDS)}", "--format=csv,noheader,nounits"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=GPU_SECONDS, check=True)
    except (OSError, subprocess.SubprocessError) as error:
        log.warning("%s did not answer: %s", GPU_PROGRAM, error)
        return ()
    return read_gpus(done.stdout)


def read_gpus(text: str) -> tuple[Gpu, ...]:
    """Read the program's lines; a line in another form is left out, and so is a figure that it doesn't know."""
    gpus = []
    for line in text.splitlines():
        cells = [cell.strip() for cell in line.split(",")]
        if len(cells) < len(GPU_FIELDS) or not cells[0].isdigit():
            continue
        used, total, busy = (_number(cell) for cell in cells[-3:])
        if used is None or total is None:
            continue
        memory = Room(used * _MEBIBYTE, total * _MEBIBYTE)
        gpus.append(Gpu(f"cuda:{cells[0]}", ", ".join(cells[1:-3]), memory, None if busy is None else busy / 100))
    return tuple(gpus)


def _gpus_of(preflight: Preflight | None) -> tuple[Gpu, ...]:
    if preflight is None or not preflight.device.startswith("cuda"):
        return ()
    memory = Room(preflight.memory_total - preflight.memory_free, preflight.memory_total)
    return (Gpu(preflight.device, preflight.device_name, memory, None),)


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _processor() -> str:
    """Return the processor's name, as Linux has it, else the machine's kind."""
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return next(iter(names), "") or platform.processor() or platform.machine()
