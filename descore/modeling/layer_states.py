"""States of layers that keep one state instead of a slot for each token: linear attention, as in Qwen3.5.

Such a state takes in a token for good, so nothing is undone by dropping the last slot. A reward is read on a fork: the
states are kept, the query token makes its step, and the states are put back. The same keeps rows whose thought has ended:
they make the steps of the others too, and get their states back after each.

A step makes new tensors and changes none, so to keep them costs nothing, and gradients flow through them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from transformers.cache_utils import LinearAttentionLayer

if TYPE_CHECKING:
    from transformers import Cache, PreTrainedConfig

_SUPPORTED = frozenset({"full_attention", "sliding_attention", "chunked_attention", "linear_attention"})


class StateLayer(LinearAttentionLayer):
    """One layer's states, (B, heads, D, D) of the recurrence and (B, C, K) of the convolution; a step replaces them."""

    def update_conv_state(
        self, conv_states: torch.Tensor, state_idx: int = 0, conv_kernel_size: int | None = None, **_kwargs: Any
    ) -> torch.Tensor:
        """Put new inputs (B, C, T) of the convolution behind the kept ones; return both, and keep the last K."""
        size = conv_states.shape[-1] if conv_kernel_size is None else conv_kernel_size
        self.dtype, self.device = conv_states.dtype, conv_states.device
        if self.has_previous_state[state_idx]:
            size = self.conv_states[state_idx].shape[-1]
            conv_states = torch.cat([self.conv_states[state_idx], conv_states], dim=-1)
        else:
            conv_states = torch.nn.functional.pad(conv_states, (max(0, size - conv_states.shape[-1]), 0))
        self.conv_kernel_size[state_idx] = size
        self.conv_states[state_idx] = conv_states[..., -size:].clone()
        self.is_conv_states_initialized[state_idx] = self.has_previous_state[state_idx] = True
        return conv_states

    def update_recurrent_state(self, recurrent_states: torch.Tensor, state_idx: int = 0, **_kwargs: Any) -> torch.Tensor:
        """Keep the new state."""
        self.recurrent_states[state_idx] = recurrent_states
        self.is_recurrent_states_initialized[state_idx] = True
        return recurrent_states

    def batch_repeat_interleave(self, repeats: int) -> None:
        """Repeat each row's states."""
        for states in (self.conv_states, self.recurrent_states):
            states.update({i: x.repeat_interleave(repeats, dim=0) for i, x in states.items() if x is not None})


@dataclass(frozen=True)
class KeptStates:
    """The states of one layer at some moment."""

    layer: StateLayer
    conv: dict[int, torch.Tensor | None]
    recurrent: dict[int, torch.Tensor | None]


def unsupported_layers(config: PreTrainedConfig) -> list[str]:
    """Name the kinds of layers of a text config on which rewards can't be read exactly; [] where there are none."""
    return sorted(set(getattr(config, "layer_types", None) or ()) - _SUPPORTED)


def own_states(cache: Cache) -> Cache:
    """Replace a new cache's layers of linear attention by `StateLayer`; return the cache."""
    cache.layers = [
        StateLayer(layer.number_of_states) if type(layer) is LinearAttentionLayer else layer for layer in cache.layers
    ]
    return cache


def states_of(cache: Cache) -> list[KeptStates]:
    """Keep the states of a cache; [] where every layer has slots."""
    return [KeptStates(layer, _copies(layer.conv_states), {**layer.recurrent_states}) for layer in _state_layers(cache)]


def undo_step(cache: Cache, kept: list[KeptStates]) -> None:
    """Undo the last token of every row: drop its slot, or put the states back.

    Args:
        cache: after the step.
        kept: what `states_of` returned before it.
    """
    for layer in cache.layers:
        if not isinstance(layer, StateLayer):
            layer.crop(-1)
    for states in kept:
        states.layer.conv_states.update(states.conv)
        states.layer.recurrent_states.update(states.recurrent)


def hold_rows(kept: list[KeptStates], alive: torch.Tensor) -> None:
    """Give rows that have ended their states from before a step back.

    Args:
        kept: what `states_of` returned before the step.
        alive: (B,) bool, False for rows that have ended.
    """
    for states in kept:
        for now, before in ((states.layer.conv_states, states.conv), (states.layer.recurrent_states, states.recurrent)):
            for index, value in before.items():
                if value is not None:
                    rows = alive.to(value.device).view(-1, *[1] * (value.dim() - 1))
                    now[index] = torch.where(rows, now[index], value)


def _copies(states: dict[int, torch.Tensor | None]) -> dict[int, torch.Tensor | None]:
    """Copy the small states of convolutions: a step of one token writes into them in place."""
    return {index: None if value is None else value.clone() for index, value in states.items()}


def _state_layers(cache: Cache) -> Iterator[StateLayer]:
    return (layer for layer in cache.layers if isinstance(layer, StateLayer))
