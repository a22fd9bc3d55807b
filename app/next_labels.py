"""On which pairs the next labels are best spent, by what the checkpoint that serves now said of them.

scores = queue_scores(database, serving.now, "uncertain", campaign_id=campaign.id)      # pair id -> lower comes first
with database.write() as session:
    reorder(session, campaign.id, scores)
"""

from __future__ import annotations

from collections.abc import Sequence

from app.analysis.ordering import disagreement_first, uncertain_first
from app.serving import Served
from storage import Database
from storage.consensus import consensus
from storage.margins import margin_spreads, margins
from storage.schema import Ordering


def queue_scores(
    database: Database,
    served: Served,
    ordering: Ordering,
    *,
    sources: Sequence[str] | None = None,
    campaign_id: int | None = None,
) -> dict[int, float]:
    """The order of a queue: pairs with a lower score come first, pairs without one last; empty for a random order.

    Args:
        sources, campaign_id: of these pairs only; without either of all pairs.
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
