"""The training state in a checkpoint of a run: all that the next step depends on.

    weights.safetensors   the trained weights (a frozen backbone is not copied), by their names in the model
    optimizer.pt          the state of each optimizer
    random.pt             random states of each process: Python, NumPy, PyTorch, CUDA
    state.json            steps done (the data cursor too, since a step's pairs follow from its number) and skipped

Under FSDP and DeepSpeed, which hold weights and optimizer in pieces, accelerate's own `save_state` takes the place of the
first two.
"""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator, DistributedType
from accelerate.utils import gather_object
from safetensors.torch import load_file, save_file
from torch import nn
from torch.distributed.tensor import DTensor

_SHARDED = (DistributedType.FSDP, DistributedType.DEEPSPEED)


@dataclass
class Progress:
    """Steps done.

    Attributes:
        steps: all of them.
        skipped: those without an update, because a number was not finite.
        skipped_in_row: the skipped ones since the last update.
        out_of_memory: how often a part of a step was done again because memory was too small.
        budgets: tokens that go forward at a time, by name: as configured, and by now.
    """

    steps: int = 0
    skipped: int = 0
    skipped_in_row: int = 0
    out_of_memory: int = 0
    budgets: dict[str, tuple[int, int]] = field(default_factory=dict)


def is_sharded(accelerator: Accelerator) -> bool:
    """Whether no process holds all weights and optimizer states."""
    return accelerator.distributed_type in _SHARDED


def save_state(
    folder: Path,
    accelerator: Accelerator,
    model: nn.Module,
    optimizers: Sequence[Any],
    progress: Progress,
    states: list[Any],
) -> None:
    """Write everything but the pieces of sharded training; called by the main process alone.

    Args:
        states: `random_states` of every process.
    """
    if not is_sharded(accelerator):
        save_weights(folder / "weights.safetensors", model)
        torch.save([_plain(optimizer).state_dict() for optimizer in optimizers], folder / "optimizer.pt")
    torch.save(states, folder / "random.pt")
    (folder / "state.json").write_text(json.dumps(asdict(progress)), "utf-8")


def load_state(folder: Path, accelerator: Accelerator, model: nn.Module, optimizers: Sequence[Any]) -> Progress:
    """Load the state that `save_state` wrote; called by every process.

    Raises:
        ValueError: the checkpoint holds other weights than the run trains.
    """
    if is_sharded(accelerator):
        accelerator.load_state(str(folder / "sharded"))
    else:
        load_weights(folder / "weights.safetensors", model)
        saved = torch.load(folder / "optimizer.pt", map_location="cpu", weights_only=True)
        for optimizer, state in zip(optimizers, saved, strict=True):
            _plain(optimizer).load_state_dict(state)
    states = torch.load(folder / "random.pt", map_location="cpu", weights_only=True)
    if accelerator.process_index < len(states):  # more processes than before: the new ones keep their fresh states
        _restore_random(states[accelerator.process_index])
    return Progress(**json.loads((folder / "state.json").read_text("utf-8")))


def whole_weights(model: nn.Module) -> dict[str, torch.Tensor]:
    """Gather the trained weights on the CPU from their pieces; every process takes part."""
    whole = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            value = parameter.detach()
            whole[name] = (value.full_tensor() if isinstance(value, DTensor) else value).cpu()
    return whole


def random_states() -> list[Any]:
    """Gather the random states of all processes, on every one of them."""
    name, keys, *rest = np.random.get_state()
    own = {
        "python": random.getstate(),
        "numpy": [str(name), torch.from_numpy(np.asarray(keys, dtype=np.int64)), *(float(value) for value in rest)],
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
    }
    states: list[Any] = gather_object([own])
    return states


def seed_everything(seed: int) -> None:
    """Seed Python, NumPy and PyTorch."""
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)


def _restore_random(state: dict[str, Any]) -> None:
    version, internal, gauss = state["python"]
    random.setstate((version, tuple(internal), gauss))
    name, keys, position, has_gauss, cached = state["numpy"]
    np.random.set_state((name, keys.numpy().astype(np.uint32), int(position), int(has_gauss), cached))
    torch.set_rng_state(state["torch"])
    if torch.cuda.is_available() and len(state["cuda"]) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all(state["cuda"])


def _trained(model: nn.Module) -> dict[str, torch.Tensor]:
    return {name: p.detach().cpu().contiguous() for name, p in model.named_parameters() if p.requires_grad}


def save_weights(path: Path, model: nn.Module) -> None:
    """Write the trained weights of a model that lies in one piece."""
    save_file(_trained(model), path)


def load_weights(path: Path, model: nn.Module) -> None:
    """Load what `save_weights` wrote.

    Raises:
        ValueError: the file holds other weights than the model trains.
    """
    saved = load_file(path)
    own = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    if set(saved) != set(own):
        names = ", ".join(sorted(set(saved) ^ set(own))[:3])
        raise ValueError(
            f"the run's checkpoint holds other weights than are trained now ({names} ...); use another run folder"
        )
    with torch.no_grad():
        for name, parameter in own.items():
            parameter.copy_(saved[name])


def _plain(optimizer: Any) -> torch.optim.Optimizer:
    """Unwrap accelerate's optimizer."""
    return getattr(optimizer, "optimizer", optimizer)
