"""`app.py` as a ZeroGPU Space runs it, on a machine without a GPU: the lent GPU is the CPU, all else is `spaces`' own.

    python -m tests.helpers.zero_gpu_program --port 7860       # SPACES_ZERO_GPU and SPACES_ZERO_DEVICE_API_URL are set

Left out are putting the weights aside on the disk, from where `spaces` reads them onto a GPU only, and that reading.
"""

from __future__ import annotations

import sys
from runpy import run_path

import spaces
import torch
from spaces.zero import torch as on_gpu
from spaces.zero.torch import patching

from tests.helpers.paths import ROOT


def _onto_the_cpu(callback: object = None) -> None:  # noqa: ARG001
    """Make each make-believe tensor the one that it stands for; runs in the forked process."""
    for stand_in, original in patching.cuda_aliases.items():
        stand_in.data = original


def main() -> int:
    """Run the app; returns its exit code."""
    assert spaces.config.Config.zero_gpu, "ZeroGPU's settings are not set"
    assert torch.cuda.is_available(), "`spaces` makes nothing believe"
    on_gpu.pack = lambda: 0
    on_gpu.init = lambda uuid: None  # noqa: ARG005
    on_gpu.move = _onto_the_cpu
    run_path(str(ROOT / "app.py"), run_name="__main__")
    return 0


if __name__ == "__main__":
    sys.exit(main())
