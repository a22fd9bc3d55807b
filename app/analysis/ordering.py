"""In which order pairs are asked: scores where the lower one comes first."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from storage.consensus import Consensus


def uncertain_first(margins: Mapping[int, float]) -> dict[int, float]:
    """Pairs whose rewards are close come first.

    Args:
        margins: pair id -> reward of A less reward of B.
    """
    return {pair: abs(margin) for pair, margin in margins.items()}


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
