"""Which number formats a run computes in.

    precision = Precision.of("auto", device)
    with precision.step():                 # around forward and backward
        with precision.autocast():         # around the forward alone
            loss = objective(batch)
        loss.backward()
    with precision.sampling():             # around rollouts
        rollouts = sample(model, rows, seeds, num_generations=8, max_tokens=64)

What trains is float32 whatever the backbone is stored in: an update of 1e-6 would be lost in bfloat16's three digits.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Literal

import torch

from trainer.engine.cpu_attention import plain_cpu_attention


@dataclass(frozen=True)
class Precision:
    """Number formats of a run on a device.

    Attributes:
        device: "cuda" or "cpu".
        half: forward passes run in bfloat16 by autocast.
    """

    device: str
    half: bool

    @classmethod
    def of(cls, setting: Literal["auto", "bf16", "fp32"], device: torch.device) -> Precision:
        """Choose the formats; "auto" is bfloat16 on CUDA, and on a CPU that computes in it; elsewhere float32."""
        fast = device.type == "cuda" or _cpu_computes_bf16()
        return cls(device.type, setting == "bf16" or (setting == "auto" and fast))

    def autocast(self) -> AbstractContextManager[object]:
        """For training forwards."""
        return torch.autocast(self.device, torch.bfloat16) if self.half else nullcontext()

    def sampling(self) -> AbstractContextManager[object]:
        """For rollouts and for figures: float32 on a CPU, where single decode steps gain nothing from bfloat16."""
        return self.autocast() if self.device != "cpu" else nullcontext()

    def step(self) -> AbstractContextManager[object]:
        """For forward and backward: the attention whose bfloat16 backward is fast on a CPU."""
        return plain_cpu_attention() if self.half and self.device == "cpu" else nullcontext()

    def stored(self, frozen: bool) -> torch.dtype:
        """How backbone weights are held: bfloat16 where they are frozen and the GPU computes in it anyway."""
        return torch.bfloat16 if frozen and self.half and self.device == "cuda" else torch.float32


def _cpu_computes_bf16() -> bool:
    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())
