"""Differences between transformers versions, looked up in the backbone instead of assumed.

A forward takes any keyword argument, and one that its version does not know is ignored without an error: wrong numbers
instead of a message. So each such argument is looked up in the signature first.
"""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import nn

# Named `past_key_values` in older versions; transformers 5.40 takes that name away.
_CACHE, _OLD_CACHE = "cache", "past_key_values"
_VISION_OUTPUTS = "mm_encoder_outputs"


def cache_argument(backbone: nn.Module) -> str:
    """Return the name under which the backbone's forward takes a KV cache."""
    return _CACHE if _CACHE in _parameters(backbone) else _OLD_CACHE


def takes_vision_outputs(backbone: nn.Module | type[nn.Module]) -> bool:
    """Tell whether the forward of a backbone (or class) takes ready outputs of its vision tower (`mm_encoder_outputs`)."""
    return _VISION_OUTPUTS in _parameters(backbone)


def checkpoint_activations(backbone: Any) -> None:
    """Recompute activations in the backward instead of keeping them; non-reentrant, as gradients of a prefix need."""
    # transformers 6 takes the second name away.
    enable = getattr(backbone, "activation_checkpointing_enable", None) or backbone.gradient_checkpointing_enable
    enable({"use_reentrant": False})


def _parameters(module: nn.Module | type[nn.Module]) -> frozenset[str]:
    """Names in the signature of the class's own forward; wrappers on the instance may hide it behind *args."""
    kind: Any = module if isinstance(module, type) else type(module)
    return frozenset(inspect.signature(kind.forward).parameters)
