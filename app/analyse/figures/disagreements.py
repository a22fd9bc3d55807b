"""The pairs on which the model and people differ most, the surest contradiction first."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from app.analyse.figures.calibration import p_first
from app.analyse.figures.judged_pairs import AnalysedCheckpoint, Way, judged_pairs
from storage.analysis.judged_pairs import AnalysedPair


@dataclass(frozen=True)
class Disagreement:
    """A pair with a human choice that the model does not share.

    margin: reward of A less reward of B. p_people: the probability that the model gives to what people chose; of a human tie
    twice the smaller of the two probabilities (1 at a margin of 0). says: the model's verdict at its tie threshold.
    """

    pair: AnalysedPair
    margin: float
    p_people: float
    says: str


def disagreements(checkpoint: AnalysedCheckpoint, way: Way = "think") -> tuple[Disagreement, ...]:
    """All such pairs: lowest probability first, and at the same one those with the most labels behind people's choice.

    Without a calibration margins are read as log-odds, which keeps their order.
    """
    judged = judged_pairs(checkpoint.pairs, way)
    eps = checkpoint.tie_threshold(way) or 0.0
    p = p_first(judged.margins, checkpoint.temperature(way) or 1.0)
    of_choice = np.select([judged.labels > 0, judged.labels < 0], [p, 1 - p], 2 * np.minimum(p, 1 - p))
    found = []
    for pair, margin, probability in zip(judged.pairs, judged.margins, of_choice, strict=True):
        says = "tie" if abs(margin) <= eps else "A" if margin > 0 else "B"
        if says != pair.choice:
            found.append(Disagreement(pair, float(margin), float(probability), says))
    return tuple(sorted(found, key=lambda one: (one.p_people, -one.pair.labels * one.pair.support, one.pair.pair_id)))
