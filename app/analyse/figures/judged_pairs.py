"""Judged pairs as arrays: people's choices and the margins of a checkpoint's rewards.

judged = judged_pairs(pairs, "think")         # those with a human choice and two finite rewards
judged.margins, judged.labels                 # (n,), (n,)
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import numpy.typing as npt

from app.analyse.figures.finding import Floats
from descore.calibration import ModeCalibration
from storage.analysis.judged_pairs import AnalysedPair, PairScore

Labels = npt.NDArray[np.int64]
Mode = Literal["think", "quick"]

MODES: tuple[Mode, ...] = ("think", "quick")
MODE_TITLES: dict[str, str] = {"think": "asked to think", "quick": "asked quickly"}
SIGN = {"A": 1, "tie": 0, "B": -1}  # label of each choice
NO_EPS = "This checkpoint has no calibration, so no tie threshold: it says tie only where the rewards are equal."
FITTED_HERE = (
    "Its eps and temperature were fitted on the held-out pairs of this store. On these pairs its accuracy with ties and its "
    "calibration therefore look a little better than they are; the gate on the Train page cross-fits. Accuracy without ties "
    "needs neither."
)


@dataclass(frozen=True)
class AnalysedCheckpoint:
    """A checkpoint with the selected pairs, judged by it or not.

    Attributes:
        name: as the registry has it.
        fingerprint: hash of all weights that decide a judgement.
        pairs: the selected pairs.
        calibrations: by mode.
        fitted_here: whether the calibrations were fitted on held-out pairs of this store.
        trained_on: identities of the pairs that it, or a checkpoint that it descends from, was trained on.
    """

    name: str
    fingerprint: str
    pairs: tuple[AnalysedPair, ...]
    calibrations: Mapping[str, ModeCalibration] = field(default_factory=dict)
    fitted_here: bool = False
    trained_on: frozenset[str] = frozenset()

    @property
    def fair_pairs(self) -> tuple[AnalysedPair, ...]:
        """The selected pairs that it was not trained on: only these say how often it agrees with people."""
        return tuple(pair for pair in self.pairs if pair.identity not in self.trained_on)

    def tie_threshold(self, mode: Mode) -> float | None:
        """Return the eps that was fitted on its own validation pairs; None without a calibration."""
        calibration = self.calibrations.get(mode)
        return None if calibration is None else calibration.tie_threshold

    def temperature(self, mode: Mode) -> float | None:
        """Return the temperature of P(A preferred) = sigmoid(margin / temperature); None without a calibration."""
        calibration = self.calibrations.get(mode)
        return None if calibration is None else calibration.temperature


@dataclass(frozen=True)
class JudgedPairs:
    """Pairs that both people and the model judged.

    Attributes:
        pairs: n pairs.
        margins: reward of A minus reward of B, shape (n,).
        labels: +1 for A, -1 for B, 0 for a tie, shape (n,).
    """

    pairs: tuple[AnalysedPair, ...]
    margins: Floats
    labels: Labels

    def __len__(self) -> int:
        return len(self.pairs)

    @property
    def decided(self) -> npt.NDArray[np.bool_]:
        """Mask of the pairs in which people prefer one video, shape (n,)."""
        decided: npt.NDArray[np.bool_] = self.labels != 0
        return decided

    @property
    def correct(self) -> npt.NDArray[np.bool_]:
        """Mask of the margins that have the sign of people's choice, shape (n,); False for ties and margins of 0."""
        correct: npt.NDArray[np.bool_] = self.labels * self.margins > 0
        return correct

    def where(self, mask: npt.NDArray[np.bool_]) -> JudgedPairs:
        """Return the pairs of a mask of shape (n,)."""
        kept = tuple(pair for pair, keep in zip(self.pairs, mask, strict=True) if keep)
        return JudgedPairs(kept, self.margins[mask], self.labels[mask])


def fitted_here_note(names: Iterable[str]) -> tuple[str, ...]:
    """Return a note on checkpoints whose calibrations were fitted on held-out pairs of this store; () without names."""
    listed = ", ".join(dict.fromkeys(names))
    return (f"Trained here: {listed}. {FITTED_HERE}",) if listed else ()


def trained_on_note(checkpoints: Iterable[AnalysedCheckpoint]) -> tuple[str, ...]:
    """Return a note on labelled pairs that are left out since a checkpoint was trained on them; () without any."""
    left_out = []
    for checkpoint in checkpoints:
        number = sum(pair.identity in checkpoint.trained_on and pair.choice is not None for pair in checkpoint.pairs)
        if number:
            left_out.append(f"{checkpoint.name} on {number}")
    if not left_out:
        return ()
    return (f"Labelled pairs that a checkpoint was trained on are left out: {', '.join(left_out)}.",)


def pair_score(pair: AnalysedPair, mode: Mode) -> PairScore | None:
    """Return the rewards of both videos in a mode; None without two finite rewards."""
    scores = pair.think if mode == "think" else pair.quick
    return scores if scores is not None and all(_finite(reward) for reward in scores.rewards) else None


def judged_pairs(pairs: Sequence[AnalysedPair], mode: Mode) -> JudgedPairs:
    """Return the pairs that have both a human choice and the model's rewards."""
    kept, margins, labels = [], [], []
    for pair in pairs:
        scores = pair_score(pair, mode)
        if scores is None or pair.choice is None:
            continue
        kept.append(pair)
        margins.append(scores.rewards[0] - scores.rewards[1])
        labels.append(SIGN[pair.choice])
    return JudgedPairs(tuple(kept), np.array(margins, dtype=np.float64), np.array(labels, dtype=np.int64))


def _finite(reward: float | None) -> bool:
    return reward is not None and math.isfinite(reward)
