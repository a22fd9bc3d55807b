"""Marks of tests that need a GPU, or that run on a CPU as well; they work without tests/conftest.py (`make gpu`)."""

from __future__ import annotations

import pytest
import torch

_WITHOUT = "PyTorch sees no GPU here: make gpu, on a machine with one"
# For a module: pytestmark = NEEDS_GPU
NEEDS_GPU = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason=_WITHOUT)]
# For a parameter `device`: what a GPU must show, a CPU shows as well, so that the test itself is tried everywhere.
DEVICES = [pytest.param("cpu", marks=pytest.mark.slow), pytest.param("cuda:0", marks=NEEDS_GPU)]
ONLY_GPU = DEVICES[1:]
