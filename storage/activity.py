"""What happened in a campaign: labels on each of the last days, versions of its guidelines."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime, time, timedelta, timezone

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from storage.schema import GuidelineRow, LabelRow, UserRow, utc_now


@dataclass(frozen=True)
class GuidelineVersion:
    """A version of a campaign's guidelines, without its text. author: None for the program itself."""

    version: int
    author: str | None
    created_at: datetime


def guideline_versions(session: Session, campaign_id: int) -> tuple[GuidelineVersion, ...]:
    """All versions, the newest first."""
    statement = (
        select(GuidelineRow.version, UserRow.name, GuidelineRow.created_at)
        .outerjoin(UserRow, UserRow.id == GuidelineRow.author_id)
        .where(GuidelineRow.campaign_id == campaign_id)
        .order_by(GuidelineRow.version.desc())
    )
    return tuple(GuidelineVersion(*row) for row in session.execute(statement))


def labels_a_day(
    session: Session, campaign_id: int, days: int = 30, now: datetime | None = None
) -> tuple[tuple[date, int], ...]:
    """Revisions saved in a campaign on each day (UTC), oldest first, today last.

    Ids grow with time, so the first id of each day is found by bisection, and the days are counted in the index over
    campaign and id: a million labels are no scan of the table.
    """
    today = (now or utc_now()).astimezone(timezone.utc).date()
    begin = today - timedelta(days=days - 1)
    last = session.scalar(select(func.max(LabelRow.id))) or 0
    firsts, low = [], 1
    for offset in range(days):
        low = _first_since(session, datetime.combine(begin + timedelta(days=offset), time(), timezone.utc), low, last)
        firsts.append(low)
    counts = []
    for offset, (first, beyond) in enumerate(zip(firsts, [*firsts[1:], last + 1], strict=True)):
        here = (LabelRow.campaign_id == campaign_id, LabelRow.id >= first, LabelRow.id < beyond)
        number = session.scalar(select(func.count()).select_from(LabelRow).where(*here)) if beyond > first else 0
        counts.append((begin + timedelta(days=offset), number or 0))
    return tuple(counts)


def _first_since(session: Session, moment: datetime, low: int, last: int) -> int:
    """The first id in low .. last + 1 of a label saved at or after a moment; ids may have gaps."""
    high = last + 1
    while low < high:
        middle = (low + high) // 2
        following = select(LabelRow.id, LabelRow.created_at).where(LabelRow.id >= middle).order_by(LabelRow.id).limit(1)
        row = session.execute(following).one_or_none()
        if row is None or row.created_at >= moment:
            high = middle
        else:
            low = row.id + 1
    return low
