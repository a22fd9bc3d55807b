"""Paired tests of two checkpoints on the same pairs, and a cross-fitted scale that no pair helped to fit.

    found = paired_difference(right_before, right_after)
    found.difference, found.interval, found.better, found.worse

    fitted = cross_fitted(rewards_a, rewards_b, labels, identities)
    fitted.right.mean(), fitted.brier, fitted.ece

A tie threshold and a temperature that are fitted on the pairs they are judged by look better than they are. Here each pair
is judged with the scale that the pairs of the other folds give, whatever scale the checkpoint brings along: that one was
perhaps fitted on these very pairs.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from descore.calibration import fit_mode, preference_probability
from descore.metrics import LEVEL, RESAMPLES, best_tie_threshold
from storage.splits import stable_share

FOLDS = 5
# As many as a checkpoint's own scale needs; fewer say nothing about it.
LEAST_PAIRS = 10
_BINS = 10


@dataclass(frozen=True)
class Difference:
    """A change on the same observations, as fractions of 1.

    Attributes:
        before: mean before.
        after: mean after.
        difference: after - before.
        interval: percentile bootstrap over observations at 95 %.
        better: number of observations that rose.
        worse: number of observations that fell.
    """

    before: float
    after: float
    difference: float
    interval: tuple[float, float]
    better: int
    worse: int

    def to_dict(self) -> dict[str, Any]:
        """Convert to JSON types."""
        return {**asdict(self), "interval": list(self.interval)}


@dataclass(frozen=True)
class CrossFit:
    """Figures of a checkpoint's pairs, each judged with the scale of the other folds.

    Attributes:
        right: whether the class (A, B, tie) is the human one, (n,).
        eps: mean tie threshold of the folds, in the unit of rewards.
        brier: mean square of P(A preferred) minus the label (1, 0, and a half for a tie).
        ece: expected calibration error, the mean distance of P and the share of people over ten bins of P, each pair seen
            from both sides.
    """

    right: npt.NDArray[np.bool_]
    eps: float
    brier: float
    ece: float


def paired_difference(before: npt.ArrayLike, after: npt.ArrayLike, seed: int = 0) -> Difference | None:
    """Measure the change of a mean over the same observations; None without any.

    Args:
        before, after: one number for each observation, (n,); booleans for right and wrong.
    """
    old, new = np.asarray(before, dtype=np.float64), np.asarray(after, dtype=np.float64)
    if not len(old):
        return None
    change = new - old
    return Difference(
        before=float(old.mean()),
        after=float(new.mean()),
        difference=float(change.mean()),
        interval=_interval(change, seed),
        better=int(np.sum(change > 0)),
        worse=int(np.sum(change < 0)),
    )


def cross_fitted(
    rewards_a: npt.ArrayLike, rewards_b: npt.ArrayLike, labels: npt.ArrayLike, identities: Sequence[str]
) -> CrossFit | None:
    """Judge each pair with the scale of the other folds; None where there are too few pairs.

    Args:
        identities: names of the pairs, which decide their folds: two checkpoints get the same ones.
    """
    a, b, human = (np.asarray(values, dtype=np.float64) for values in (rewards_a, rewards_b, labels))
    if len(human) < LEAST_PAIRS:
        return None
    folds = _folds(identities)
    right, p, thresholds = np.zeros(len(human), dtype=bool), np.zeros(len(human)), []
    for fold in range(FOLDS):
        mine, rest = folds == fold, folds != fold
        scale = fit_mode(a[rest], b[rest], human[rest], np.concatenate([a[rest], b[rest]]))
        margins = a[mine] - b[mine]
        called = np.where(np.abs(margins) <= scale.tie_threshold, 0, np.sign(margins))
        right[mine] = called == human[mine]
        p[mine] = preference_probability(margins, scale.temperature)
        thresholds.append(scale.tie_threshold)
    target = (human + 1) / 2
    return CrossFit(right, float(np.mean(thresholds)), float(np.mean((p - target) ** 2)), _calibration_error(p, target))


def with_best_threshold(margins: npt.ArrayLike, labels: npt.ArrayLike) -> tuple[float, float]:
    """Fit the threshold on these very pairs; return it with its accuracy with ties, which is optimistic by design."""
    best = best_tie_threshold(margins, labels)
    return best.eps, best.accuracy


def sign_test(better: int, worse: int) -> float:
    """Compute the two-sided exact p of `better` and `worse` changes, if both were equally likely."""
    count = better + worse
    tail = sum(math.comb(count, k) for k in range(min(better, worse) + 1)) / 2**count
    return float(min(1.0, 2 * tail))


def _folds(identities: Sequence[str]) -> npt.NDArray[np.int64]:
    """Assign a fold to each pair: equal sizes, in an order that only the names decide."""
    order = sorted(range(len(identities)), key=lambda index: (stable_share("gate", identities[index]), identities[index]))
    folds = np.empty(len(identities), dtype=np.int64)
    folds[order] = np.arange(len(identities)) % FOLDS
    return folds


def _calibration_error(p: npt.NDArray[np.float64], target: npt.NDArray[np.float64]) -> float:
    """Compute the expected calibration error from both sides, so that it does not matter which video is called A."""
    predicted, true = np.concatenate([p, 1 - p]), np.concatenate([target, 1 - target])
    bins = np.minimum((predicted * _BINS).astype(int), _BINS - 1)
    sums = [abs(float(np.sum(predicted[bins == index] - true[bins == index]))) for index in range(_BINS)]
    return sum(sums) / len(predicted)


def _interval(change: npt.NDArray[np.float64], seed: int) -> tuple[float, float]:
    """Drawing n of n observations with replacement IS a multinomial draw over their distinct values."""
    values, counts = np.unique(change, return_counts=True)
    draws = np.random.default_rng(seed).multinomial(len(change), counts / len(change), size=RESAMPLES)
    low, high = np.quantile(draws @ values / len(change), [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)
