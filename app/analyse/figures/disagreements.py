"""Disagreements: pairs on which model and people differ, those with the surest model first."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from app.analyse.figures.judged_pairs import AnalysedCheckpoint, Mode, judged_pairs
from descore.calibration import preference_probability
from storage.analysis.judged_pairs import AnalysedPair


@dataclass(frozen=True)
class Disagreement:
    """A pair whose outcome by the model is not people's choice.

    Attributes:
        pair: with a human choice.
        margin: reward of A minus reward of B.
        p_people: the model's probability of people's choice; for a human tie twice the smaller one of P(A) and P(B), which
            is 1 at a margin of 0. None for a checkpoint without a calibration.
        model_outcome: "A", "B" or "tie", by the checkpoint's tie threshold; without a calibration by which reward is higher.
    """

    pair: AnalysedPair
    margin: float
    p_people: float | None
    model_outcome: str


def disagreements(checkpoint: AnalysedCheckpoint, mode: Mode = "think") -> tuple[Disagreement, ...]:
    """List the disagreements: the lowest probability of people's choice first, then the most labels behind that choice.

    Without a calibration there is no probability; the order is the same at any temperature.
    """
    judged = judged_pairs(checkpoint.pairs, mode)
    eps = checkpoint.tie_threshold(mode) or 0.0
    temperature = checkpoint.temperature(mode)
    p = preference_probability(judged.margins, temperature or 1.0)
    p_people = np.select([judged.labels > 0, judged.labels < 0], [p, 1 - p], 2 * np.minimum(p, 1 - p))
    rows: list[tuple[float, Disagreement]] = []
    for pair, margin, probability in zip(judged.pairs, judged.margins, p_people, strict=True):
        outcome = "tie" if abs(margin) <= eps else "A" if margin > 0 else "B"
        if outcome != pair.choice:
            known = None if temperature is None else float(probability)
            rows.append((float(probability), Disagreement(pair, float(margin), known, outcome)))
    rows.sort(key=lambda row: (row[0], -row[1].pair.labels * row[1].pair.support, row[1].pair.pair_id))
    return tuple(disagreement for _, disagreement in rows)
