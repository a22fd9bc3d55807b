"""Familiarity: whether a video is like those that a checkpoint knows, from its vision features alone. Imports no torch.

    familiarity = fit_familiarity(features, groups)     # of reference videos
    familiarity.distance(feature)                       # 1.0 is the limit; a video beyond it is unfamiliar

A reward model is as sure about footage that it has never seen as about its own. The vision tower has looked at a video
before anything is judged, so the mean of its features costs nothing more. The distance of a video is that to its third
nearest reference video, channel by channel in standard deviations of the references (Sun et al. 2022, "Out-of-distribution
detection with deep nearest neighbors"); the limit is where 5 % of reference videos lie beyond when they are left out with
all videos of their prompt. A checkpoint keeps references and limit in one small file, which no reward depends on: it is
listed in the manifest and has no part in the checkpoint's fingerprint.

Shapes: n reference videos, d channels of a feature.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from descore.errors import CheckpointError

FAMILIARITY_FILE = "familiarity.safetensors"
FALSE_ALARM = 0.05  # share of familiar videos that are called unfamiliar
# One video alone may be an odd one out, or be there twice; its third neighbour says that a region is known.
NEIGHBOUR = 3
# From here on two videos or more lie beyond the limit, so that no single odd one decides where it is.
LEAST_VIDEOS = 40
# More make a distance no better and the file larger: 4 MB with the 4096 channels of an 8B.
MOST_VIDEOS = 600

_SAME = 0.02  # standard deviations by which the features of one video may differ in two precisions

Features = npt.NDArray[np.float32]
Groups = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Familiarity:
    """The videos that a checkpoint knows, as vision features.

    Attributes:
        references: features of the reference videos, shape (n, d).
        groups: videos with the same number share a prompt and are never compared with each other, shape (n,).
        limit: distance beyond which a video is unfamiliar, in standard deviations times the root of the channels.
        measured: name -> figure that a benchmark found, for the card.
    """

    references: Features
    groups: Groups
    limit: float
    measured: Mapping[str, Any] = field(default_factory=dict)

    def distance(self, feature: npt.ArrayLike) -> float:
        """Return how far a video lies from the reference videos, 1.0 at the limit.

        Args:
            feature: mean of its vision features, shape (d,).
        """
        nearest = self._to_references(np.asarray(feature, dtype=np.float64)[None])
        return float(np.partition(nearest[0], NEIGHBOUR - 1)[NEIGHBOUR - 1] / self.limit)

    def _to_references(self, features: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        mean, std = self._scale
        return _distances((features - mean) / std, self._standardised)

    @cached_property
    def _scale(self) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        return _scale(self.references)

    @cached_property
    def _standardised(self) -> npt.NDArray[np.float64]:
        mean, std = self._scale
        return (self.references.astype(np.float64) - mean) / std

    def joined(self, features: npt.ArrayLike, groups: npt.ArrayLike) -> Familiarity:
        """Return one that knows these videos too, for features of the very same vision tower and frames."""
        new, new_groups = _checked(features, groups)
        later = np.concatenate([new_groups, self.groups + (int(new_groups.max()) + 1 if len(new_groups) else 0)])
        return fit_familiarity(np.concatenate([new, self.references]), later) or self

    def save(self, path: Path) -> None:
        """Write the file; features in half precision, which moves a distance by a thousandth."""
        # One entry: the library keeps no order of several, and equal content is to be equal bytes.
        about = json.dumps({"limit": self.limit, "measured": dict(self.measured)})
        tensors: dict[str, npt.NDArray[Any]] = {"references": self.references.astype(np.float16), "groups": self.groups}
        save_file(tensors, path, {"about": about})

    @classmethod
    def load(cls, path: Path) -> Familiarity:
        """Load what `save` wrote.

        Raises:
            CheckpointError: the file is damaged, or holds something else.
        """
        try:
            with safe_open(path, "numpy") as file:
                about = json.loads((file.metadata() or {})["about"])
                references = file.get_tensor("references").astype(np.float32)
                groups = file.get_tensor("groups").astype(np.int64)
            limit, measured = float(about["limit"]), about["measured"]
            shaped = references.ndim == 2 and len(references) >= LEAST_VIDEOS and groups.shape == references.shape[:1]
            if not shaped or not np.isfinite(references).all() or not (math.isfinite(limit) and limit > 0):
                raise ValueError("it holds other values")
            if not isinstance(measured, dict):
                raise ValueError("its figures are of another kind")
        except (SafetensorError, OSError, KeyError, ValueError, TypeError) as error:
            raise CheckpointError(f"{path.name} can't be read: {error}; fetch it again") from error
        return cls(references, groups, limit, measured)


def read_familiarity(folder: Path) -> Familiarity | None:
    """Read that of a checkpoint folder; None for a checkpoint that has none.

    Raises:
        CheckpointError: as `Familiarity.load`.
    """
    path = folder / FAMILIARITY_FILE
    return Familiarity.load(path) if path.is_file() else None


def fit_familiarity(features: npt.ArrayLike, groups: npt.ArrayLike) -> Familiarity | None:
    """Find the limit of reference videos; None where they are fewer than `LEAST_VIDEOS`, or all of one group.

    Each video is measured against those of other groups, as a new one will be. The limit is the conformal quantile of these
    distances: of n familiar videos and a new one, the new one is beyond it with a probability of 5 % at most.

    Args:
        features: mean vision features of the videos, shape (v, d). Of more than `MOST_VIDEOS` some are taken, evenly; one
            that is there again, in another pair or from an earlier run, counts once, or it would be its own neighbour.
        groups: number of each video's prompt, shape (v,).

    Raises:
        ValueError: features that are not finite, or shapes that differ.
    """
    references, numbers = _checked(features, groups)
    if len(references) > MOST_VIDEOS:
        kept = np.unique(np.linspace(0, len(references) - 1, MOST_VIDEOS).round().astype(np.int64))
        references, numbers = references[kept], numbers[kept]
    # As they are read again from the file.
    references = references.astype(np.float16).astype(np.float32)
    kept = _distinct(references)
    references, numbers = references[kept], numbers[kept]
    if len(references) < LEAST_VIDEOS:
        return None
    unlimited = Familiarity(references, numbers, limit=1.0)
    distances = unlimited._to_references(references.astype(np.float64))
    distances[numbers[:, None] == numbers[None]] = np.inf
    own = np.sort(distances, axis=1)[:, NEIGHBOUR - 1]
    rank = math.ceil((len(own) + 1) * (1 - FALSE_ALARM))
    limit = float(np.sort(own)[min(rank, len(own)) - 1])
    return replace(unlimited, limit=limit) if math.isfinite(limit) and limit > 0 else None


def _checked(features: npt.ArrayLike, groups: npt.ArrayLike) -> tuple[Features, Groups]:
    values, numbers = np.asarray(features, dtype=np.float32), np.asarray(groups, dtype=np.int64)
    if not len(values):
        values = values.reshape(0, 0)
    if values.ndim != 2 or numbers.shape != values.shape[:1] or not np.isfinite(values).all():
        raise ValueError(f"features of {values.shape} and groups of {numbers.shape} are no finite features of videos")
    return values, numbers


def _distinct(references: Features) -> npt.NDArray[np.int64]:
    """Return the indices of references without those that are there earlier, but for rounding."""
    mean, std = _scale(references)
    values = (references - mean) / std
    same = np.tril(_distances(values, values) < _SAME * math.sqrt(max(1, references.shape[1])), k=-1)
    return np.flatnonzero(~same.any(axis=1))


def _scale(references: Features) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Return mean and standard deviation of each channel, (d,) each; a channel that is always the same keeps its unit."""
    values = references.astype(np.float64)
    std = values.std(axis=0) if len(values) else np.ones(values.shape[1:])
    return values.mean(axis=0) if len(values) else np.zeros(values.shape[1:]), np.where(std > 1e-6, std, 1.0)


def _distances(a: npt.NDArray[np.float64], b: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return Euclidean distances between rows, shape (len(a), len(b))."""
    squares = (a**2).sum(1)[:, None] + (b**2).sum(1)[None] - 2 * a @ b.T
    distances: npt.NDArray[np.float64] = np.sqrt(np.maximum(squares, 0.0))
    return distances
