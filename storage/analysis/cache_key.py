"""A stamp over all that figures are computed from: as long as it stays the same, so do the figures.

before = last_changes(session)
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import func, select

from storage.schema import CampaignPairRow, ExternalScoreRow, JudgementRow, LabelRow, PairRow, VideoStatsRow

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

Stamp = tuple[str, ...]

# Labels, judgements and pairs only grow; dropped pairs, scores of other models and facts of videos can be replaced.
_NEWEST: tuple[Any, ...] = (
    select(func.max(LabelRow.id)),
    select(func.max(JudgementRow.id)),
    select(func.max(PairRow.id)),
    select(func.count()).select_from(VideoStatsRow),
    select(func.max(ExternalScoreRow.imported_at)),
    select(func.count()).select_from(CampaignPairRow).where(CampaignPairRow.state == "dropped"),
)


def last_changes(session: Session) -> Stamp:
    """Return a stamp that changes with any new pair, label, judgement, measured video, imported score or dropped pair."""
    return tuple(str(session.scalar(statement)) for statement in _NEWEST)
