"""How many labels "Decide" takes, against random pairs and a fixed number of them, and how often it is wrong.

    python -m benchmarks.decide [--simulations 4000] [--noise 0.1] [--ties 0.2] [--prior 5]

Simulated: two checkpoints that prefer different videos on a share of all pairs, and differ in agreement with the noise-free
taste by some points. A label names the wrong video with the chance `noise`, and is a tie with the chance `ties`. Compared
are

- `differing`: labels of differing pairs alone, the sequential test after each of them (storage/training/sequential_test.py);
- `random`: labels of random pairs, the same test after each of them;
- `fixed`: labels of random pairs, the gate's verdict (sign test and paired interval) once, after a number set beforehand:
  the number at which it says "better" in 50 and in 90 % of all cases, beside the median and the 90 % quantile of the others;
- `three_people`: as `differing`, but three people label each pair and their majority counts;
- `with_margin`: as `differing`, with the stop for a difference below 3 points.

`false_alarms` are the shares of simulations without a difference in which a test ever says better or worse, if one looks
after each of `LONGEST` pairs: the sequential test's, and an ordinary sign test's. The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Sequence
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


def main(arguments: Sequence[str] | None = None) -> None:
    """Simulate and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--simulations", type=int, default=4000)
    parser.add_argument("--noise", type=float, default=0.1, help="chance that a label is wrong (default: 0.1)")
    parser.add_argument("--ties", type=float, default=0.2, help="share of the labels that are ties (default: 0.2)")
    parser.add_argument("--prior", type=float, default=PRIOR, help=f"a of the mixture (default: {PRIOR:g}, the app's)")
    options = parser.parse_args(arguments)
    rng = np.random.default_rng(0)
    cases = []
    for difference, differing in WORLDS:
        world = World(difference, differing, options.noise, options.ties)
        cases.append(compare(world, options.simulations, options.prior, rng))
        print(json.dumps(cases[-1]), file=sys.stderr, flush=True)
    figures = {"simulations": options.simulations, "noise": options.noise, "ties": options.ties, "prior": options.prior}
    print(json.dumps({**figures, "cases": cases, "false_alarms": false_alarms(options.simulations, options.prior, rng)}))


if __name__ == "__main__":
    main()
