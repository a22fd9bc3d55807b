"""Pairs on which people disagree, and the lead's decision on them.

    dispute = disputed(session, campaign.id)[0]
    answer = Answer(choice="A", strength="slightly", sub_scores=sub_scores)
    adjudicate(session, campaign.id, dispute.pair.id, lead.id, submission, answer)

A decision is a label like any other: append-only, with author and time. It overrules the consensus of the pair, also in a
campaign that is closed.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from sqlalchemy import select

from storage.campaigns.campaign import Campaign, lock_campaign
from storage.campaigns.label_schema import Answer, checked, same_judgement
from storage.errors import AnswerError, NotInStoreError
from storage.labelling.labels import Label, labels_of_pair
from storage.labelling.revisions import assignment_row, record, saved_before
from storage.pairs import Pair, get_pair
from storage.schema import AssignmentRow, CampaignPairRow, utc_now

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

ROUND = 2  # of assignments: after the first time and the planned repeat


@dataclass(frozen=True)
class Dispute:
    """A pair without a majority, with its labels."""

    pair: Pair
    labels: tuple[Label, ...]
    # `disputed(after=...)` goes on behind this one.
    campaign_pair_id: int


def disputed(session: Session, campaign_id: int, after: int = 0, limit: int = 20) -> tuple[Dispute, ...]:
    """List the pairs that have all their labels and no majority, and that no lead decided yet."""
    waiting = (
        select(CampaignPairRow.id, CampaignPairRow.pair_id)
        .where(CampaignPairRow.campaign_id == campaign_id, CampaignPairRow.id > after, CampaignPairRow.disputed)
        .where(CampaignPairRow.state != "dropped")
        .order_by(CampaignPairRow.id)
        .limit(limit)
    )
    return tuple(
        Dispute(get_pair(session, row.pair_id), labels_of_pair(session, campaign_id, row.pair_id), row.id)
        for row in session.execute(waiting).all()
    )


def adjudicate(
    session: Session,
    campaign_id: int,
    pair_id: int,
    lead_id: int,
    submission: str,
    answer: Answer,
    now: datetime | None = None,
) -> Label:
    """Save a lead's decision on any pair of the campaign; it replaces the one that the same lead made before.

    Args:
        submission: made new for each form; the same one again saves nothing.

    Raises:
        NotInStoreError: the pair is not in the campaign.
        AnswerError: the answer is not complete, or the same submission came with another answer before.
    """
    campaign = lock_campaign(session, campaign_id)
    campaign_pair_id = _campaign_pair_id(session, campaign_id, pair_id)
    pair = get_pair(session, pair_id)
    if answer.action != "label":
        raise AnswerError("a decision is a label")
    answer = checked(answer, campaign.config.dimensions, pair.video_a.duration, pair.video_b.duration)
    earlier = saved_before(session, lead_id, submission)
    if earlier is not None:
        if earlier.pair_id != pair_id or not same_judgement(earlier, answer):
            raise AnswerError("This form was sent before with another answer. Reload the page.")
        return earlier
    assignment = assignment_row(
        session, AssignmentRow.id == _assignment_id(session, campaign, campaign_pair_id, pair_id, lead_id, now or utc_now())
    )
    return record(session, campaign, assignment, answer, submission, now or utc_now())


def _campaign_pair_id(session: Session, campaign_id: int, pair_id: int) -> int:
    same = (CampaignPairRow.campaign_id == campaign_id, CampaignPairRow.pair_id == pair_id)
    campaign_pair_id = session.scalar(select(CampaignPairRow.id).where(*same))
    if campaign_pair_id is None:
        raise NotInStoreError(f"the pair {pair_id} is not in this campaign")
    return campaign_pair_id


def _assignment_id(
    session: Session, campaign: Campaign, campaign_pair_id: int, pair_id: int, lead_id: int, now: datetime
) -> int:
    """Find or make the lead's own assignment of the pair."""
    mine = (
        AssignmentRow.campaign_pair_id == campaign_pair_id,
        AssignmentRow.annotator_id == lead_id,
        AssignmentRow.round == ROUND,
    )
    assignment_id = session.scalar(select(AssignmentRow.id).where(*mine))
    if assignment_id is not None:
        return assignment_id
    assignment = AssignmentRow(
        token=secrets.token_urlsafe(16),
        campaign_id=campaign.id,
        campaign_pair_id=campaign_pair_id,
        pair_id=pair_id,
        annotator_id=lead_id,
        kind="adjudication",
        round=ROUND,
        left_video="A",  # the lead's page shows the pair in its own order
        state="leased",
        guideline_version=campaign.guideline_version,
        leased_at=now,
        expires_at=now,
    )
    session.add(assignment)
    session.flush()
    return assignment.id
