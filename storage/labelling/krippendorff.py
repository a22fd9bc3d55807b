"""Krippendorff's alpha with an interval, from counts of answers instead of the answers themselves.

    patterns = agreement_patterns(session, campaign.id)        # {"overall": {"2,0,1,0": 41, ...}, "camera": {...}}
    krippendorff_alpha(patterns["overall"], "nominal").value

alpha = 1 - D_o / D_e: observed disagreement within the units over the disagreement expected by chance (Krippendorff 2011,
"Computing Krippendorff's Alpha-Reliability"). 1 is perfect, 0 as good as chance, below 0 systematic contradiction. Any
number of annotators, and units that only some of them saw, are fine.

Pairs with the same counts are interchangeable, so a million labels come as a few hundred patterns. The interval is a
percentile bootstrap over pairs (both videos of a pair stay together, since the same people rated them at once): resampling
pairs with replacement is a multinomial draw over patterns.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

Level = Literal["nominal", "ordinal"]
Floats = npt.NDArray[np.float64]

LEVEL = 0.95
RESAMPLES = 1000
_CELLS_AT_ONCE = 4_000_000  # resamples x patterns held in memory at a time: 32 MB
_MANY_PATTERNS = 1000  # from here on sums over resamples are drawn from their limiting distribution
_DEFINED_SHARE = 0.9  # with fewer resamples than this that have an alpha, an interval would mislead

NOTHING_YET = "no pair has two labels yet"
NOTHING_ORDERED = "no video has two sub-scores other than N/A yet"
ALL_THE_SAME = "all answers are the same"
TOO_FEW = "too few pairs for an interval"


@dataclass(frozen=True)
class Alpha:
    """Krippendorff's alpha of one question.

    Attributes:
        low, high: the 95 % interval of the value.
        pairs: pairs with at least two answers that can be compared.
        answers: the answers of these pairs that can be compared.
        reason: why the value, or else the interval, is None; None where both are there.
    """

    value: float | None
    low: float | None
    high: float | None
    pairs: int
    answers: int
    reason: str | None


def krippendorff_alpha(
    patterns: Mapping[str, int], level: Level, resamples: int = RESAMPLES, seed: int = 0, interval: float = LEVEL
) -> Alpha:
    """Alpha over pairs given as patterns.

    Args:
        patterns: pattern -> number of pairs that have it. A pattern counts the answers for each value, "2,0,1,0"; with two
            units in a pair (its videos) both, "3,0,0,0|1,2,0,0".
        level: "nominal" takes every value as a class of its own; "ordinal" takes the last value (N/A) as missing and the
            others as ranks in their order.

    Raises:
        ValueError: a pattern that can't be read.
    """
    counts, pairs = _parse(patterns)
    if level == "ordinal":
        counts = counts[:, :, :-1]
    coincidences, contributes = _coincidences(counts)
    coincidences, pairs = coincidences[contributes], pairs[contributes]
    if not len(pairs):
        nothing = NOTHING_YET if level == "nominal" or not patterns else NOTHING_ORDERED
        return Alpha(None, None, None, 0, 0, nothing)
    total = pairs.astype(np.float64) @ coincidences.reshape(len(pairs), -1)
    matrix = total.reshape(1, *coincidences.shape[1:])
    n_pairs, answers = int(pairs.sum()), round(float(total.sum()))
    value = float(_alpha(matrix, level)[0])
    if np.isnan(value):
        return Alpha(None, None, None, n_pairs, answers, ALL_THE_SAME)
    draws = _bootstrap(coincidences, pairs, level, resamples, seed)
    draws = draws[~np.isnan(draws)]
    if n_pairs < 2 or len(draws) < _DEFINED_SHARE * resamples:
        return Alpha(value, None, None, n_pairs, answers, TOO_FEW)
    low, high = np.quantile(draws, [(1 - interval) / 2, (1 + interval) / 2])
    return Alpha(value, float(low), float(high), n_pairs, answers, None)


def _parse(patterns: Mapping[str, int]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Parse patterns into counts of shape (patterns, units, values), and the number of pairs of each pattern."""
    if not patterns:
        return np.zeros((0, 1, 1), dtype=np.int64), np.zeros(0, dtype=np.int64)
    first = next(iter(patterns))
    units, values = first.count("|") + 1, first.split("|")[0].count(",") + 1
    numbers = ",".join(patterns).replace("|", ",").split(",")
    try:
        counts = np.array(numbers, dtype=np.int64).reshape(len(patterns), units, values)
    except ValueError as error:
        raise ValueError(f"not the counts of answers: {first!r} and others ({error})") from error
    return counts, np.fromiter(patterns.values(), dtype=np.int64, count=len(patterns))


def _coincidences(counts: npt.NDArray[np.int64]) -> tuple[Floats, npt.NDArray[np.bool_]]:
    """Each pattern's coincidence matrix (patterns, values, values), and which patterns have a unit with two answers.

    In a unit with m answers each ordered pair of answers by different people counts 1 / (m - 1).
    """
    answers = counts.sum(axis=2)
    comparable = answers >= 2
    ordered_pairs = counts[:, :, :, None] * counts[:, :, None, :] - counts[:, :, :, None] * np.eye(counts.shape[2])
    share = np.where(comparable, 1.0 / np.maximum(answers - 1, 1), 0.0)
    matrices: Floats = (ordered_pairs * share[:, :, None, None]).sum(axis=1)
    return matrices, comparable.any(axis=1)


def _bootstrap(coincidences: Floats, pairs: npt.NDArray[np.int64], level: Level, resamples: int, seed: int) -> Floats:
    """Alpha of each resample, NaN where it is undefined, shape (resamples,).

    A resample enters through the sum of its coincidence matrices alone. With thousands of pairs that sum is normally
    distributed for all purposes (central limit theorem), so it is drawn from that normal distribution, which costs the same
    for a million pairs.
    """
    rng, total = np.random.default_rng(seed), int(pairs.sum())
    flat, draws = coincidences.reshape(len(pairs), -1), np.empty(resamples)
    if len(pairs) > _MANY_PATTERNS:
        mean = pairs @ flat / total
        spread = (flat - mean) * np.sqrt(pairs)[:, None]
        sums = rng.multivariate_normal(total * mean, spread.T @ spread, size=resamples, method="eigh")
        return _alpha(sums.reshape(resamples, *coincidences.shape[1:]), level)
    step = max(1, _CELLS_AT_ONCE // len(pairs))
    for start in range(0, resamples, step):
        size = min(step, resamples - start)
        weights = rng.multinomial(total, pairs / total, size=size).astype(np.float64)
        draws[start : start + size] = _alpha((weights @ flat).reshape(size, *coincidences.shape[1:]), level)
    return draws


def _alpha(matrices: Floats, level: Level) -> Floats:
    """Alpha of each coincidence matrix (n, values, values); NaN where all answers are the same."""
    marginals = matrices.sum(axis=2)
    answers = marginals.sum(axis=1)
    difference = _nominal(marginals) if level == "nominal" else _ordinal(marginals)
    observed = (matrices * difference).sum(axis=(1, 2))
    expected = (marginals[:, :, None] * marginals[:, None, :] * difference).sum(axis=(1, 2))
    with np.errstate(divide="ignore", invalid="ignore"):
        values: Floats = np.where(expected > 0, 1.0 - (answers - 1) * observed / expected, np.nan)
    return values


def _nominal(marginals: Floats) -> Floats:
    """Squared differences: 1 between any two values."""
    return np.broadcast_to(1.0 - np.eye(marginals.shape[1]), (*marginals.shape, marginals.shape[1]))


def _ordinal(marginals: Floats) -> Floats:
    """Squared differences: the answers that lie between two ranks, those on the ranks themselves by half."""
    middle = np.cumsum(marginals, axis=1) - marginals / 2
    difference: Floats = (middle[:, :, None] - middle[:, None, :]) ** 2
    return difference
