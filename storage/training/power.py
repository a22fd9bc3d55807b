"""What the comparison on held-out pairs can show, and how many labels more it would take.

    power = comparison_power(session, held_out=58, held_out_share=0.2)
    power.detectable, power.needed                     # 0.17: differences from 17 points on; 640 pairs for 5 points

Two checkpoints judge the same n pairs with a preference, differ on a share d of them, and in agreement by delta. The test of
the difference (5 %, two-sided) finds it with a chance of 80 % where

    n = (z_0.975 sqrt(d) + z_0.8 sqrt(d - delta^2))^2 / delta^2

(Connor 1987, "Sample size for testing differences in proportions for the paired-sample design", Biometrics 43).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist
from typing import TYPE_CHECKING

from sqlalchemy import case, func, select

from storage.schema import CampaignPairRow
from storage.training.model_registry import list_checkpoints

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

ERROR, POWER = 0.05, 0.8
WANTED = 0.05  # the difference of which the page says what it takes
USUAL_DIFFERING_SHARE = 0.2
LEAST_MEASURED = 20  # pairs with a preference, from which on a comparison says how often two checkpoints differ
LEAST_CHANGED = 6  # of fewer pairs that came out differently the gate says nothing
_BISECTIONS = 50


@dataclass(frozen=True)
class ComparisonPower:
    """What a comparison can show.

    Attributes:
        pairs: held-out pairs with a preference.
        differing_share: share of them that two checkpoints call differently.
        is_measured: whether the last comparison gave this share, or it is the usual one.
        detectable: smallest difference in agreement that is shown with a chance of 80 %, as a fraction of 1; None where not
            even the largest possible one is.
        needed: held-out pairs with a preference that it takes to show a difference of `WANTED`.
        needed_labelled: labelled pairs of the store that hold out as many.
    """

    pairs: int
    differing_share: float
    is_measured: bool
    detectable: float | None
    needed: int
    needed_labelled: int


def comparison_power(session: Session, held_out: int, held_out_share: float) -> ComparisonPower:
    """Compute what the next comparison can show.

    Args:
        held_out: held-out pairs with a common answer, ties among them.
        held_out_share: share of the pairs that is held out.
    """
    preferring = preference_share(session)
    measured = _measured_share(session)
    share = USUAL_DIFFERING_SHARE if measured is None else measured
    pairs = round(held_out * preferring)
    needed = pairs_needed(WANTED, share)
    return ComparisonPower(
        pairs=pairs,
        differing_share=share,
        is_measured=measured is not None,
        detectable=detectable_difference(pairs, share),
        needed=needed,
        needed_labelled=math.ceil(needed / (preferring or 1.0) / held_out_share),
    )


def pairs_needed(difference: float, differing_share: float) -> int:
    """Pairs with a preference that show a difference in agreement with a chance of 80 %.

    Args:
        difference: above 0; one that is larger than the differing share is taken as equal to it.
    """
    delta = min(difference, differing_share)
    error, power = (NormalDist().inv_cdf(chance) for chance in (1 - ERROR / 2, POWER))
    pairs = (error * math.sqrt(differing_share) + power * math.sqrt(max(0.0, differing_share - delta**2))) ** 2 / delta**2
    return max(math.ceil(pairs), math.ceil(LEAST_CHANGED / differing_share))


def detectable_difference(pairs: int, differing_share: float) -> float | None:
    """Smallest difference in agreement that so many pairs show with a chance of 80 %; None where there is none."""
    if pairs_needed(differing_share, differing_share) > pairs:
        return None
    low, high = 0.0, differing_share
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2
        low, high = (low, middle) if middle and pairs_needed(middle, differing_share) <= pairs else (middle, high)
    return high


def preference_share(session: Session) -> float:
    """Share of the pairs with a common answer on which people prefer a video; 1 without any."""
    prefers = func.sum(case((CampaignPairRow.consensus.in_(("A", "B")), 1), else_=0))
    answered = (CampaignPairRow.consensus.is_not(None), CampaignPairRow.state != "dropped")
    pairs, preferring = session.execute(select(func.count(), prefers).where(*answered)).one()
    return float(preferring) / pairs if pairs else 1.0


def _measured_share(session: Session) -> float | None:
    """Share of the pairs with a preference that came out differently in the newest comparison with enough of them."""
    for checkpoint in reversed(list_checkpoints(session, deleted=True)):
        gate = checkpoint.gate or {}
        difference, pairs = gate.get("difference"), int(gate.get("pairs", 0)) - int(gate.get("ties", 0))
        if difference and pairs >= LEAST_MEASURED:
            changed = int(difference["better"]) + int(difference["worse"])
            if changed:
                return min(1.0, changed / pairs)
    return None
