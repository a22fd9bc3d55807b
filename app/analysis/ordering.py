"""In which order pairs are asked: scores where the lower one comes first."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping

from storage.consensus import Consensus


def uncertain_first(
    margins: Mapping[int, float], tie_threshold: float = 0.0, spreads: Mapping[int, float] | None = None
) -> dict[int, float]:
    """Pairs come first where little would turn the verdict: a margin close to the tie threshold, thoughts that disagree.

    The score is the distance of |margin| from the threshold, in units of the margin's spread over several thoughts. A pair
    that was thought about only once is taken to spread as the median pair does.

    Args:
        margins: pair id -> reward of A less reward of B.
        tie_threshold: margin up to which rewards count as a tie.
        spreads: pair id -> standard deviation of the margin, as in `storage.margins.margin_spreads`.
    """
    known = {pair: spread for pair, spread in (spreads or {}).items() if spread > 0}
    typical = statistics.median(known.values()) if known else 1.0
    return {pair: abs(abs(margin) - tie_threshold) / known.get(pair, typical) for pair, margin in margins.items()}


def disagreement_first(
    margins: Mapping[int, float], people: Iterable[Consensus], tie_threshold: float = 0.0
) -> dict[int, float]:
    """Pairs come first where the model contradicts people, the surest contradiction before all; agreement comes last.

    Args:
        margins: pair id -> reward of A less reward of B.
        people: what people said of the pairs before; pairs without a choice get no score.
        tie_threshold: margin up to which the model's rewards count as a tie.
    """
    scores = {}
    for one in people:
        margin = margins.get(one.pair_id)
        if margin is None or one.choice is None:
            continue
        if one.choice in ("A", "B"):
            scores[one.pair_id] = margin if one.choice == "A" else -margin
        else:
            scores[one.pair_id] = tie_threshold - abs(margin)
    return scores
