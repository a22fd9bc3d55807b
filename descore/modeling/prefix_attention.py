"""Attention of many rows over one prefix that they share, without a copy of the prefix for each row.

The rollouts of a video all continue the same instruction, prompt and video. Repeating the prefix's keys and values for every
rollout costs memory and, at each decoded token, the time to read them all; here the queries of all rollouts of a video meet
its one prefix in one matrix product, and each row's own tokens are added in the same softmax. The numbers are those of plain
attention over [prefix, own tokens]; gradients reach the prefix.

    enable_prefixes(backbone)                                          # once, after loading
    store = PrefixStore()
    backbone.base_model(**model.model_inputs(inputs), prefix_store=store)      # V rows: their keys and values are kept
    prefix = store.shared(inputs["attention_mask"], group)
    backbone.base_model(inputs_embeds=embeds, shared_prefix=prefix)    # V * group rows of own tokens

A decoded token has one query a row, so its scores are small and computed whole. Many queries a row, as in training, go
through `merged_attention`, which keeps none. It hooks into transformers' attention interface; the keyword arguments travel
through the backbone's own forward.

Shapes: V videos, G rows a video, N = V * G, H heads of queries, K of keys, T own queries, S own keys, P slots of prefix,
D channels a head.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from transformers import AttentionInterface, AttentionMaskInterface, Cache, PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from descore.modeling.merged_attention import Part, merged_attention
from descore.modeling.uneven_rows import UnevenRows, uneven_attention

_NAME = "descore_shared_prefix"
_Layer = tuple[torch.Tensor, torch.Tensor]


@dataclass(frozen=True)
class SharedPrefix:
    """Keys and values that the rows of a video share.

    Attributes:
        layers: layer -> keys and values, each (V, K, P, D).
        mask: (V, P) bool, False where a slot is padding, which comes before all others; None where none is.
        group: rows a video.
        earlier: layer -> keys and values (N, K, E, D) of the rows' own earlier slots; None where there are none.
        first: the first slot of each video that is no padding; None where none is.
        uneven: where the rows are, if some videos have fewer than `group`, or they do not stand together; only for single
            decode steps without a gradient.
    """

    layers: dict[int, _Layer]
    mask: torch.Tensor | None
    group: int
    earlier: dict[int, _Layer] | None = None
    first: tuple[int, ...] | None = None
    uneven: UnevenRows | None = None

    @property
    def rows(self) -> int:
        """Number of rows of all videos."""
        if self.uneven is not None:
            return len(self.uneven.places)
        return len(next(iter(self.layers.values()))[0]) * self.group


class PrefixStore:
    """A collector of keys and values while a prefix is computed, in its graph.

    No dataclass: FSDP copies those among the arguments of a layer, and what a layer keeps in a copy is lost.

    Attributes:
        layers: layer -> keys and values, each (V, K, P, D).
    """

    def __init__(self) -> None:
        self.layers: dict[int, _Layer] = {}

    def keep(self, layer: int, key: torch.Tensor, value: torch.Tensor) -> None:
        """Keep a layer's first keys and values: gradient checkpointing computes them a second time in the backward."""
        self.layers.setdefault(layer, (key, value))

    def shared(self, mask: torch.Tensor, group: int) -> SharedPrefix:
        """Return the collected prefix for `group` rows a video; mask: (V, P), 1 where a slot may be looked at.

        Raises:
            RuntimeError: nothing was collected, since this transformers version does not hand arguments on to attention.
        """
        if not self.layers:
            raise RuntimeError("the backbone's forward did not hand `prefix_store` on to its attention; update transformers")
        return shared_prefix(self.layers, mask, group)


def shared_prefix(layers: dict[int, _Layer], mask: torch.Tensor, group: int) -> SharedPrefix:
    """Make a prefix of keys and values; mask: (V, P), 1 where a slot may be looked at."""
    padding = _padding(mask)
    first = None if padding is None else tuple(padding.long().argmax(-1).tolist())
    return SharedPrefix(layers, padding, group, first=first)


def prefix_of_cache(cache: Cache, mask: torch.Tensor, group: int) -> SharedPrefix:
    """Turn the keys and values of a prefilled cache into a prefix."""
    # As they were computed, heads lie between the slots, and each step would copy the whole prefix to multiply with it.
    layers = {index: (layer.keys.contiguous(), layer.values.contiguous()) for index, layer in enumerate(cache.layers)}
    return shared_prefix(layers, mask, group)


def enable_prefixes(backbone: PreTrainedModel) -> None:
    """Let the backbone's text layers understand `prefix_store` and `shared_prefix`; without these nothing changes.

    Backbones with another attention than SDPA, or with layers that see only a part of the sequence, stay as they are.
    """
    config = backbone.config.get_text_config()
    kinds = set(getattr(config, "layer_types", None) or ["full_attention"])
    if (
        config._attn_implementation == "sdpa"
        and kinds == {"full_attention"}
        and hasattr(backbone.base_model, "get_rope_index")
    ):
        config._attn_implementation = _NAME


def takes_prefixes(backbone: PreTrainedModel) -> bool:
    """Tell whether `enable_prefixes` could do so."""
    return bool(backbone.config.get_text_config()._attn_implementation == _NAME)


def _padding(mask: torch.Tensor) -> torch.Tensor | None:
    return None if bool(mask.all()) else mask.bool()


def prefix_attention(
    module: nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    prefix_store: PrefixStore | None = None,
    shared_prefix: SharedPrefix | None = None,
    **kwargs: Any,
) -> tuple[torch.Tensor, None]:
    """Attend as transformers' attention functions do: query (N, H, T, D), key and value (N, K, S, D) -> (N, T, H, D)."""
    layer = int(getattr(module, "layer_idx", 0))
    if prefix_store is not None:
        prefix_store.keep(layer, key, value)
    if shared_prefix is None:
        plain: tuple[torch.Tensor, None] = sdpa_attention_forward(
            module, query, key, value, attention_mask, dropout, scaling, **kwargs
        )
        return plain
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    prefix = shared_prefix.layers[layer]
    if (uneven := shared_prefix.uneven) is not None:
        return uneven_attention(query, (key, value), prefix, attention_mask, shared_prefix.mask, uneven, scale), None
    if (query.shape[2] == 1 and shared_prefix.earlier is None) or attention_mask is not None:
        return _folded(query, (key, value), prefix, attention_mask, shared_prefix, scale), None
    parts = [Part(*prefix, first=shared_prefix.first), Part(key, value, causal=True)]
    if shared_prefix.earlier is not None:
        parts.insert(1, Part(*shared_prefix.earlier[layer]))
    attended = merged_attention(query.unflatten(1, (key.shape[1], -1)), parts, scale)
    return attended.flatten(1, 2).transpose(1, 2).contiguous(), None


def _folded(
    query: torch.Tensor,
    own: _Layer,
    prefix: _Layer,
    own_mask: torch.Tensor | None,
    shared: SharedPrefix,
    scale: float,
) -> torch.Tensor:
    """Multiply the queries of all rows of a video with its prefix at once; softmax over both parts by their maximum."""
    rows, heads, length, size = query.shape
    group, kv_heads = shared.group, own[0].shape[1]
    videos, repeats = rows // group, heads // kv_heads
    # (V, G, K, repeats * T, D) against own keys, which stay where they are; what shares a prefix stands together before it.
    apart = query.reshape(videos, group, kv_heads, repeats * length, size) * scale
    key, value = (x.reshape(videos, group, kv_heads, -1, size) for x in own)
    before = (apart.transpose(1, 2).flatten(2, 3) @ prefix[0].transpose(-1, -2)).unflatten(2, (group, -1)).float()
    after = (apart @ key.transpose(-1, -2)).transpose(1, 2).float()
    if shared.mask is not None:
        before = before.masked_fill(~shared.mask[:, None, None, None, :], -torch.inf)
    blocked = _blocked(own_mask, length, key.shape[3], query.device)
    if blocked is not None:  # (N or 1, 1, T, S) -> one block of rows for each of the heads that share keys
        shape = (-1, group, 1, length, key.shape[3]) if len(blocked) > 1 else (1, 1, 1, length, key.shape[3])
        blocked = blocked.reshape(shape).transpose(1, 2)
        after = after.unflatten(3, (repeats, length)).masked_fill(blocked[:, :, :, None], -torch.inf).flatten(3, 4)
    highest = torch.maximum(before.amax(-1, keepdim=True), after.amax(-1, keepdim=True)).detach()
    before, after = (before - highest).exp(), (after - highest).exp()
    total = before.sum(-1, keepdim=True) + after.sum(-1, keepdim=True)
    mixed = (before.to(value.dtype).flatten(2, 3) @ prefix[1]).unflatten(2, (group, -1))
    mixed = mixed + (after.to(value.dtype).transpose(1, 2) @ value).transpose(1, 2)
    result = (mixed / total).to(query.dtype)
    return result.transpose(1, 2).reshape(rows, heads, length, size).transpose(1, 2).contiguous()


def _blocked(mask: torch.Tensor | None, length: int, keys: int, device: torch.device) -> torch.Tensor | None:
    """Mark where own queries may not look, (N or 1, 1, T, S) bool; None where they may look everywhere."""
    if mask is not None:
        return ~mask if mask.dtype == torch.bool else mask < 0
    if length == 1:
        return None
    return torch.ones(length, keys, dtype=torch.bool, device=device).triu(keys - length + 1)[None, None]


AttentionInterface.register(_NAME, prefix_attention)
AttentionMaskInterface.register(_NAME, sdpa_mask)
