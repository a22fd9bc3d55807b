"""The machine that figures were measured on: the device, its driver, and the versions of all that computes.

    machine_of(torch.device("cpu"))     # {"device": ..., "torch": ..., ...}

Figures of two machines are compared only where these are the same.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import platform
import shutil
import subprocess
from pathlib import Path

import torch

from trainer.code_version import code_version

_LIBRARIES = ("torch", "transformers", "vllm", "peft", "accelerate", "triton")
_HERE = Path(__file__).parents[1]


def machine_of(device: torch.device) -> dict[str, str]:
    """Return what figures depend on besides the code; two equal ones are the same kind of machine."""
    facts = {"device": _device_name(device), "python": platform.python_version(), "system": platform.platform(terse=True)}
    if device.type == "cuda":
        total = torch.cuda.get_device_properties(device).total_memory
        facts |= {"memory_gb": f"{total / 1e9:.1f}", "driver": _driver(), "cuda": str(torch.version.cuda)}
    else:
        facts["threads"] = str(torch.get_num_threads())
    return facts | {name: _version(name) for name in _LIBRARIES}


def measured_code() -> str:
    """Hash the sources of `descore`, `trainer` and `benchmarks`."""
    digest = hashlib.sha256(code_version().encode())
    for path in sorted(_HERE.rglob("*.py")):
        digest.update(path.relative_to(_HERE).as_posix().encode() + path.read_bytes())
    return f"sources-{digest.hexdigest()[:12]}"


def _device_name(device: torch.device) -> str:
    if device.type == "cuda":
        return str(torch.cuda.get_device_name(device))
    return f"CPU ({platform.processor() or platform.machine()})"


def _driver() -> str:
    """Ask the tool that comes with the driver; PyTorch does not know the driver's version."""
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return "unknown, there is no nvidia-smi"
    command = [tool, "--query-gpu=driver_version", "--format=csv,noheader"]
    said = subprocess.run(command, capture_output=True, text=True, check=False).stdout.split()
    return said[0] if said else "unknown"


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"
