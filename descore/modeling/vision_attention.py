"""Vision attention without a Python loop over frames.

Qwen3-VL's vision tower attends within one frame (one temporal patch) at a time. Without flash attention,
transformers runs that as a Python loop, one attention call for each frame, in every block. Frames of one clip
have equal sizes, so a whole clip is one batched call: the same numbers, several times faster on a CPU.

    batch_equal_frames(backbone)     # once, after loading; safe on backbones that have no such tower
"""

from __future__ import annotations

from itertools import groupby
from types import MethodType

import torch
import torch.nn.functional as F
from torch import nn
from transformers.models.qwen3_vl.modeling_qwen3_vl import Qwen3VLVisionAttention, apply_rotary_pos_emb_vision


def batch_equal_frames(backbone: nn.Module) -> int:
    """Let every Qwen3-VL vision attention inside `backbone` attend to equally long frames in one call.

    The forward is bound to the instances; class, parameters and state dict stay as they are. Attention
    implementations that take variable lengths themselves (flash) and eager ones keep their own forward.

    Returns:
        How many attention modules now run batched.
    """
    modules = [
        module
        for module in backbone.modules()
        if isinstance(module, Qwen3VLVisionAttention) and module.config._attn_implementation == "sdpa"
    ]
    for module in modules:
        module.forward = MethodType(_forward, module)
    return len(modules)


def _forward(
    self: Qwen3VLVisionAttention,
    hidden_states: torch.Tensor,
    cu_seqlens: torch.Tensor,
    position_embeddings: tuple[torch.Tensor, torch.Tensor],
    **_: object,
) -> torch.Tensor:
    """Replace `Qwen3VLVisionAttention.forward` for SDPA; hidden_states (S, C), frame borders cu_seqlens (frames + 1,)."""
    length = hidden_states.shape[0]
    query, key, value = self.qkv(hidden_states).reshape(length, 3, self.num_heads, -1).unbind(1)  # each (S, H, D)
    query, key = apply_rotary_pos_emb_vision(query, key, *position_embeddings)
    dropout = self.attention_dropout if self.training else 0.0

    outputs, start = [], 0
    for frame_length, frames in groupby((cu_seqlens[1:] - cu_seqlens[:-1]).tolist()):
        count = len(list(frames))
        stop = start + count * frame_length
        q, k, v = (x[start:stop].unflatten(0, (count, frame_length)).transpose(1, 2) for x in (query, key, value))
        attended = F.scaled_dot_product_attention(q, k, v, dropout_p=dropout, scale=self.scaling)
        outputs.append(attended.transpose(1, 2).reshape(stop - start, -1))
        start = stop
    return self.proj(torch.cat(outputs) if len(outputs) > 1 else outputs[0])
