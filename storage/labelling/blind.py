"""What blind campaigns hide until they are closed: the model's view of their pairs, and the clips from all but annotators.

A campaign is blind unless it shows rewards before a label is saved. Leads see everything; whether somebody is one, the
caller knows.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Any

from sqlalchemy import Select, or_, select

from storage.labelling.assignments import FINISHED
from storage.schema import AssignmentRow, CampaignPairRow, CampaignRow, PairRow

if TYPE_CHECKING:
    from sqlalchemy.orm import Session


def blind_videos(session: Session, video_ids: Collection[int]) -> frozenset[int]:
    """Return those of the videos that stand in a blind campaign that is not closed."""
    campaigns = _blind_campaigns(session)
    if not campaigns or not video_ids:
        return frozenset()
    columns = (PairRow.video_a_id, PairRow.video_b_id)
    rows = session.execute(_pairs_with(campaigns, video_ids).with_only_columns(*columns))
    return frozenset(video for row in rows for video in row) & frozenset(video_ids)


def may_fetch(session: Session, video_id: int, person_id: int | None) -> bool:
    """Tell whether an annotator may have a clip: it is in no blind campaign, or was given to them for labelling.

    Args:
        person_id: None for somebody without an account.
    """
    campaigns = _blind_campaigns(session)
    if not campaigns:
        return True
    if session.scalar(_pairs_with(campaigns, (video_id,)).with_only_columns(CampaignPairRow.id).limit(1)) is None:
        return True
    if person_id is None:
        return False
    # In any campaign: one that shows rewards may ask about the same video.
    given = (
        select(AssignmentRow.id)
        .join(CampaignPairRow, CampaignPairRow.id == AssignmentRow.campaign_pair_id)
        .join(PairRow, PairRow.id == CampaignPairRow.pair_id)
        .where(
            AssignmentRow.annotator_id == person_id,
            AssignmentRow.state.in_(("leased", *FINISHED)),  # what they finished they may look at and edit
            or_(PairRow.video_a_id == video_id, PairRow.video_b_id == video_id),
        )
    )
    return session.scalar(given.limit(1)) is not None


def _blind_campaigns(session: Session) -> list[int]:
    rows = select(CampaignRow.id, CampaignRow.visible).where(CampaignRow.status != "closed", CampaignRow.origin == "studio")
    return [row.id for row in session.execute(rows) if "rewards" not in row.visible]


def _pairs_with(campaigns: Sequence[int], video_ids: Collection[int]) -> Select[Any]:
    return (
        select(CampaignPairRow)
        .join(PairRow, PairRow.id == CampaignPairRow.pair_id)
        .where(
            CampaignPairRow.campaign_id.in_(campaigns),
            CampaignPairRow.state != "dropped",
            or_(PairRow.video_a_id.in_(video_ids), PairRow.video_b_id.in_(video_ids)),
        )
    )
