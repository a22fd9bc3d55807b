"""An anytime-valid test: does the candidate agree with people more often than the current checkpoint?

    look = SequentialTest(differing_share=0.18, margin=0.03).look(better=31, worse=9, ties=6)
    look.outcome, look.e_value, look.interval

Only pairs on which the two checkpoints prefer different videos carry news. Each such pair on which a person has a preference
is a draw that sides with the candidate with an unknown chance p; the candidate agrees with people more often exactly where p
is above one half. A tie sides with neither.

The evidence is Robbins' mixture over p with a Beta(a, a) density. After `better` and `worse` pairs it is, against p,

    e(p) = B(a + better, a + worse) / B(a, a) / (p^better (1 - p)^worse)

which is an e-process: under p its expectation is 1 whenever one stops, so by Ville's inequality it ever reaches 20 with a
chance of 5 % at most. All p with e(p) < 20 are a confidence sequence: it holds the true p at ALL times together with 95 %,
so people may look after each label, stop as soon as they like, or label more. All three outcomes are read off this one
sequence: "better" and "worse" where it leaves out one half, "no difference" where all of it lies within a margin that does
not matter. A wrong direction is rarer still: with more `better` than `worse` the half of the mixture below one half is at
most 1, so "better" needs 39 from the half above, which is an e-process for all p up to one half: 2.6 %.

Sources: Robbins 1970, "Statistical methods related to the law of the iterated logarithm"; Waudby-Smith and Ramdas 2020,
"Confidence sequences for sampling without replacement" (the prior-posterior ratio); Grünwald, de Heide and Koolen 2024,
"Safe testing" (e-values).
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any, Literal

Outcome = Literal["better", "worse", "no difference"]

ALPHA = 0.05
# The a of the mixture: most of its weight on chances between 0.3 and 0.7, where retrains that need many labels lie. Fixed
# beforehand: one that looked at the labels would spoil the guarantee. `python -m benchmarks.decide --prior 1` tries another.
PRIOR = 5.0
MARGIN = 0.03
_FARTHEST = 200_000  # labels beyond which no forecast is made
_BISECTIONS = 60


def log_e_value(better: float, worse: float, p: float = 0.5, prior: float = PRIOR) -> float:
    """Natural logarithm of the e-value against a chance p.

    Args:
        better: pairs that side with the candidate; a fraction is taken, for forecasts.
        worse: pairs that side with the current checkpoint.
        p: from 0 to 1; infinite where p makes what was seen impossible.
    """
    if (p <= 0 and better) or (p >= 1 and worse):
        return math.inf
    evidence = _log_beta(prior + better, prior + worse) - _log_beta(prior, prior)
    return evidence - (better * math.log(p) if better else 0.0) - (worse * math.log1p(-p) if worse else 0.0)


def chance_interval(better: float, worse: float, alpha: float = ALPHA, prior: float = PRIOR) -> tuple[float, float]:
    """Confidence sequence of the chance that a pair sides with the candidate, valid at all times together."""
    if better + worse == 0:
        return 0.0, 1.0
    centre, limit = better / (better + worse), math.log(1 / alpha)

    def edge(outside: float) -> float:
        inside = centre
        if log_e_value(better, worse, outside, prior) < limit:
            return outside
        for _ in range(_BISECTIONS):
            middle = (inside + outside) / 2
            if log_e_value(better, worse, middle, prior) < limit:
                inside = middle
            else:
                outside = middle
        return outside

    return edge(0.0), edge(1.0)


@dataclass(frozen=True)
class Look:
    """What the labels say so far.

    Attributes:
        better: differing pairs on which people side with the candidate.
        worse: those on which they side with the current checkpoint.
        ties: those on which they prefer neither.
        e_value: evidence against "as often"; from 20 on it is decided.
        chance_interval: 95 % confidence sequence of the chance that a pair sides with the candidate.
        difference: of agreement with people over pairs of this kind, candidate minus current, as a fraction of 1.
        interval: confidence sequence of the difference, valid at all times together.
        outcome: None while it is not decided.
    """

    better: int
    worse: int
    ties: int
    e_value: float
    chance_interval: tuple[float, float]
    difference: float | None
    interval: tuple[float, float]
    outcome: Outcome | None

    @property
    def labels(self) -> int:
        """Number of pairs with an answer."""
        return self.better + self.worse + self.ties

    def to_dict(self) -> dict[str, Any]:
        """Convert to JSON types."""
        return asdict(self) | {"chance_interval": list(self.chance_interval), "interval": list(self.interval)}


@dataclass(frozen=True)
class SequentialTest:
    """The test of one candidate against one current checkpoint.

    Attributes:
        differing_share: share of the judged pairs on which the two prefer different videos. It turns a chance into a
            difference of agreement: differing_share * (2 p - 1), if differing pairs are ties as often as others. Where they
            are ties more often the difference is smaller than that, so "no difference" errs on the safe side.
        margin: largest difference of agreement that does not matter, as a fraction of 1.
        alpha: error, whenever one looks.

    Raises:
        ValueError: a share or margin is out of range.
    """

    differing_share: float
    margin: float = MARGIN
    alpha: float = ALPHA

    def __post_init__(self) -> None:
        if not 0 < self.differing_share <= 1 or not 0 < self.margin < 1 or not 0 < self.alpha < 1:
            raise ValueError("share, margin and error lie between 0 and 1")

    def look(self, better: int, worse: int, ties: int = 0) -> Look:
        """Say what these counts show."""
        chances = chance_interval(better, worse, self.alpha)
        decided = better + worse
        return Look(
            better=better,
            worse=worse,
            ties=ties,
            e_value=math.exp(min(700.0, log_e_value(better, worse))),
            chance_interval=chances,
            difference=self._difference(better / decided) if decided else None,
            interval=(self._difference(chances[0]), self._difference(chances[1])),
            outcome=self._outcome(better, worse),
        )

    def first_outcome(self, sides: Iterable[int]) -> Look | None:
        """Return the look at which it was decided first; None where it was not.

        Args:
            sides: of each pair in the order in which it was labelled: +1 with the candidate, -1 with the current one, 0 a
                tie.
        """
        better = worse = ties = 0
        for side in sides:
            better, worse, ties = better + (side > 0), worse + (side < 0), ties + (side == 0)
            if side and self._outcome(better, worse) is not None:
                return self.look(better, worse, ties)
        return None

    def labels_left(self, look: Look) -> int | None:
        """Forecast how many more labels decide it, if pairs go on as they went; None before the first, or beyond reach."""
        decided = look.better + look.worse
        if look.outcome is not None or not decided:
            return 0 if look.outcome is not None else None
        chance = (look.better + 1) / (decided + 2)  # of few labels the share says more than they know
        pairs = self._steps(look.better, look.worse, chance)
        return None if pairs is None else math.ceil(pairs * look.labels / decided)

    def labels_for(self, difference: float) -> int | None:
        """Forecast how many labels without ties decide it, if the checkpoints differ in agreement by so much.

        Args:
            difference: as a fraction of 1, at most `differing_share`. None where it is out of reach.
        """
        return self._steps(0, 0, min(1.0, 0.5 + difference / (2 * self.differing_share)))

    def _steps(self, better: float, worse: float, chance: float) -> int | None:
        """Count the pairs along the expected path to an outcome."""

        def is_decided(pairs: int) -> bool:
            return self._outcome(better + chance * pairs, worse + (1 - chance) * pairs) is not None

        high = 1
        while not is_decided(high):
            high *= 2
            if high > _FARTHEST:
                return None
        low = high // 2
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (low, middle) if is_decided(middle) else (middle, high)
        return high

    def _outcome(self, better: float, worse: float) -> Outcome | None:
        limit = math.log(1 / self.alpha)
        if log_e_value(better, worse) >= limit:
            return "better" if better > worse else "worse"
        return "no difference" if better + worse and self._is_close(better, worse, limit) else None

    def _is_close(self, better: float, worse: float, limit: float) -> bool:
        """Whether the confidence sequence lies within the margin: the chances at its ends are outside, on either side."""
        half = self.margin / (2 * self.differing_share)
        if half >= 0.5:  # so few pairs differ that no answer could matter
            return True
        low, high = 0.5 - half, 0.5 + half
        evidence = min(log_e_value(better, worse, low), log_e_value(better, worse, high))
        return low < better / (better + worse) < high and evidence >= limit

    def _difference(self, chance: float) -> float:
        return self.differing_share * (2 * chance - 1)


def _log_beta(a: float, b: float) -> float:
    return math.lgamma(a) + math.lgamma(b) - math.lgamma(a + b)
