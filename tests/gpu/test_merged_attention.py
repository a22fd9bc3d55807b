"""Attention over a shared prefix by a GPU's kernels, in autocast's bfloat16: what SDPA computes over keys in one place."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from descore.modeling.merged_attention import Part, merged_attention
from tests.helpers.gpu import DEVICES

VIDEOS, GROUP, KEY_HEADS, SHARED, LENGTH, PREFIX, SIZE, SCALE = 2, 3, 4, 2, 33, 70, 64, 0.125


def joined(query: torch.Tensor, own: list[torch.Tensor], prefix: list[torch.Tensor]) -> torch.Tensor:
    """SDPA, every row with a copy of its prefix and of every key head."""
    key, value = (
        torch.cat([kept.repeat_interleave(GROUP, 0), now], dim=2).repeat_interleave(SHARED, 1)
        for kept, now in zip(prefix, own, strict=True)
    )
    seen = torch.ones(LENGTH, PREFIX + LENGTH, dtype=torch.bool, device=query.device).tril(PREFIX)
    out = F.scaled_dot_product_attention(query.flatten(1, 2), key, value, attn_mask=seen, scale=SCALE)
    return out.unflatten(1, (KEY_HEADS, SHARED))


@pytest.mark.parametrize("device", DEVICES)
def test_by_autocast_it_is_sdpa_over_joined_keys(device: str) -> None:
    generator = torch.Generator().manual_seed(0)

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=generator).to(device).requires_grad_()

    rows = VIDEOS * GROUP
    query = draw(rows, KEY_HEADS, SHARED, LENGTH, SIZE)
    own = [draw(rows, KEY_HEADS, LENGTH, SIZE) for _ in range(2)]
    prefix = [draw(VIDEOS, KEY_HEADS, PREFIX, SIZE) for _ in range(2)]
    kind = torch.device(device).type
    with torch.autocast(kind, torch.bfloat16):
        found = merged_attention(query, [Part(*prefix), Part(*own, causal=True)], scale=SCALE)
        expected = joined(query, own, prefix)
    assert found.dtype == expected.dtype == torch.bfloat16
    exact = joined(query, own, prefix)
    assert (found - exact).norm() <= 0.01 * exact.norm()
    assert (found - expected).norm() <= 0.01 * exact.norm()
    weights, inputs = torch.randn(exact.shape, generator=generator).to(device), [query, *own, *prefix]
    for one, other in zip(
        torch.autograd.grad((exact * weights).sum(), inputs),
        torch.autograd.grad((found.float() * weights).sum(), inputs),
        strict=True,
    ):
        assert (one - other).norm() <= 0.02 * one.norm()
