"""The saved state of a training stage: written whole or not at all, and taken up again by an interrupted run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import nn


def save_state(path: Path, step: int, module: nn.Module, optimisers: Sequence[torch.optim.Optimizer]) -> None:
    """Write weights, optimisers and the number of finished steps; a reader finds the old file or the new one."""
    partial = path.with_suffix(".partial")
    states = [optimiser.state_dict() for optimiser in optimisers]
    torch.save({"step": step, "module": module.state_dict(), "optimisers": states}, partial)
    partial.replace(path)


def resume_state(path: Path, module: nn.Module, optimisers: Sequence[torch.optim.Optimizer]) -> int:
    """Load what `save_state` wrote, if it is there, and return the first step that is still to do."""
    if not path.exists():
        return 0
    state = torch.load(path, weights_only=True)
    module.load_state_dict(state["module"])
    for optimiser, saved in zip(optimisers, state["optimisers"], strict=True):
        optimiser.load_state_dict(saved)
    return int(state["step"])
