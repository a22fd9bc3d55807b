"""Sampling of G thoughts for each video: one prefill a video, expanded to G rows, all videos in one batch.

    thoughts = sample(model, rows, seeds, num_generations=8, max_tokens=64)
    thoughts.texts[video][rollout], thoughts.ended[video][rollout]

The chance of each rollout comes from a stable hash of its seed text (step, pair, side) and its number, so it does not depend
on what else is in the batch, on the number of processes, or on where a run was resumed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Protocol, TypeVar

import numpy as np
import torch

from descore.encode import Row, collate, pad_token_id

if TYPE_CHECKING:
    from descore.modeling.model import DeScoreModel, VisionOutputs


Item = TypeVar("Item")


@dataclass(frozen=True)
class SampledThoughts:
    """Thoughts of V videos, G each.

    Attributes:
        ids: tokens of each thought, without its end token.
        texts: the same as text.
        ended: False where a thought was cut off at the limit; at the limit itself, True where an end was most likely.
        ends: the end token that was sampled after each thought; None where none was.
        log_probs: of each sampled token, the end token's included, under the distribution that it was drawn from.
    """

    ids: tuple[tuple[tuple[int, ...], ...], ...]
    texts: tuple[tuple[str, ...], ...]
    ended: tuple[tuple[bool, ...], ...]
    ends: tuple[tuple[int | None, ...], ...]
    log_probs: tuple[tuple[tuple[float, ...], ...], ...]

    @property
    def tokens(self) -> int:
        """Number of all sampled tokens."""
        return sum(len(ids) for group in self.ids for ids in group)

    def of_videos(self, indices: Sequence[int]) -> SampledThoughts:
        """Return the thoughts of some videos, in the order of `indices`."""
        return SampledThoughts(**{each.name: tuple(getattr(self, each.name)[i] for i in indices) for each in fields(self)})

    @classmethod
    def joined(cls, parts: Sequence[SampledThoughts]) -> SampledThoughts:
        """Return the thoughts of all videos of `parts`, one after the other."""
        return cls(**{each.name: tuple(v for part in parts for v in getattr(part, each.name)) for each in fields(cls)})


class Sampler(Protocol):
    """A rollout engine."""

    def __call__(
        self,
        model: DeScoreModel,
        rows: Sequence[Row],
        seeds: Sequence[str],
        *,
        num_generations: int,
        max_tokens: int,
        temperature: float = 1.0,
        vision: VisionOutputs | None = None,
    ) -> SampledThoughts:
        """Sample `num_generations` thoughts for each row, as `sample` does."""
        ...


def sample(
    model: DeScoreModel,
    rows: Sequence[Row],
    seeds: Sequence[str],
    *,
    num_generations: int,
    max_tokens: int,
    temperature: float = 1.0,
    vision: VisionOutputs | None = None,
) -> SampledThoughts:
    """Sample `num_generations` thoughts for each row.

    Args:
        rows: prompts with their videos, of `descore.encode.encode_prompt`.
        seeds: one text a row, such as "12/pair-7/A".
        max_tokens: the limit of one thought.
        vision: ready features of the rows' videos.
    """
    was_training = model.training
    model.eval()
    try:
        prompts = collate(rows, pad_token_id(model.processor))
        state = model.repeat(model.prefill(prompts, vision), num_generations)
        chances = torch.stack([uniforms(f"{seed}/{g}", max_tokens) for seed in seeds for g in range(num_generations)])
        for _ in model.think(state, max_tokens, chances, temperature):
            pass
    finally:
        model.train(was_training)
    texts = model.processor.tokenizer.batch_decode(state.thoughts, skip_special_tokens=False)
    return SampledThoughts(
        ids=grouped([tuple(ids) for ids in state.thoughts], num_generations),
        texts=grouped(texts, num_generations),
        ended=grouped([not on for on in state.running], num_generations),
        ends=grouped(state.ends, num_generations),
        log_probs=grouped([tuple(each) for each in state.log_probs], num_generations),
    )


def packed_log_probs(sampled: SampledThoughts, length: int, device: torch.device) -> torch.Tensor:
    """Pack the log-probabilities of V x G thoughts into (V * G, length) float32, zero behind the last token of a row."""
    flat = [row for group in sampled.log_probs for row in group]
    packed = torch.zeros(len(flat), length)
    for index, row in enumerate(flat):
        packed[index, : len(row)] = torch.tensor(row)
    return packed.to(device)


def uniforms(seed: str, count: int) -> torch.Tensor:
    """Draw (count,) float64 numbers in [0, 1), the same on every machine for the same text."""
    key = int.from_bytes(hashlib.sha256(seed.encode()).digest()[:16], "little")
    return torch.from_numpy(np.random.Generator(np.random.Philox(key=key)).random(count))


def grouped(values: Sequence[Item], size: int) -> tuple[tuple[Item, ...], ...]:
    """Cut a flat sequence into tuples of `size`."""
    return tuple(tuple(values[start : start + size]) for start in range(0, len(values), size))
