"""What one annotator did in a campaign, as they see it themselves; quick enough to come with every answer."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from storage.schema import AssignmentRow, MemberRow

# More turns than a person has in a day: only these are looked at for `today`, however long somebody has been at it.
_LATEST = 1500


@dataclass(frozen=True)
class OwnWork:
    """Counts over current labels. labels: all of them. practised: pairs with a known answer among them. today: those that
    were first saved since the given moment.
    """

    labels: int = 0
    practised: int = 0
    today: int = 0


def own_work(session: Session, campaign_id: int, annotator_id: int, since: datetime) -> OwnWork:
    """The counts of one person; zeros for somebody who never asked for a pair here."""
    same = (MemberRow.campaign_id == campaign_id, MemberRow.annotator_id == annotator_id)
    totals = session.execute(select(MemberRow.labels, MemberRow.gold_total).where(*same)).one_or_none()
    if totals is None:
        return OwnWork()
    latest = (
        select(AssignmentRow.state, AssignmentRow.finished_at)
        .where(AssignmentRow.campaign_id == campaign_id, AssignmentRow.annotator_id == annotator_id)
        .order_by(AssignmentRow.id.desc())
        .limit(_LATEST)
        .subquery()
    )
    done = select(func.count()).select_from(latest).where(latest.c.state == "labelled", latest.c.finished_at >= since)
    return OwnWork(totals.labels, totals.gold_total, session.scalar(done) or 0)
