"""Labels and false alarms of the sequential test and of the gate, simulated.

`python -m benchmarks.decide` prints them for several worlds, and says what is compared.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.special import gammaln
from scipy.stats import binom

from storage.training.sequential_test import ALPHA, MARGIN, PRIOR

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

# Difference in agreement, and shares of pairs on which two such checkpoints prefer different videos.
WORLDS = ((0.02, 0.08), (0.02, 0.15), (0.05, 0.1), (0.05, 0.2), (0.15, 0.2), (0.15, 0.3))
LONGEST = 10_000  # differing pairs with a preference in a simulation
UNDECIDED, NO_DIFFERENCE = 0, 2  # beside +1 better and -1 worse
_AT_ONCE = 200
_LEAST_CHANGED = 6  # as trainer.evaluation.gate
_NORMAL = 1.959964


@dataclass(frozen=True)
class World:
    """One case.

    Attributes:
        difference: in agreement with the noise-free taste, candidate minus current, as a fraction of 1.
        differing: share of pairs on which the two prefer different videos.
        noise: chance that a label names the wrong video.
        ties: chance that a label is a tie.
    """

    difference: float
    differing: float
    noise: float
    ties: float

    @property
    def chance(self) -> float:
        """Chance that a label of a differing pair sides with the candidate, if it is no tie."""
        right = 0.5 + self.difference / (2 * self.differing)
        return right * (1 - self.noise) + (1 - right) * self.noise

    @property
    def by_three(self) -> World:
        """The same with the majority of three labels in the place of one."""
        return World(self.difference, self.differing, 3 * self.noise**2 - 2 * self.noise**3, self.ties)


@dataclass(frozen=True)
class Stops:
    """Where simulations ended.

    Attributes:
        pairs: differing pairs with a preference, (simulations,).
        outcomes: +1 better, -1 worse, `NO_DIFFERENCE` or `UNDECIDED`, (simulations,).
    """

    pairs: Ints
    outcomes: Ints


def simulate(
    chance: float, simulations: int, rng: np.random.Generator, prior: float = PRIOR, edges: tuple[float, float] | None = None
) -> Stops:
    """Run the sequential test on pairs that side with the candidate with this chance.

    Args:
        edges: the chances between which a difference does not matter; None for a test without this stop.
    """
    counts = np.arange(1, LONGEST + 1)
    log_gamma = gammaln(prior + np.arange(LONGEST + 1))
    # What the evidence of a count of pairs has to exceed, see `log_e_value`.
    needed = gammaln(2 * prior + counts) + 2 * gammaln(prior) - gammaln(2 * prior) - math.log(ALPHA)
    pairs, outcomes = [], []
    for first in range(0, simulations, _AT_ONCE):
        size = min(_AT_ONCE, simulations - first)
        better = np.cumsum(rng.random((size, LONGEST)) < chance, axis=1)
        worse = counts - better
        evidence = log_gamma[better] + log_gamma[worse] - needed
        decided = evidence >= -counts * math.log(2)
        close = np.zeros_like(decided)
        if edges is not None:
            low, high = edges
            close = (low * counts < better) & (better < high * counts)
            for edge in edges:
                close &= evidence >= better * math.log(edge) + worse * math.log1p(-edge)
        over = decided | close
        ever, at, rows = over.any(axis=1), over.argmax(axis=1), np.arange(size)
        side = np.where(decided[rows, at], np.sign(better[rows, at] - worse[rows, at]), NO_DIFFERENCE)
        pairs.append(np.where(ever, at + 1, LONGEST))
        outcomes.append(np.where(ever, side, UNDECIDED))
    return Stops(np.concatenate(pairs), np.concatenate(outcomes))


def labels_of(pairs: Ints, share: float, rng: np.random.Generator) -> Ints:
    """Draw the labels until so many were of the kind that is this share of all."""
    return pairs + rng.negative_binomial(pairs, share)


def until_better(stops: Stops, labels: Ints) -> dict[str, Any]:
    """Median and 90 % quantile of the labels until "better", None where it was not reached; the share that reached it."""
    is_better = stops.outcomes == 1
    median, most = np.quantile(np.where(is_better, labels, np.inf), [0.5, 0.9], method="higher")
    return {
        "median": int(median) if np.isfinite(median) else None,
        "p90": int(most) if np.isfinite(most) else None,
        "better": round(float(is_better.mean()), 4),
    }


def sign_test_rejects(one: Ints, other: Ints) -> npt.NDArray[np.bool_]:
    """Whether the exact two-sided sign test is below 5 %."""
    fewer = np.minimum(one, other)
    rejects: npt.NDArray[np.bool_] = 2 * binom.cdf(fewer, one + other, 0.5) < ALPHA
    return rejects


def gate_says_better(better: Ints, worse: Ints, labels: int) -> npt.NDArray[np.bool_]:
    """Verdict of the gate on `labels` pairs, of which so many came out differently."""
    changed = better + worse
    mean = (better - worse) / labels
    error = np.sqrt(np.maximum(changed / labels - mean**2, 0) / labels)
    return (changed >= _LEAST_CHANGED) & (mean > _NORMAL * error) & sign_test_rejects(better, worse)


def fixed_number(world: World, power: float, simulations: int, rng: np.random.Generator) -> int | None:
    """Fewest labels of random pairs, in steps of 2 %, after which the gate says "better" with this chance."""
    preferring = 1 - world.ties
    for_candidate, against = (preferring * world.differing * share for share in (world.chance, 1 - world.chance))
    labels = 10.0
    while labels < 1e6:
        count = round(labels)
        drawn = rng.multinomial(count, (for_candidate, against, 1 - for_candidate - against), size=simulations)
        if gate_says_better(drawn[:, 0], drawn[:, 1], round(count * preferring)).mean() >= power:
            return count
        labels *= 1.02
    return None


def compare(world: World, simulations: int, prior: float, rng: np.random.Generator) -> dict[str, Any]:
    """Labels that each way takes in a world."""
    one, three = (simulate(each.chance, simulations, rng, prior) for each in (world, world.by_three))
    half = MARGIN / (2 * world.differing)
    bounded = simulate(world.chance, simulations // 4, rng, prior, (0.5 - half, 0.5 + half))
    preferring = 1 - world.ties
    return {
        "difference": world.difference,
        "differing_share": world.differing,
        "differing": until_better(one, labels_of(one.pairs, preferring, rng)),
        "random": until_better(one, labels_of(one.pairs, preferring * world.differing, rng)),
        "fixed": {f"p{round(100 * power)}": fixed_number(world, power, simulations, rng) for power in (0.5, 0.9)},
        "three_people": until_better(three, 3 * labels_of(three.pairs, preferring, rng)),
        "with_margin": {
            "median": int(np.median(labels_of(bounded.pairs, preferring, rng))),
            **{
                name: round(float((bounded.outcomes == code).mean()), 4)
                for name, code in (("better", 1), ("worse", -1), ("no_difference", NO_DIFFERENCE))
            },
        },
    }


def false_alarms(simulations: int, prior: float, rng: np.random.Generator) -> dict[str, float]:
    """Shares of simulations without a difference in which a test ever says better or worse."""
    stops = simulate(0.5, simulations, rng, prior)
    least = np.array([_least_excess(count) for count in range(1, LONGEST + 1)])
    looked = 0
    for first in range(0, simulations, _AT_ONCE):
        size = min(_AT_ONCE, simulations - first)
        excess = np.abs(2 * np.cumsum(rng.random((size, LONGEST)) < 0.5, axis=1) - np.arange(1, LONGEST + 1))
        looked += int((excess >= least).any(axis=1).sum())
    return {
        "sequential": round(float((stops.outcomes != UNDECIDED).mean()), 4),
        "better": round(float((stops.outcomes == 1).mean()), 4),
        "sign_test_after_each_label": round(looked / simulations, 4),
    }


def _least_excess(count: int) -> int:
    """Smallest difference of the two counts at which the sign test of `count` pairs is below 5 %, from six pairs on."""
    if count < _LEAST_CHANGED:
        return count + 1
    fewer = int(binom.ppf(ALPHA / 2, count, 0.5))
    fewer -= 2 * binom.cdf(fewer, count, 0.5) >= ALPHA
    return count - 2 * fewer
