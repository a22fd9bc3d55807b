"""Sampling of G thoughts for each video: one prefill a video, all videos in one batch under a budget of tokens.

    thoughts = sample(model, rows, seeds, num_generations=8, max_tokens=64)
    thoughts.texts[video][rollout], thoughts.ended[video][rollout]

The chance of each rollout comes from a stable hash of its seed text (step, pair, side) and its number, so it does not depend
on what else is in the batch, on the budget, on the number of processes, or on where a run was resumed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import numpy as np
import torch

from descore.modeling.decode_step import text_model
from trainer.rollouts.default_tokens import default_tokens
from trainer.rollouts.merged_adapter import AdapterMerge
from trainer.rollouts.refill import SampledThought, refill, take_turns

if TYPE_CHECKING:
    from descore.encode import Row
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

    def replaced(self, indices: Sequence[int], others: SampledThoughts) -> SampledThoughts:
        """Return the thoughts with those of some videos replaced, in the order of `indices`."""
        where = {index: number for number, index in enumerate(indices)}

        def put(own: Sequence[Any], other: Sequence[Any]) -> tuple[Any, ...]:
            return tuple(other[where[index]] if index in where else value for index, value in enumerate(own))

        names = [each.name for each in fields(self)]
        return SampledThoughts(**{name: put(getattr(self, name), getattr(others, name)) for name in names})

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
        budget: int | None = None,
    ) -> SampledThoughts:
        """Sample `num_generations` thoughts for each row, as `sample` does."""
        ...


class RolloutEngine(Sampler, Protocol):
    """A sampler that a run keeps.

    Attributes:
        is_trained_model: it samples from the policy that is trained, up to rounding.
        gpu_bytes: of the device's memory that it takes while it samples, the cache of tokens aside.
    """

    is_trained_model: bool
    gpu_bytes: float

    def close(self) -> None:
        """Free what it holds."""
        ...


class OwnSampler:
    """This package's own engine: the trained model itself, its adapter merged while it samples.

    Attributes:
        is_trained_model: it samples from the policy that is trained, up to rounding. False where merged weights are
            rounded to half precision.
        gpu_bytes: 0.
    """

    gpu_bytes = 0.0

    def __init__(self, model: DeScoreModel) -> None:
        self._merge = AdapterMerge(model.backbone)
        self.is_trained_model = self._merge.exact

    def __call__(self, model: DeScoreModel, rows: Sequence[Row], seeds: Sequence[str], **settings: Any) -> SampledThoughts:
        """Sample as `sample` does."""
        with self._merge.merged():
            return sample(model, rows, seeds, **settings)

    def close(self) -> None:
        """Do nothing: the model is the run's."""


def sample(
    model: DeScoreModel,
    rows: Sequence[Row],
    seeds: Sequence[str],
    *,
    num_generations: int,
    max_tokens: int,
    temperature: float = 1.0,
    vision: VisionOutputs | None = None,
    budget: int | None = None,
) -> SampledThoughts:
    """Sample `num_generations` thoughts for each row.

    Args:
        rows: prompts with their videos, of `descore.encode.encode_prompt`.
        seeds: one text a row, such as "12/pair-7/A".
        max_tokens: the limit of one thought.
        vision: ready features of the rows' videos, of `trainer.data.vision_features`.
        budget: tokens that are cached at a time, prompts once for each video; None: `default_tokens`. It changes no sample.
    """
    chances = torch.stack([uniforms(f"{seed}/{g}", max_tokens) for seed in seeds for g in range(num_generations)])
    settings: dict[str, Any] = {
        "max_tokens": max_tokens,
        "budget": budget or default_tokens(model),
        "temperature": temperature,
        "vision": vision,
    }
    was_training = model.training
    model.eval()
    try:
        refills = text_model(model.backbone) is not None
        thoughts = refill(model, rows, chances, **settings) if refills else take_turns(model, rows, chances, **settings)
    finally:
        model.train(was_training)
    return group_thoughts(model, thoughts, num_generations)


def group_thoughts(model: DeScoreModel, thoughts: Sequence[SampledThought], group: int) -> SampledThoughts:
    """Put the thoughts of a call together, which come video by video, `group` of each."""
    texts = model.processor.tokenizer.batch_decode([list(each.ids) for each in thoughts], skip_special_tokens=False)
    return SampledThoughts(
        ids=grouped([each.ids for each in thoughts], group),
        texts=grouped(texts, group),
        ended=grouped([each.ended for each in thoughts], group),
        ends=grouped([each.end for each in thoughts], group),
        log_probs=grouped([each.log_probs for each in thoughts], group),
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
