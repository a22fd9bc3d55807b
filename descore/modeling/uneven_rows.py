"""Attention of a decode step where videos have different numbers of rows, or their rows do not stand together.

The queries of a video's rows meet its prefix in one matrix product, for which each video has equally many places; a row's
own slots stay where they are. Both parts have a softmax of their own, and what each of them sums to says how to put them
together.

Shapes: N rows, V videos, G places of each, H heads of queries, K of keys, R = H / K, P slots of prefix, S own slots, D
channels.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import torch

_Layer = tuple[torch.Tensor, torch.Tensor]


@dataclass(frozen=True)
class UnevenRows:
    """Where rows are among V * G places.

    Attributes:
        places: (N,) the place of each row: its video's index times G, and a number within the video.
        rows: (V * G,) the row of each place; any row where a place is empty.
        group: G.
    """

    places: torch.Tensor
    rows: torch.Tensor
    group: int


def largest_group(video_of_row: Sequence[int]) -> int:
    """Return the largest number of rows that a video has."""
    return max(Counter(video_of_row).values())


def uneven_rows(video_of_row: Sequence[int], videos: int, device: torch.device) -> UnevenRows | None:
    """Give each row a place; None where all places are taken in the order of the rows.

    Args:
        video_of_row: index of each row's video.
        videos: how many there are.
    """
    group = largest_group(video_of_row)
    members: list[list[int]] = [[] for _ in range(videos)]
    places = []
    for row, video in enumerate(video_of_row):
        places.append(video * group + len(members[video]))
        members[video].append(row)
    rows = [row for of_video in members for row in (*of_video, *[0] * (group - len(of_video)))]
    if rows == list(range(len(video_of_row))):
        return None
    return UnevenRows(torch.tensor(places, device=device), torch.tensor(rows, device=device), group)


def uneven_attention(
    query: torch.Tensor,
    own: _Layer,
    prefix: _Layer,
    own_mask: torch.Tensor | None,
    prefix_mask: torch.Tensor | None,
    uneven: UnevenRows,
    scale: float,
) -> torch.Tensor:
    """Compute softmax(scale query [prefix key, own key]^T) value for one query a row.

    Args:
        query: (N, H, 1, D).
        own: keys and values (N, K, S, D).
        prefix: keys and values (V, K, P, D).
        own_mask: (N, 1, 1, S) bool, True where a row may look; None: everywhere.
        prefix_mask: (V, P) bool, likewise.

    Returns:
        (N, 1, H, D).
    """
    rows, heads, _, size = query.shape
    apart = query.reshape(rows, own[0].shape[1], -1, size) * scale  # (N, K, R, D)
    placed = apart[uneven.rows].unflatten(0, (-1, uneven.group)).transpose(1, 2).flatten(2, 3)  # (V, K, G * R, D)
    seen = None if prefix_mask is None else prefix_mask[:, None, None, :]
    mixed, total, highest = (
        part.unflatten(2, (uneven.group, -1)).transpose(1, 2).flatten(0, 1)[uneven.places]
        for part in _softmax_parts(placed, prefix, seen)
    )
    own_mixed, own_total, own_highest = _softmax_parts(apart, own, own_mask)
    top = torch.maximum(highest, own_highest)
    before, after = (highest - top).exp(), (own_highest - top).exp()
    result = (mixed * before + own_mixed * after) / (total * before + own_total * after)
    return result.to(query.dtype).reshape(rows, 1, heads, size)


def _softmax_parts(
    query: torch.Tensor, layer: _Layer, seen: torch.Tensor | None
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return sum of exp(score - highest) value, sum of exp(score - highest), and the highest score; the latter (..., 1)."""
    scores = (query @ layer[0].transpose(-1, -2)).float()
    if seen is not None:
        scores = scores.masked_fill(~seen, -torch.inf)
    highest = scores.amax(-1, keepdim=True)
    scores = (scores - highest).exp()
    return scores.to(layer[1].dtype) @ layer[1], scores.sum(-1, keepdim=True), highest
