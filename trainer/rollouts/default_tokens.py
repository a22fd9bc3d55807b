"""How many tokens of rollouts are cached at a time where the settings leave it open."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from descore.modeling.kv_cache import token_bytes

if TYPE_CHECKING:
    from descore.modeling.model import DeScoreModel

_CPU_BYTES = 2**30
_ADAM_BYTES = 8  # of a trained weight, which come with the first update


def default_tokens(model: DeScoreModel, engine_bytes: float = 0.0) -> int:
    """Return how many tokens 1 GiB holds on a CPU, and half of the memory that training leaves free on a GPU.

    Args:
        engine_bytes: of a GPU's memory, which the rollout engine takes besides.
    """
    backbone, device = model.backbone, model.device
    room = float(_CPU_BYTES)
    if device.type == "cuda":
        unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        trained = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
        room = (torch.cuda.mem_get_info(device)[0] + unused - _ADAM_BYTES * trained - engine_bytes) / 2
    return max(1, int(room) // token_bytes(backbone.config.get_text_config(), backbone.dtype.itemsize))
