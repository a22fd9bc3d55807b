"""Optimizers and learning rates.

Query token and head have a group of their own with `scoring_lr`, what is trained of the vision part one with `vision_lr`,
everything else `lr`. The rate of a step is a function of the step alone, so a resumed run needs no state for it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from trainer.engine.trainable import vision_parts

if TYPE_CHECKING:
    from descore.modeling.model import DeScoreModel
    from trainer.config import OptimConfig

_SMALLEST_SHARE = 1e-3


def build_optimizers(model: DeScoreModel, settings: OptimConfig) -> list[torch.optim.Optimizer]:
    """Build one AdamW, or Muon for matrices inside the blocks and AdamW for the rest, of all trained weights."""
    adam: dict[tuple[str, bool], list[nn.Parameter]] = {}
    muon: dict[tuple[str, bool], list[nn.Parameter]] = {}
    for name, parameter, part in _trainable(model):
        inner = parameter.ndim == 2 and part != "scoring" and not _outer(name)
        kind = muon if inner and settings.optimizer == "muon" else adam
        kind.setdefault((part, parameter.ndim > 1 and part != "scoring"), []).append(parameter)
    rates = {
        "backbone": settings.lr,
        "scoring": settings.scoring_lr,
        "vision": settings.lr if settings.vision_lr is None else settings.vision_lr,
    }

    def groups(kind: dict[tuple[str, bool], list[nn.Parameter]]) -> list[dict[str, Any]]:
        return [
            {"params": some, "name": part, "lr": rates[part], "weight_decay": settings.weight_decay if decays else 0.0}
            for (part, decays), some in kind.items()
        ]

    optimizers: list[torch.optim.Optimizer] = []
    if muon:
        optimizers.append(torch.optim.Muon(groups(muon), lr=settings.lr, adjust_lr_fn="match_rms_adamw"))
    if adam:
        optimizers.append(torch.optim.AdamW(groups(adam), lr=settings.lr))
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["peak_lr"] = group["lr"]
    return optimizers


def rate_share(step: int, steps: int, settings: OptimConfig) -> float:
    """Share of the peak rates at a step: a linear warm-up, then constant, or falling to 0 at the last step's end."""
    warmup = math.ceil(settings.warmup_share * steps)
    if step < warmup:
        return (step + 1) / (warmup + 1)
    done = (step - warmup) / max(steps - warmup, 1)
    if settings.schedule == "linear":
        return max(1 - done, _SMALLEST_SHARE)
    if settings.schedule == "cosine":
        return max(0.5 * (1 + math.cos(math.pi * done)), _SMALLEST_SHARE)
    return 1.0


def set_rates(optimizers: Sequence[torch.optim.Optimizer], share: float) -> None:
    """Set every group to its share of the peak it was built with."""
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["lr"] = share * group["peak_lr"]


def _trainable(model: DeScoreModel) -> Iterator[tuple[str, nn.Parameter, str]]:
    seeing = tuple(f"backbone.{name}." for name in vision_parts(model.backbone))
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            part = "scoring" if name.startswith("scoring.") else "vision" if name.startswith(seeing) else "backbone"
            yield name, parameter, part


def _outer(name: str) -> bool:
    """Embeddings and the output layer: rows of theirs are tokens, which Muon's orthogonal updates do not suit."""
    return "embed" in name or "lm_head" in name
