"""Attention of videos with different numbers of rows: the plain attention over [prefix, own slots] of each row."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from descore.modeling.uneven_rows import largest_group, uneven_attention, uneven_rows

VIDEOS, HEADS, KV_HEADS, SIZE, WIDTH, KEYS = 3, 4, 2, 8, 5, 4
CPU = torch.device("cpu")


@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.parametrize("same_length", [False, True])
@pytest.mark.parametrize("video_of_row", [[1, 0, 1], [0, 0, 1], [1, 1, 1, 0], [0, 2, 0, 2, 2]])
def test_it_is_plain_attention(video_of_row: list[int], same_length: bool, padded: bool) -> None:
    generator, rows = torch.Generator().manual_seed(0), len(video_of_row)

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=generator)

    query = draw(rows, HEADS, 1, SIZE)
    own = (draw(rows, KV_HEADS, KEYS, SIZE), draw(rows, KV_HEADS, KEYS, SIZE))
    prefix = (draw(VIDEOS, KV_HEADS, WIDTH, SIZE), draw(VIDEOS, KV_HEADS, WIDTH, SIZE))
    before = torch.ones(VIDEOS, WIDTH, dtype=torch.bool)
    if padded:
        before[0, :2] = before[2, :3] = False
    seen = torch.arange(KEYS) <= torch.tensor([2, 0, 3, 1, 3])[:rows, None] + KEYS * same_length
    uneven = uneven_rows(video_of_row, VIDEOS, CPU)
    assert uneven is not None
    assert uneven.group == largest_group(video_of_row)
    own_mask = None if same_length else seen[:, None, None]
    found = uneven_attention(query, own, prefix, own_mask, before if padded else None, uneven, 0.3)
    of_row = torch.tensor(video_of_row)
    key, value = (
        torch.cat([old[of_row], new], dim=2).repeat_interleave(HEADS // KV_HEADS, 1)
        for old, new in zip(prefix, own, strict=True)
    )
    whole = torch.cat([before[of_row], seen], dim=-1)[:, None, None]
    expected = F.scaled_dot_product_attention(query, key, value, attn_mask=whole, scale=0.3).transpose(1, 2)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)


def test_equal_groups_that_stand_together_need_no_places() -> None:
    assert uneven_rows([0, 0, 1, 1], 2, CPU) is None
    assert uneven_rows([0, 1, 0, 1], 2, CPU) is not None
