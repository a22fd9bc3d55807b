"""Labelled pairs for training, and the order in which a run meets them.

    loaded = load_pairs(config.data, home)                                  # from the store, or from a CSV
    step_order(loaded.train, step, config.cold_start.pairs_per_step, config.seed)

`trainer.data.load_pairs` loads pairs, `trainer.data.frames` reads their frames and makes their tensors.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from storage.splits import is_held_out, pair_identity, stable_share

__all__ = ["LoadedPairs", "TrainingPair", "expected_cost", "is_held_out", "pair_identity", "step_order"]

# Of an encoded video, for a token of its text that costs as much; only the order of pairs depends on it.
_BYTES_PER_CHARACTER = 100


@dataclass(frozen=True)
class TrainingPair:
    """Two videos of one prompt, with their label.

    Attributes:
        identity: `pair_identity`, the same whichever video is A.
        videos: paths of A and B.
        contents: sha256 of the two files.
        label: +1 A preferred, -1 B preferred, 0 a tie.
        strength: of the preference; 0 unknown, 1 slightly, 2 clearly, or a mean over people.
        thoughts: about A and B; None where there are none.
        sub_scores: of A and B, only the known dimensions.
    """

    identity: str
    videos: tuple[Path, Path]
    contents: tuple[str, str]
    prompt: str
    label: int
    strength: float = 0.0
    thoughts: tuple[str, str] | None = None
    sub_scores: tuple[Mapping[str, str], Mapping[str, str]] = ({}, {})


@dataclass(frozen=True)
class LoadedPairs:
    """Pairs for training and held-out pairs, each in the order of identities; `problems` says which are left out and why."""

    train: tuple[TrainingPair, ...]
    held_out: tuple[TrainingPair, ...]
    problems: tuple[str, ...]

    @property
    def all(self) -> tuple[TrainingPair, ...]:
        """Training and held-out pairs."""
        return self.train + self.held_out


def step_order(pairs: Sequence[TrainingPair], step: int, pairs_per_step: int, seed: int) -> tuple[TrainingPair, ...]:
    """Choose the pairs of one step (counted from 0), of all processes together.

    Every epoch is a permutation drawn from a stable hash, so step, seed and the set of pairs alone decide: a resumed run
    just goes on, and the order in which the pairs came does not matter.

    Raises:
        ValueError: there are no pairs.
    """
    if not pairs:
        raise ValueError("there are no pairs to train on")
    identities = tuple(pair.identity for pair in pairs)
    count, first = len(pairs), step * pairs_per_step
    positions = range(first, first + pairs_per_step)
    return tuple(pairs[_permutation(identities, position // count, seed)[position % count]] for position in positions)


def expected_cost(pair: TrainingPair) -> float:
    """Estimate how long a pair takes compared with others, from the sizes of its files and the lengths of its texts.

    Nothing is decoded for it. A file that can't be read counts as empty: it is left out soon enough.
    """
    texts = 2 * len(pair.prompt) + sum(len(thought) for thought in pair.thoughts or ())
    return texts + sum(_file_size(path) for path in pair.videos) / _BYTES_PER_CHARACTER


def _file_size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


@lru_cache(maxsize=4)
def _permutation(identities: tuple[str, ...], epoch: int, seed: int) -> tuple[int, ...]:
    drawn = [(stable_share("order", seed, epoch, identity), identity) for identity in identities]
    return tuple(sorted(range(len(identities)), key=drawn.__getitem__))
