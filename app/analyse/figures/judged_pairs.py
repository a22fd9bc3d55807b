"""Pairs as arrays: what people chose, and how far apart a checkpoint's rewards are.

judged = judged_pairs(rows, "think")          # pairs with a human choice and two finite rewards
judged.margins, judged.labels                 # (n,), (n,)
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import numpy.typing as npt

from descore.calibration import ModeCalibration
from storage.analysis.judged_pairs import AnalysedPair, PairScore

Floats = npt.NDArray[np.float64]
Labels = npt.NDArray[np.int64]
Way = Literal["think", "quick"]

WAYS: tuple[Way, ...] = ("think", "quick")
SIGN = {"A": 1, "tie": 0, "B": -1}
FITTED_HERE = (
    "Its eps and temperature were fitted on the held-out pairs of this store, so on these its figures with ties and its "
    "calibration flatter it a little; the gate on the Train page cross-fits. Accuracy without ties needs neither."
)


@dataclass(frozen=True)
class AnalysedCheckpoint:
    """A checkpoint with the pairs of the selection, judged by it or not.

    scales: its calibration by way of asking. fitted_here: they were fitted on held-out pairs of this store.
    """

    name: str
    fingerprint: str
    pairs: tuple[AnalysedPair, ...]
    scales: Mapping[str, ModeCalibration] = field(default_factory=dict)
    fitted_here: bool = False

    def tie_threshold(self, way: Way) -> float | None:
        """The eps that was fitted on its own validation pairs; None without a calibration."""
        scale = self.scales.get(way)
        return None if scale is None else scale.tie_threshold

    def temperature(self, way: Way) -> float | None:
        """P(A preferred) = sigmoid(margin / temperature); None without a calibration."""
        scale = self.scales.get(way)
        return None if scale is None else scale.temperature


@dataclass(frozen=True)
class Judged:
    """Pairs that people and the model judged. margins: reward of A less reward of B, (n,). labels: +1 A, -1 B, 0 tie, "
    "(n,)."""

    pairs: tuple[AnalysedPair, ...]
    margins: Floats
    labels: Labels

    def __len__(self) -> int:
        return len(self.pairs)

    @property
    def decided(self) -> npt.NDArray[np.bool_]:
        """Pairs of which people prefer one video, (n,)."""
        return self.labels != 0

    @property
    def right(self) -> npt.NDArray[np.bool_]:
        """Whether the margin has the sign of people's choice, (n,); never so for a tie or a margin of 0."""
        return self.labels * self.margins > 0

    def where(self, mask: npt.NDArray[np.bool_]) -> Judged:
        """Some of the pairs."""
        kept = tuple(pair for pair, keep in zip(self.pairs, mask, strict=True) if keep)
        return Judged(kept, self.margins[mask], self.labels[mask])


def fitted_here_note(names: Iterable[str]) -> tuple[str, ...]:
    """What has to be said of checkpoints whose scales were fitted on held-out pairs of this store; nothing without any."""
    said = ", ".join(dict.fromkeys(names))
    return (f"Trained here: {said}. {FITTED_HERE}",) if said else ()


def scored(pair: AnalysedPair, way: Way) -> PairScore | None:
    """What the checkpoint said of both videos when asked this way; None without two finite rewards."""
    found = pair.think if way == "think" else pair.quick
    return found if found is not None and all(_finite(reward) for reward in found.rewards) else None


def judged_pairs(pairs: Sequence[AnalysedPair], way: Way) -> Judged:
    """The pairs that have both a human choice and the model's rewards."""
    kept, margins, labels = [], [], []
    for pair in pairs:
        found = scored(pair, way)
        if found is None or pair.choice is None:
            continue
        kept.append(pair)
        margins.append(found.rewards[0] - found.rewards[1])
        labels.append(SIGN[pair.choice])
    return Judged(tuple(kept), np.array(margins, dtype=np.float64), np.array(labels, dtype=np.int64))


def _finite(reward: float | None) -> bool:
    return reward is not None and math.isfinite(reward)
