"""The annotators of a campaign, as the lead sees them. All counts come from running totals."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sqlalchemy import Row, Select, select, text, update

from storage.accounts.users import User, as_user
from storage.campaigns.campaign import lock_campaign
from storage.errors import CampaignError, NotInStoreError
from storage.schema import AssignmentRow, MemberRow, Standing, UserRow
from storage.sql import MEMBERS

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

_IS_LABELLED = text("assignments.state = 'labelled'")


@dataclass(frozen=True)
class Member:
    """An annotator in a campaign; the counts are over current labels.

    Attributes:
        labels: all of them, gold and repeated pairs too.
        median_seconds: time on task of a label.
        gold_total, gold_right: gold pairs answered, and how many as known.
        repeat_total, repeat_same: planned repeats, and how many with the first choice again.
        decided, left_choices: labels that prefer a video, and how many the one on the left.
        compared, agreed: with how many labels of others on the same pairs this person's could be compared, and how many made
            the same choice.
    """

    annotator: User
    standing: Standing
    paused: bool
    labels: int
    skips: int
    flags: int
    median_seconds: float | None
    gold_total: int
    gold_right: int
    repeat_total: int
    repeat_same: int
    decided: int
    left_choices: int
    ties: int
    compared: int
    agreed: int


def members(session: Session, campaign_id: int) -> tuple[Member, ...]:
    """List the members of a campaign in the order in which they came."""
    rows = session.execute(_rows().where(MemberRow.campaign_id == campaign_id).order_by(MemberRow.id))
    return tuple(_member(session, row) for row in rows.all())


def member(session: Session, campaign_id: int, annotator_id: int) -> Member | None:
    """One annotator's totals; None for somebody who never asked for a pair here."""
    same = (MemberRow.campaign_id == campaign_id, MemberRow.annotator_id == annotator_id)
    row = session.execute(_rows().where(*same)).one_or_none()
    return None if row is None else _member(session, row)


def set_paused(session: Session, campaign_id: int, annotator_id: int, paused: bool) -> None:
    """Keep an annotator from getting new pairs of this campaign, or allow it again.

    Raises:
        NotInStoreError: this person is not in the campaign.
    """
    _change(session, campaign_id, annotator_id, paused=paused)


def readmit(session: Session, campaign_id: int, annotator_id: int) -> None:
    """Let somebody work who did not pass the qualification.

    Raises:
        NotInStoreError: this person is not in the campaign.
        CampaignError: they did not fail.
    """
    standing = _change(session, campaign_id, annotator_id, standing="active")
    if standing != "failed":
        raise CampaignError("this annotator did not fail the qualification")


def _change(session: Session, campaign_id: int, annotator_id: int, **values: Any) -> str:
    """Set columns of a member; returns the standing before."""
    lock_campaign(session, campaign_id)
    same = (MEMBERS.c.campaign_id == campaign_id, MEMBERS.c.annotator_id == annotator_id)
    standing: str | None = session.scalar(select(MEMBERS.c.standing).where(*same))
    if standing is None:
        raise NotInStoreError("this person has not worked in this campaign yet")
    session.execute(update(MEMBERS).where(*same).values(**values))
    return standing


def _rows() -> Select[Any]:
    return select(UserRow, MemberRow.__table__).join_from(MemberRow, UserRow, UserRow.id == MemberRow.annotator_id)


def _member(session: Session, row: Row[Any]) -> Member:
    return Member(
        annotator=as_user(row.UserRow),
        standing=row.standing,
        paused=row.paused,
        labels=row.labels,
        skips=row.skips,
        flags=row.flags,
        median_seconds=_median_seconds(session, row),
        gold_total=row.gold_total,
        gold_right=row.gold_right,
        repeat_total=row.repeat_total,
        repeat_same=row.repeat_same,
        decided=row.decided,
        left_choices=row.left_choices,
        ties=row.ties,
        compared=row.compared,
        agreed=row.agreed,
    )


def _median_seconds(session: Session, row: Row[Any]) -> float | None:
    """Read from the middle of an index on time on task."""
    if row.labels == 0:
        return None
    middle = (
        select(AssignmentRow.seconds)
        .where(
            AssignmentRow.campaign_id == row.campaign_id,
            AssignmentRow.annotator_id == row.annotator_id,
            AssignmentRow.seconds.is_not(None),
            _IS_LABELLED,
        )
        .order_by(AssignmentRow.seconds)
        .offset((row.labels - 1) // 2)
        .limit(2 - row.labels % 2)
    )
    middles = [seconds for seconds in session.scalars(middle) if seconds is not None]
    return sum(middles) / len(middles) if middles else None
