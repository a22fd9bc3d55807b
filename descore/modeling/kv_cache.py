"""A KV cache that makes room ahead, so that a decoded token costs one write instead of a copy of all keys.

transformers' DynamicCache joins the whole cache with each new token, in every layer: at 2,000 prompt tokens that copies
more than a decode step otherwise reads. Here a layer holds some free slots after its last token; the keys and values that
attention gets are views of the filled ones, the same numbers in the same shapes. Dropping the last slots moves no memory
either.

    cache = growing_cache(backbone.config.get_text_config())
    backbone(**model.model_inputs(inputs), **model.cache_inputs(cache))

For inference: slots are written in place, so no gradient flows through it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from transformers import DynamicCache, PreTrainedConfig
from transformers.cache_utils import DynamicLayer

from descore.modeling.layer_states import own_states

if TYPE_CHECKING:
    import torch

# Free slots made at a time: few beside a prompt with a video, enough that copies are rare.
_SLOTS = 256


class GrowingLayer(DynamicLayer):
    """One layer's keys and values, (B, K, S, D) views of tensors with free slots behind slot S.

    Attributes:
        room: the tensors with the free slots; None until a token follows the prompt.
    """

    room: tuple[torch.Tensor, torch.Tensor] | None = None

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *_args: Any, **_kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Put new keys and values (B, K, T, D) behind the others and return them all."""
        before = self.get_seq_length()
        if before == 0:  # a prompt stays where it was computed until a token follows it
            self.lazy_initialization(key_states, value_states)
            self.room, self.keys, self.values = None, key_states, value_states
            return key_states, value_states
        assert self.keys is not None
        assert self.values is not None
        after = before + key_states.shape[-2]
        if not self._fits(after):
            self.room = (_with_slots(self.keys, after + _SLOTS), _with_slots(self.values, after + _SLOTS))
        assert self.room is not None
        keys, values = self.room
        keys[..., before:after, :] = key_states
        values[..., before:after, :] = value_states
        self.keys, self.values = keys[..., :after, :], values[..., :after, :]
        return self.keys, self.values

    def _fits(self, slots: int) -> bool:
        """Tell whether the room is that of the current keys (repeating or selecting rows replaces them) and has `slots`."""
        if self.room is None or self.keys is None:
            return False
        return bool(self.room[0].data_ptr() == self.keys.data_ptr() and self.room[0].shape[-2] >= slots)


def growing_cache(config: PreTrainedConfig) -> DynamicCache:
    """Make a DynamicCache whose layers of full attention grow in place, and whose states can be kept (`layer_states`)."""
    cache = own_states(DynamicCache(config=config))
    cache.layers = [GrowingLayer() if type(layer) is DynamicLayer else layer for layer in cache.layers]
    return cache


def _with_slots(values: torch.Tensor, slots: int) -> torch.Tensor:
    """Copy (B, K, S, D) to the start of a new tensor with `slots` slots."""
    room = values.new_empty(*values.shape[:-2], slots, values.shape[-1])
    room[..., : values.shape[-2], :] = values
    return room


def token_bytes(config: PreTrainedConfig, itemsize: int) -> int:
    """Bytes of the keys and values of one token over all layers.

    Args:
        config: of the text model.
        itemsize: bytes of a number.
    """
    heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    return int(2 * config.num_hidden_layers * heads * size * itemsize)
