"""One decode step of a Qwen3-VL text model, reduced to what a single token needs.

A step feeds one token to each row. In transformers it passes through the same code as a prompt of thousands: masks are built
from functions, each norm is eight kernels, keyword arguments are checked at every level. On small models, and on a GPU whose
kernels wait for Python, that is most of the step. Here the same layers and weights (LoRA's too) are called directly; the
numbers are those of the model's own forward up to the order of float additions.

    text = text_model(backbone)                                # None: this backbone takes its own forward
    hidden = decode_step(text, embeds, position, mask, cache)  # (B, H)

Shapes: B rows, H hidden channels, S slots in the cache with the new one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

import torch
import torch.nn.functional as F
from torch import nn
from transformers.models.qwen3_vl.modeling_qwen3_vl import (
    Qwen3VLTextDecoderLayer,
    Qwen3VLTextModel,
    Qwen3VLTextRMSNorm,
    apply_rotary_pos_emb,
)

from descore.modeling.prefix_attention import SharedPrefix, prefix_attention, takes_prefixes

if TYPE_CHECKING:
    from transformers import PreTrainedModel


class SlotCache(Protocol):
    """What keeps keys and values, as transformers' `Cache` does."""

    def update(self, key: torch.Tensor, value: torch.Tensor, layer: int, /) -> tuple[torch.Tensor, torch.Tensor]:
        """Take those of one more slot of a layer, (B, K, 1, D); return those of all slots."""
        ...


def text_model(backbone: PreTrainedModel) -> Qwen3VLTextModel | None:
    """Return the text model whose layers `decode_step` may call, else None.

    None for other architectures, for attention that is not SDPA, in training, and wherever calling a layer is more than its
    own forward: layers that are sharded, wrapped or hooked, as FSDP, DeepSpeed and offloading do.
    """
    text: Any = getattr(backbone.base_model, "language_model", None)
    if type(text) is not Qwen3VLTextModel or text.training or not takes_prefixes(backbone):
        return None
    own = (text, *text.layers)
    if any(module._forward_hooks or module._forward_pre_hooks or "forward" in vars(module) for module in own):
        return None
    plain: Qwen3VLTextModel = text
    return plain if all(type(layer) is Qwen3VLTextDecoderLayer for layer in plain.layers) else None


def decode_step(
    text: Qwen3VLTextModel,
    embeds: torch.Tensor,
    position: torch.Tensor,
    mask: torch.Tensor,
    cache: SlotCache,
    prefix: SharedPrefix | None = None,
    looks: bool = True,
) -> torch.Tensor:
    """Compute the hidden state (B, H) of one more slot in each row; its keys and values are put into the cache.

    Args:
        text: as `text_model` returns it.
        embeds: (B, H).
        position: (B,), the same on all position axes.
        mask: (B, S), 1 where a row may look, the new slot included.
        cache: keys and values of the slots so far; the new slot's are added.
        prefix: keys and values that rows share before the slots of the cache.
        looks: whether to ask the device if every row may look everywhere, where attention needs no mask; it waits for that.
    """
    rotation = text.rotary_emb(embeds, position[:, None].expand(3, -1, -1))  # cos and sin, each (B, 1, D)
    seen = None if looks and bool(mask.all()) else mask.bool()[:, None, None]
    hidden = embeds
    for layer in text.layers:
        hidden = hidden + _attend(layer.self_attn, _norm(layer.input_layernorm, hidden), rotation, seen, cache, prefix)
        inner, mlp = _norm(layer.post_attention_layernorm, hidden), layer.mlp
        hidden = hidden + _linear(mlp.down_proj, mlp.act_fn(_linear(mlp.gate_proj, inner)) * _linear(mlp.up_proj, inner))
    return _norm(text.norm, hidden)


def _attend(
    attention: nn.Module,
    hidden: torch.Tensor,
    rotation: tuple[torch.Tensor, torch.Tensor],
    seen: torch.Tensor | None,
    cache: SlotCache,
    prefix: SharedPrefix | None,
) -> torch.Tensor:
    """Self-attention of one slot, (B, H) -> (B, H); heads (B, heads, 1, D)."""
    rows, size = len(hidden), attention.head_dim
    query = _norm(attention.q_norm, _linear(attention.q_proj, hidden).reshape(rows, -1, 1, size))
    key = _norm(attention.k_norm, _linear(attention.k_proj, hidden).reshape(rows, -1, 1, size))
    value = _linear(attention.v_proj, hidden).reshape(rows, -1, 1, size)
    query, key = apply_rotary_pos_emb(query, key, *rotation)
    key, value = cache.update(key, value, attention.layer_idx)
    if prefix is not None:
        attended, _ = prefix_attention(attention, query, key, value, seen, attention.scaling, shared_prefix=prefix)
    else:  # the query heads that share a key head stand below one another, so that keys and values are read once
        packed = query.reshape(rows, key.shape[1], -1, size)
        attended = _attended(packed, key, value, seen, attention.scaling)
    return _linear(attention.o_proj, attended.reshape(rows, -1))


def _attended(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, seen: torch.Tensor | None, scaling: float
) -> torch.Tensor:
    """Compute softmax(query key^T) value; query (B, K, G, D), keys and values (B, K, S, D), seen (B, 1, 1, S)."""
    if query.device.type != "cpu" or query.dtype != torch.float32:
        return F.scaled_dot_product_attention(query, key, value, attn_mask=seen, scale=scaling)
    # SDPA's kernel for CPUs is made for many queries; for a few of them two products read keys and values twice as fast.
    weights = (query * scaling) @ key.transpose(-1, -2)
    if seen is not None:
        weights = weights.masked_fill_(~seen, -torch.inf)
    return weights.softmax(-1) @ value


def _norm(norm: nn.Module, values: torch.Tensor) -> torch.Tensor:
    """Apply an RMS norm: in float32 by one call instead of eight; narrower types keep the module's own roundings."""
    if type(norm) is Qwen3VLTextRMSNorm and values.dtype == norm.weight.dtype == torch.float32:
        return F.rms_norm(values, norm.weight.shape, norm.weight, norm.variance_epsilon)
    return norm(values)


def _linear(linear: nn.Module, values: torch.Tensor) -> torch.Tensor:
    """Map (B, in) to (B, out). For a few rows on a CPU, weight times rows takes half as long as rows times weight."""
    if type(linear) is nn.Linear and linear.bias is None and values.device.type == "cpu" and len(values) > 1:
        return (linear.weight @ values.T).T
    return linear(values)
