"""Labels as they are stored: an append-only record of revisions.

A submit, an edit and an undo each add a revision that names the one it replaces. The last revision of an assignment counts;
one whose last revision is a "withdraw" has no label.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Row, select
from sqlalchemy.orm import Session, aliased

from storage.campaigns.label_schema import Answer
from storage.schema import CampaignPairRow, Kind, LabelRow, Side
from storage.sql import ASSIGNMENTS, LABELS

_STREAM = 2000
_LATER = aliased(LabelRow)
# A revision that nothing replaces.
IS_LAST = ~select(_LATER.id).where(_LATER.replaces_id == LabelRow.id).exists()

# Revisions with their assignments, for `as_label`.
LABELS_WITH_ASSIGNMENTS = select(LABELS, ASSIGNMENTS.c.token.label("assignment_token"), ASSIGNMENTS.c.kind).join_from(
    LABELS, ASSIGNMENTS, ASSIGNMENTS.c.id == LABELS.c.assignment_id
)


@dataclass(frozen=True, kw_only=True)
class Label(Answer):
    """One revision of a label; the fields of an answer mean the same as in `Answer`.

    Attributes:
        assignment_token: names the assignment that the label belongs to.
        visible: what was open to the person when the label was saved ("generators", "thoughts", "rewards").
        replaces_id: the revision that this one puts out of force.
    """

    id: int
    campaign_id: int
    pair_id: int
    annotator_id: int
    assignment_token: str
    kind: Kind
    left_video: Side
    visible: tuple[str, ...]
    guideline_version: int
    replaces_id: int | None
    created_at: datetime


def revisions(session: Session, pair_id: int) -> tuple[Label, ...]:
    """List all revisions of a pair's labels in all campaigns, replaced and withdrawn ones too, oldest first."""
    campaign_pairs = select(CampaignPairRow.id).where(CampaignPairRow.pair_id == pair_id)
    rows = session.execute(
        LABELS_WITH_ASSIGNMENTS.where(LabelRow.campaign_pair_id.in_(campaign_pairs)).order_by(LabelRow.id)
    )
    return tuple(as_label(row) for row in rows)


def current_labels(session: Session, campaign_id: int) -> Iterator[Label]:
    """Yield the labels of a campaign that are in force, of all kinds, oldest first."""
    current = LABELS_WITH_ASSIGNMENTS.where(LabelRow.campaign_id == campaign_id, LabelRow.action == "label", IS_LAST)
    for row in session.execute(current.order_by(LabelRow.id).execution_options(yield_per=_STREAM)):
        yield as_label(row)


def labels_of_pair(session: Session, campaign_id: int, pair_id: int) -> tuple[Label, ...]:
    """List the labels of a pair in a campaign that are in force, of all kinds, oldest first."""
    campaign_pair = select(CampaignPairRow.id).where(
        CampaignPairRow.campaign_id == campaign_id, CampaignPairRow.pair_id == pair_id
    )
    current = LABELS_WITH_ASSIGNMENTS.where(
        LabelRow.campaign_pair_id.in_(campaign_pair), LabelRow.action == "label", IS_LAST
    )
    return tuple(as_label(row) for row in session.execute(current.order_by(LabelRow.id)))


def as_label(row: Row[Any]) -> Label:
    """Convert a row of `LABELS_WITH_ASSIGNMENTS`."""
    return Label(
        id=row.id,
        campaign_id=row.campaign_id,
        pair_id=row.pair_id,
        annotator_id=row.annotator_id,
        assignment_token=row.assignment_token,
        kind=row.kind,
        action=row.action,
        choice=row.choice,
        strength=row.strength,
        sub_scores=row.sub_scores,
        marks=tuple(row.marks),
        note=row.note,
        reason=row.reason,
        seconds=row.seconds,
        playback=row.playback,
        left_video=row.left_video,
        visible=tuple(row.visible),
        guideline_version=row.guideline_version,
        replaces_id=row.replaces_id,
        created_at=row.created_at,
    )
