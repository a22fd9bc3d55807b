"""Uncertainty sampling: the order in which pairs are labelled, by the rewards of the checkpoint that serves now.

scores = queue_scores(database, serving.now, "uncertain", campaign_id=campaign.id)      # pair id -> lower comes first
with database.write() as session:
    reorder(session, campaign.id, scores)
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence

from app.serving.serving import Served
from storage import Database
from storage.analysis.reward_margins import margin_spreads, margins
from storage.labelling.consensus import Consensus, consensus
from storage.schema import Ordering


def queue_scores(
    database: Database,
    served: Served,
    ordering: Ordering,
    *,
    sources: Sequence[str] | None = None,
    campaign_id: int | None = None,
) -> dict[int, float]:
    """Score the pairs of a queue: those with a lower score come first, those without one last.

    Args:
        sources, campaign_id: of these pairs only; without either of all pairs.

    Returns:
        Pair id -> score; empty for a random order.
    """
    if ordering == "random":
        return {}
    scale = served.scale("think")
    tie_threshold = 0.0 if scale is None else scale.tie_threshold
    with database.read() as session:
        by_pair = margins(session, served.fingerprint, sources=sources, campaign_id=campaign_id)
        if ordering == "uncertain":
            spreads = margin_spreads(session, served.fingerprint, sources=sources, campaign_id=campaign_id)
            return uncertain_first(by_pair, tie_threshold, spreads)
        people = consensus(session)
    return disagreement_first(by_pair, people, tie_threshold)


def uncertain_first(
    margins: Mapping[int, float], tie_threshold: float = 0.0, spreads: Mapping[int, float] | None = None
) -> dict[int, float]:
    """Put pairs first whose outcome is least certain: a margin close to the tie threshold, thoughts that disagree.

    The score is the distance of |margin| from the threshold, in units of the margin's spread over several thoughts. A pair
    with one thought only is taken to spread as the median pair does.

    Args:
        margins: pair id -> reward of A less reward of B.
        tie_threshold: margin up to which rewards count as a tie.
        spreads: pair id -> standard deviation of the margin, as in `storage.analysis.reward_margins.margin_spreads`.
    """
    spread_of = {pair: spread for pair, spread in (spreads or {}).items() if spread > 0}
    typical = statistics.median(spread_of.values()) if spread_of else 1.0
    return {pair: abs(abs(margin) - tie_threshold) / spread_of.get(pair, typical) for pair, margin in margins.items()}


def disagreement_first(
    margins: Mapping[int, float], people: Iterable[Consensus], tie_threshold: float = 0.0
) -> dict[int, float]:
    """Put pairs first on which the model contradicts people, the surest contradiction before all; agreement comes last.

    Args:
        margins: pair id -> reward of A less reward of B.
        people: the consensus on each pair; pairs without a choice get no score.
        tie_threshold: margin up to which the model's rewards count as a tie.
    """
    scores = {}
    for entry in people:
        margin = margins.get(entry.pair_id)
        if margin is None or entry.choice is None:
            continue
        if entry.choice in ("A", "B"):
            scores[entry.pair_id] = margin if entry.choice == "A" else -margin
        else:
            scores[entry.pair_id] = tie_threshold - abs(margin)
    return scores
