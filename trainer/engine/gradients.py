"""Gradients of one step over several processes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from accelerate import Accelerator
    from torch import nn

BUCKET = 1 << 26  # numbers that travel in one message, 256 MB


def mean_gradients(weights: Sequence[nn.Parameter], accelerator: Accelerator) -> None:
    """Replace each process's gradients by their mean over all; a weight without one counts as zeros.

    One message after the backward of all micro-batches, instead of one with each backward: a process may go backward as
    often as its memory asks for, and through other parts of the model than the others.
    """
    if accelerator.num_processes == 1:
        return
    for bucket in _buckets(weights):
        flat = torch.cat([
            (torch.zeros_like(weight) if weight.grad is None else weight.grad).flatten() for weight in bucket
        ])  # fmt: skip
        mean = accelerator.reduce(flat, "mean")
        for weight, part in zip(bucket, mean.split([weight.numel() for weight in bucket]), strict=True):
            if weight.grad is None:
                weight.grad = part.reshape(weight.shape).clone()
            else:
                weight.grad.copy_(part.reshape(weight.shape))


def _buckets(weights: Sequence[nn.Parameter]) -> Iterator[list[nn.Parameter]]:
    """Group weights of one type and device, in their order, which is the same on every process."""
    bucket: list[nn.Parameter] = []
    for weight in weights:
        is_other = bucket and (weight.dtype, weight.device) != (bucket[0].dtype, bucket[0].device)
        if is_other or sum(one.numel() for one in bucket) + weight.numel() > BUCKET:
            if bucket:
                yield bucket
            bucket = []
        bucket.append(weight)
    if bucket:
        yield bucket
