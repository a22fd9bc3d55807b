"""Attention over a shared prefix: the plain attention over [prefix, own tokens], however it is computed."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from descore.modeling import merged_attention
from descore.modeling.prefix_attention import SharedPrefix, enable_prefixes, prefix_attention, shared_prefix, takes_prefixes
from tests.helpers.tiny import tiny_backbone

VIDEOS, GROUP, HEADS, KV_HEADS, SIZE, WIDTH = 2, 3, 4, 2, 8, 5


def plain(
    query: torch.Tensor, own: tuple[torch.Tensor, torch.Tensor], shared: SharedPrefix, mask: torch.Tensor | None
) -> torch.Tensor:
    """Every row with a copy of its prefix and of every key head."""
    key, value = (
        torch.cat([kept.repeat_interleave(GROUP, 0), now], dim=2).repeat_interleave(HEADS // KV_HEADS, 1)
        for kept, now in zip(shared.layers[0], own, strict=True)
    )
    length, keys = query.shape[2], own[0].shape[2]
    seen = torch.ones(length, keys, dtype=torch.bool).tril(keys - length)[None, None] if mask is None else mask
    before = torch.ones(VIDEOS, WIDTH, dtype=torch.bool) if shared.mask is None else shared.mask
    before = before.repeat_interleave(GROUP, 0)[:, None, None].expand(-1, 1, length, -1)
    whole = torch.cat([before, seen.expand(len(query), 1, length, keys)], dim=-1)
    return F.scaled_dot_product_attention(query, key, value, attn_mask=whole, scale=0.3).transpose(1, 2)


@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.parametrize("case", ["training", "decoding", "decoding with ended rows"])
@pytest.mark.parametrize("products", [False, True])
def test_it_is_plain_attention(monkeypatch: pytest.MonkeyPatch, case: str, padded: bool, products: bool) -> None:
    if products:
        monkeypatch.setattr(merged_attention, "_kernel", lambda _: merged_attention._Products())
        monkeypatch.setattr(merged_attention, "_BLOCK", 40)  # so that it takes more than one
    generator = torch.Generator().manual_seed(0)
    rows = VIDEOS * GROUP
    length, keys = (4, 4) if case == "training" else (1, 4)

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=generator).requires_grad_()

    query = draw(rows, HEADS, length, SIZE)
    own = (draw(rows, KV_HEADS, keys, SIZE), draw(rows, KV_HEADS, keys, SIZE))
    kept = (draw(VIDEOS, KV_HEADS, WIDTH, SIZE), draw(VIDEOS, KV_HEADS, WIDTH, SIZE))
    shared = shared_prefix({0: kept}, torch.tensor([[0, 0, 1, 1, 1] if padded else [1] * 5, [1] * 5]), GROUP)
    mask = None
    if case == "decoding with ended rows":
        mask = torch.ones(rows, 1, 1, keys, dtype=torch.bool)
        mask[1, ..., 2:] = mask[4, ..., 1:] = False
    expected = plain(query, own, shared, mask)
    found, _ = prefix_attention(nn.Module(), query, *own, mask, 0.3, shared_prefix=shared)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)
    weights = torch.randn(expected.shape, generator=generator)
    inputs = [query, *own, *kept]
    for one, other in zip(
        torch.autograd.grad((expected * weights).sum(), inputs),
        torch.autograd.grad((found * weights).sum(), inputs),
        strict=True,
    ):
        torch.testing.assert_close(other, one, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("padded", [False, True])
def test_own_tokens_may_come_piece_by_piece(padded: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    rows, length, cut = VIDEOS * GROUP, 7, 4
    query, key, value = (
        torch.randn(rows, heads, length, SIZE, generator=generator) for heads in (HEADS, KV_HEADS, KV_HEADS)
    )
    kept = (torch.randn(VIDEOS, KV_HEADS, WIDTH, SIZE, generator=generator),) * 2
    shared = shared_prefix({0: kept}, torch.tensor([[0, 0, 1, 1, 1] if padded else [1] * 5, [1] * 5]), GROUP)
    whole, _ = prefix_attention(nn.Module(), query, key, value, None, 0.3, shared_prefix=shared)
    second = replace(shared, earlier={0: (key[:, :, :cut], value[:, :, :cut])})
    later = (values[:, :, cut:] for values in (query, key, value))
    found, _ = prefix_attention(nn.Module(), *later, None, 0.3, shared_prefix=second)
    torch.testing.assert_close(found, whole[:, cut:], rtol=1e-5, atol=1e-6)


def test_by_autocast_it_is_computed_in_its_type_as_the_plain_one() -> None:
    """Norms whose weights train are float32, so queries and keys come wider than values."""
    generator = torch.Generator().manual_seed(0)
    rows, length = VIDEOS * GROUP, 4

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=generator).requires_grad_()

    query, key = draw(rows, HEADS, length, SIZE), draw(rows, KV_HEADS, length, SIZE)
    value = draw(rows, KV_HEADS, length, SIZE)
    prefix_key, prefix_value = draw(VIDEOS, KV_HEADS, WIDTH, SIZE), draw(VIDEOS, KV_HEADS, WIDTH, SIZE)
    shared = SharedPrefix({0: (prefix_key, prefix_value)}, None, GROUP)
    expected = plain(query, (key, value), shared, None)
    half = SharedPrefix({0: (prefix_key, prefix_value.bfloat16())}, None, GROUP)
    with torch.autocast("cpu", torch.bfloat16):
        found, _ = prefix_attention(nn.Module(), query, key, value.bfloat16(), None, 0.3, shared_prefix=half)
    assert found.dtype == torch.bfloat16
    torch.testing.assert_close(found.float(), expected, rtol=0.03, atol=0.03)
    inputs = [query, key, prefix_key, value, prefix_value]
    weights = torch.randn(expected.shape, generator=generator)
    for one, other in zip(
        torch.autograd.grad((expected * weights).sum(), inputs),
        torch.autograd.grad((found * weights).sum(), inputs),
        strict=True,
    ):
        assert (one - other).norm() <= 0.02 * one.norm()


def test_other_kinds_of_attention_stay_as_they_are() -> None:
    backbone = tiny_backbone()
    backbone.set_attn_implementation("eager")
    enable_prefixes(backbone)
    assert not takes_prefixes(backbone)
