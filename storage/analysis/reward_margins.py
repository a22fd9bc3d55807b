"""Reward margins of a checkpoint, for many pairs at once, and the pairs of each source.

sources = pair_sources(session)                                 # {"bundled": 12, "videoalign": 20000}
ids = pair_ids_of(session, ["videoalign"])
by_pair = margins(session, fingerprint, sources=["videoalign"])  # pair id -> reward of A less reward of B
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from sqlalchemy import and_, func, select
from sqlalchemy.orm import Session, aliased

from storage.pairs import Pair, get_pair
from storage.schema import CampaignPairRow, JudgementRow, Mode, PairRow


def pair_sources(session: Session) -> dict[str, int]:
    """How many pairs each source has, by name."""
    counts = select(PairRow.source, func.count()).group_by(PairRow.source).order_by(PairRow.source)
    return dict(session.execute(counts).tuples().all())


def pair_ids_of(session: Session, sources: Sequence[str]) -> tuple[int, ...]:
    """List the ids of the pairs of some sources, oldest first."""
    return tuple(session.scalars(select(PairRow.id).where(PairRow.source.in_(sources)).order_by(PairRow.id)))


def first_pairs(session: Session, sources: Sequence[str], foremost: Sequence[int], limit: int) -> tuple[Pair, ...]:
    """List some pairs of these sources: those of `foremost` (pair ids), then the oldest others."""
    others = select(PairRow.id).where(PairRow.source.in_(sources), PairRow.id.not_in(foremost)).order_by(PairRow.id)
    ids = [*foremost, *session.scalars(others.limit(limit))]
    return tuple(get_pair(session, pair_id) for pair_id in ids[:limit])


def margins(
    session: Session,
    fingerprint: str,
    *,
    sources: Sequence[str] | None = None,
    campaign_id: int | None = None,
    mode: Mode = "think",
) -> dict[int, float]:
    """Reward of A less reward of B for every pair that this checkpoint judged, by pair id.

    Args:
        fingerprint: of the checkpoint, as in `storage.judgements.Question`.
        sources, campaign_id: of these pairs only; without either of all pairs.
        mode: "think" or "quick"; judgements of several sampled thoughts are not asked for here.
    """
    statement = _margins(_judged(fingerprint, mode))
    return {row.id: row.margin for row in session.execute(_among(statement, sources, campaign_id))}


def count_margins(session: Session, fingerprint: str, campaign_id: int) -> int:
    """How many pairs of a campaign `margins` knows, counted by the database."""
    statement = _among(_margins(_judged(fingerprint, "think")), None, campaign_id)
    return session.scalar(select(func.count()).select_from(statement.subquery())) or 0


def margin_spreads(
    session: Session, fingerprint: str, *, sources: Sequence[str] | None = None, campaign_id: int | None = None
) -> dict[int, float]:
    """Return the standard deviation of each pair's margin over several sampled thoughts, by pair id.

    The thoughts about the two videos are independent, so their variances add up. The newest judgements count.

    Args:
        fingerprint, sources, campaign_id: as for `margins`.
    """
    a, b = _of_both_videos(_thought_several_times(fingerprint))
    columns = (PairRow.id, a.reward_spread.label("spread_a"), b.reward_spread.label("spread_b"))
    statement = _joined(select(*columns), a, b).order_by(a.id, b.id)
    rows = session.execute(_among(statement, sources, campaign_id))
    return {row.id: math.hypot(row.spread_a, row.spread_b) for row in rows}


def next_unjudged(
    session: Session, fingerprint: str, sources: Sequence[str], after: int = 0, mode: Mode = "think"
) -> Pair | None:
    """Find the first pair behind `after` (a pair id) of which a video was not judged; None at the end."""
    judged = select(JudgementRow.id).where(
        JudgementRow.prompt_hash == PairRow.prompt_hash,
        JudgementRow.fingerprint == fingerprint,
        JudgementRow.mode == mode,
        JudgementRow.k == 0,
    )
    missing = (
        select(PairRow.id)
        .where(PairRow.source.in_(sources), PairRow.id > after)
        .where(
            ~judged.where(JudgementRow.video_id == PairRow.video_a_id).exists()
            | ~judged.where(JudgementRow.video_id == PairRow.video_b_id).exists()
        )
    )
    pair_id = session.scalar(missing.order_by(PairRow.id).limit(1))
    return None if pair_id is None else get_pair(session, pair_id)


def _judged(fingerprint: str, mode: Mode) -> Any:
    """One checkpoint's judgements that have a reward."""
    return select(JudgementRow).where(
        JudgementRow.fingerprint == fingerprint,
        JudgementRow.mode == mode,
        JudgementRow.k == 0,
        JudgementRow.reward.is_not(None),
    )


def _thought_several_times(fingerprint: str) -> Any:
    """One checkpoint's judgements from several sampled thoughts."""
    spread = JudgementRow.reward_spread.is_not(None)
    return select(JudgementRow).where(JudgementRow.fingerprint == fingerprint, JudgementRow.mode == "k", spread)


def _margins(judgements: Any) -> Any:
    """Select pairs with their margin by some judgements."""
    a, b = _of_both_videos(judgements)
    return _joined(select(PairRow.id, (a.reward - b.reward).label("margin")), a, b)


def _of_both_videos(judgements: Any) -> tuple[Any, Any]:
    return aliased(JudgementRow, judgements.subquery()), aliased(JudgementRow, judgements.subquery())


def _joined(statement: Any, a: Any, b: Any) -> Any:
    """Join the judgements of a pair's two videos to a selection from pairs."""
    return statement.join(a, and_(a.video_id == PairRow.video_a_id, a.prompt_hash == PairRow.prompt_hash)).join(
        b, and_(b.video_id == PairRow.video_b_id, b.prompt_hash == PairRow.prompt_hash)
    )


def _among(statement: Any, sources: Sequence[str] | None, campaign_id: int | None) -> Any:
    """Restrict a selection from pairs to some of them."""
    if campaign_id is not None:
        here = and_(CampaignPairRow.pair_id == PairRow.id, CampaignPairRow.campaign_id == campaign_id)
        statement = statement.join(CampaignPairRow, here)
    return statement if sources is None else statement.where(PairRow.source.in_(sources))
