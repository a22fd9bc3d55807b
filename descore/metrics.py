"""Agreement of rewards with people: accuracy with and without ties, the tie threshold, intervals.

    report = preference_report(rewards_a, rewards_b, labels)  # labels: +1 A is better, -1 B is better, 0 tie
    report.accuracy_without_ties, report.accuracy_with_ties, report.eps

With the margin m = r_A - r_B and the label h, as published for video reward models:

- without ties: pairs that people call a tie are dropped; right when h * m > 0, so m = 0 is wrong;
- with ties: three classes, a tie is predicted when |m| <= eps, with the eps that maximises accuracy (Deutsch
  et al. 2023, "Ties Matter", algorithm 1). The maximum is optimistic, since eps is fitted on the pairs it is
  reported on; `accuracy_with_ties_at` with an eps fitted elsewhere is the honest companion.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Labels = npt.NDArray[np.int64]

LEVEL = 0.95
RESAMPLES = 2000
_CELLS_AT_ONCE = 4_000_000  # resamples x pairs held in memory at a time: 32 MB an array


class MetricsError(ValueError):
    """Rewards or labels that no accuracy can be computed from; the message says which and why."""


@dataclass(frozen=True)
class TieThreshold:
    """The threshold that maximises accuracy with ties.

    Attributes:
        eps: >= 0, in units of the reward.
        accuracy: with that threshold, 0 .. 1.
    """

    eps: float
    accuracy: float


@dataclass(frozen=True)
class PreferenceReport:
    """Agreement with people on one set of pairs.

    Accuracies are fractions of 1. An interval is (low, high): the percentile bootstrap over pairs at 95 %.

    Attributes:
        pairs: number of pairs.
        ties: pairs that people call a tie.
        accuracy_without_ties: None where people called every pair a tie.
        accuracy_without_ties_interval: None where people called every pair a tie.
        accuracy_with_ties: with the best eps of these very pairs.
        accuracy_with_ties_interval: eps is fitted again in every draw.
        eps: the threshold behind `accuracy_with_ties`.
        fitted_eps: a threshold from other (validation) pairs; None where the caller has none.
        accuracy_with_ties_at_fitted_eps: None where there is no `fitted_eps`.
        resamples: draws of the bootstrap.
        seed: of the bootstrap.
    """

    pairs: int
    ties: int
    accuracy_without_ties: float | None
    accuracy_without_ties_interval: tuple[float, float] | None
    accuracy_with_ties: float
    accuracy_with_ties_interval: tuple[float, float]
    eps: float
    fitted_eps: float | None
    accuracy_with_ties_at_fitted_eps: float | None
    resamples: int
    seed: int

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as JSON types (intervals as lists)."""
        return {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(self).items()}


def margins_of(rewards_a: npt.ArrayLike, rewards_b: npt.ArrayLike) -> Floats:
    """Return r_A - r_B in float64, shape (n,).

    Raises:
        MetricsError: shapes differ, no pair, or a reward that is NaN or infinite.
    """
    first, second = _vector("rewards_a", rewards_a), _vector("rewards_b", rewards_b)
    if first.shape != second.shape:
        raise MetricsError(f"{len(first)} rewards for A but {len(second)} for B: a pair has one of each")
    return first - second


def accuracy_without_ties(margins: npt.ArrayLike, labels: npt.ArrayLike) -> float:
    """Return the share of the pairs with a human preference whose margin has its sign.

    Raises:
        MetricsError: as `best_tie_threshold`, or people called every pair a tie.
    """
    m, h = _checked(margins, labels)
    decided = h != 0
    if not decided.any():
        raise MetricsError("every pair is a human tie: accuracy without ties is undefined")
    return float(np.mean(h[decided] * m[decided] > 0))


def accuracy_with_ties_at(margins: npt.ArrayLike, labels: npt.ArrayLike, eps: float) -> float:
    """Return the share of the pairs whose class (A, B, tie where |m| <= eps) is the human one, for a given eps.

    Raises:
        MetricsError: as `best_tie_threshold`, or eps is NaN.
    """
    m, h = _checked(margins, labels)
    if math.isnan(eps):
        raise MetricsError("eps is NaN")
    predicted = np.where(np.abs(m) <= eps, 0, np.sign(m))
    # A margin of exactly 0 outside the threshold (eps < 0) is no tie and no preference either: it is wrong.
    undecided = (m == 0) & (np.abs(m) > eps)
    return float(np.mean((predicted == h) & ~undecided))


def best_tie_threshold(margins: npt.ArrayLike, labels: npt.ArrayLike) -> TieThreshold:
    """Find the smallest eps that maximises accuracy with ties, in O(n log n).

    Accuracy only changes where eps passes a distinct |m|, so it is evaluated once for each of them, after all
    pairs that share the value have changed sides, and at eps = 0. The latter is "no ties predicted" when no
    margin is 0; when some are, calling those a tie is never worse than calling them nothing, so eps is never
    negative.

    Args:
        margins: r_A - r_B, shape (n,).
        labels: +1 (A better), -1 (B better), 0 (tie), shape (n,).

    Raises:
        MetricsError: no pair, shapes that differ, a margin that is not finite, a label other than +1, -1, 0.
    """
    m, h = _checked(margins, labels)
    candidates, gain = _sweep(m, h, np.ones((1, len(m)), dtype=np.int64))
    best = int(np.argmax(gain[0]))
    return TieThreshold(eps=float(candidates[best]), accuracy=float(gain[0, best]) / len(m))


def preference_report(
    rewards_a: npt.ArrayLike,
    rewards_b: npt.ArrayLike,
    labels: npt.ArrayLike,
    fitted_eps: float | None = None,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> PreferenceReport:
    """Compute all figures of the protocol; see `PreferenceReport` for their meaning.

    Raises:
        MetricsError: as `margins_of` and `best_tie_threshold`.
    """
    m, h = _checked(margins_of(rewards_a, rewards_b), labels)
    decided = h != 0
    plain: float | None = None
    plain_interval: tuple[float, float] | None = None
    if decided.any():
        plain = accuracy_without_ties(m, h)
        plain_interval = bootstrap_proportion(h[decided] * m[decided] > 0, resamples, seed)
    best = best_tie_threshold(m, h)
    at_fitted = None if fitted_eps is None else accuracy_with_ties_at(m, h, fitted_eps)
    return PreferenceReport(
        pairs=len(m),
        ties=int(np.sum(~decided)),
        accuracy_without_ties=plain,
        accuracy_without_ties_interval=plain_interval,
        accuracy_with_ties=best.accuracy,
        accuracy_with_ties_interval=bootstrap_with_ties(m, h, resamples, seed),
        eps=best.eps,
        fitted_eps=fitted_eps,
        accuracy_with_ties_at_fitted_eps=at_fitted,
        resamples=resamples,
        seed=seed,
    )


def bootstrap_proportion(
    right: npt.ArrayLike, resamples: int = RESAMPLES, seed: int = 0, level: float = LEVEL
) -> tuple[float, float]:
    """Return the percentile bootstrap interval of the mean of booleans.

    Drawing n of n booleans with replacement and counting the true ones IS a binomial draw, so nothing is
    resampled. A sample without a single error gets an interval of width 0; `wilson_interval` says more there.

    Raises:
        MetricsError: no observation.
    """
    values = np.asarray(right, dtype=bool).reshape(-1)
    if not len(values):
        raise MetricsError("no observation to take an interval of")
    draws = np.random.default_rng(seed).binomial(len(values), values.mean(), size=resamples) / len(values)
    return _percentiles(draws, level)


def bootstrap_mean(
    values: npt.ArrayLike, resamples: int = RESAMPLES, seed: int = 0, level: float = LEVEL
) -> tuple[float, float]:
    """Return the percentile bootstrap interval of the mean of independent observations, e.g. one share for each pair.

    What belongs together (the sub-scores of one pair, say) must be one observation, or the interval is too narrow.

    Raises:
        MetricsError: no observation, or one that is not finite.
    """
    observed = _vector("values", values)
    if not len(observed):
        raise MetricsError("no observation to take an interval of")
    drawn = np.random.default_rng(seed).integers(0, len(observed), size=(resamples, len(observed)))
    return _percentiles(observed[drawn].mean(axis=1), level)


def bootstrap_with_ties(
    margins: npt.ArrayLike,
    labels: npt.ArrayLike,
    resamples: int = RESAMPLES,
    seed: int = 0,
    level: float = LEVEL,
) -> tuple[float, float]:
    """Return the percentile bootstrap interval of accuracy with ties; eps is fitted again in every resample.

    Raises:
        MetricsError: as `best_tie_threshold`.
    """
    m, h = _checked(margins, labels)
    n, rng = len(m), np.random.default_rng(seed)
    draws = np.empty(resamples)
    step = max(1, _CELLS_AT_ONCE // n)
    for start in range(0, resamples, step):
        size = min(step, resamples - start)
        weights = rng.multinomial(n, np.full(n, 1.0 / n), size=size)
        _, gain = _sweep(m, h, weights)
        draws[start : start + size] = gain.max(axis=1) / n
    return _percentiles(draws, level)


def wilson_interval(successes: int, trials: int, z: float = 1.959964) -> tuple[float, float]:
    """Return the Wilson score interval of a proportion; z = 1.96 is 95 %. Sound near 0 and 1.

    Raises:
        MetricsError: no trial, or successes outside 0 .. trials.
    """
    if trials <= 0 or not 0 <= successes <= trials:
        raise MetricsError(f"{successes} successes in {trials} trials are no proportion")
    rate, z2 = successes / trials, z * z
    centre = (rate + z2 / (2 * trials)) / (1 + z2 / trials)
    half = z * math.sqrt(rate * (1 - rate) / trials + z2 / (4 * trials * trials)) / (1 + z2 / trials)
    return max(0.0, centre - half), min(1.0, centre + half)


def _sweep(m: Floats, h: Labels, weights: npt.NDArray[np.int64]) -> tuple[Floats, npt.NDArray[np.int64]]:
    """Count the right pairs, weighted, for each candidate eps.

    Args:
        weights: how often each pair counts, shape (resamples, n).

    Returns:
        candidates: 0 and the distinct |m|, rising, shape (c,); right: counts, shape (resamples, c).
    """
    order = np.argsort(np.abs(m), kind="stable")
    size = np.abs(m)[order]
    # What a pair adds to the count when eps passes it: a human tie is won, a right preference is lost.
    change = (h[order] == 0).astype(np.int64) - (h[order] * m[order] > 0)
    cumulative = np.cumsum(weights[:, order] * change, axis=1)
    last_of_value = np.append(size[1:] != size[:-1], True)
    candidates, passed = size[last_of_value], cumulative[:, last_of_value]
    if size[0] > 0:
        candidates = np.insert(candidates, 0, 0.0)
        passed = np.concatenate([np.zeros((len(weights), 1), dtype=np.int64), passed], axis=1)
    untied = (weights * (h * m > 0)).sum(axis=1, keepdims=True)
    return candidates, untied + passed


def _percentiles(draws: Floats, level: float) -> tuple[float, float]:
    low, high = np.quantile(draws, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def _vector(name: str, values: npt.ArrayLike) -> Floats:
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1:
        raise MetricsError(f"{name} must be a flat list of numbers; it has the shape {array.shape}")
    if not len(array):
        raise MetricsError(f"{name} is empty: there is no pair to measure")
    bad = np.flatnonzero(~np.isfinite(array))
    if len(bad):
        where = f"{name}[{bad[0]}] is {array[bad[0]]} ({len(bad)} such values)"
        raise MetricsError(f"{where}: rewards must be finite")
    return array


def _checked(margins: npt.ArrayLike, labels: npt.ArrayLike) -> tuple[Floats, Labels]:
    m = _vector("margins", margins)
    h = np.asarray(labels)
    if h.shape != m.shape:
        raise MetricsError(f"{len(m)} margins but labels of shape {h.shape}")
    if not np.isin(h, (-1, 0, 1)).all():
        raise MetricsError("a label must be +1 (A is better), -1 (B is better) or 0 (tie)")
    return m, h.astype(np.int64)
