"""A copy of a model whose weights lie in pieces over the processes: whole on each of them, to sample rollouts from.

    whole = WholeCopy(model)            # before the weights are cut into pieces
    whole.refresh(model)                # after each update, on all processes together; whole.model samples

A decode step through pieces would gather every layer for every token, and all processes would have to decode equally long.
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

import torch
from torch.distributed.tensor import DTensor

from descore.modeling.model import DeScoreModel

if TYPE_CHECKING:
    from torch import nn


def frozen_copy(model: DeScoreModel) -> DeScoreModel:
    """Copy a model that is whole, without gradients and in eval mode."""
    copied = DeScoreModel(copy.deepcopy(model.backbone), model.processor, copy.deepcopy(model.scoring))
    copied.requires_grad_(False)
    copied.eval()
    return copied


class WholeCopy:
    """The copy; it costs each process the memory of all weights.

    Attributes:
        model: without gradients, in eval mode.
    """

    def __init__(self, model: DeScoreModel) -> None:
        """Copy a model that is whole."""
        self.model = frozen_copy(model)

    @torch.no_grad()
    def refresh(self, model: nn.Module) -> None:
        """Take over the trained weights; every process takes part, since each holds a piece of every weight."""
        own = dict(self.model.named_parameters())
        for name, parameter in model.named_parameters():
            if parameter.requires_grad:
                value = parameter.detach()
                own[name].copy_(value.full_tensor() if isinstance(value, DTensor) else value)
