"""Counts of labels: of a campaign, and of one annotator in it. All pages count by this module, so that they agree.

A campaign asks for `wanted` labels, so many for each pair, and `given` of them are there. Besides, there are labels beyond
what a pair needs (the overlap was made smaller), labels on pairs that became gold or were dropped later, and the answers
that check people: gold pairs and repeats. `total` counts all of these; so do the counts of the annotators together, and
each person's own.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime, time, timedelta, timezone
from typing import TYPE_CHECKING, Any

from sqlalchemy import case, func, select

from storage.campaigns.slots import IS_LEASED
from storage.errors import NotInStoreError
from storage.schema import AssignmentRow, CampaignPairRow, CampaignRow, GuidelineRow, LabelRow, MemberRow, UserRow, utc_now

if TYPE_CHECKING:
    from sqlalchemy.orm import Session


@dataclass(frozen=True)
class Progress:
    """Counts of a campaign.

    Attributes:
        pairs: those to be labelled, without gold and dropped ones.
        finished: of these, with all the labels they need.
        labels: what these have by now.
        wanted: what these need.
        leased: pairs in somebody's hands.
        flagged: waiting for the lead.
        disputed: finished without a majority.
        gold: gold pairs.
        given: of the labels that are wanted, those that are there: `labels` without those beyond what a pair needs.
        on_gold, on_dropped: labels on pairs that are gold, or dropped, by now.
        checks: answers to gold pairs, and repeats.
    """

    pairs: int
    finished: int
    labels: int
    wanted: int
    leased: int
    flagged: int
    dropped: int
    disputed: int
    gold: int
    given: int
    on_gold: int
    on_dropped: int
    checks: int

    @property
    def left(self) -> int:
        """How many of the wanted labels are missing."""
        return self.wanted - self.given

    @property
    def total(self) -> int:
        """All labels in force."""
        return self.labels + self.on_gold + self.on_dropped + self.checks

    @property
    def for_training(self) -> int:
        """Labels that the common answers of pairs are made of."""
        return self.labels + self.on_gold


def progress(session: Session, campaign_id: int) -> Progress:
    """Count the pairs of a campaign by state, in one pass over its pairs and none over its labels.

    Raises:
        NotInStoreError: there is no such campaign.
    """
    columns = (CampaignRow.overlap, CampaignRow.origin)
    campaign = session.execute(select(*columns).where(CampaignRow.id == campaign_id)).one_or_none()
    if campaign is None:
        raise NotInStoreError(f"there is no campaign {campaign_id}")
    overlap = campaign.overlap
    below = CampaignPairRow.labelled < overlap
    counts = (
        select(
            CampaignPairRow.state,
            CampaignPairRow.is_gold,
            func.count().label("pairs"),
            _sum(CampaignPairRow.labelled).label("labels"),
            _sum(case((below, CampaignPairRow.labelled), else_=overlap)).label("given"),
            _sum(case((CampaignPairRow.labelled >= overlap, 1), else_=0)).label("finished"),
            _sum(case((CampaignPairRow.disputed, 1), else_=0)).label("disputed"),
        )
        .where(*_row_by_row(session, campaign_id))
        .group_by(CampaignPairRow.state, CampaignPairRow.is_gold)
    )
    rows = session.execute(counts).all()
    work = [row for row in rows if not row.is_gold and row.state != "dropped"]
    pairs = sum(row.pairs for row in work)
    leased = select(func.count()).select_from(AssignmentRow).where(AssignmentRow.campaign_id == campaign_id, IS_LEASED)
    return Progress(
        pairs=pairs,
        finished=sum(row.finished for row in work),
        labels=sum(row.labels for row in work),
        wanted=pairs * overlap,
        leased=session.scalar(leased) or 0,
        flagged=sum(row.pairs for row in rows if row.state == "flagged"),
        dropped=sum(row.pairs for row in rows if row.state == "dropped"),
        disputed=sum(row.disputed for row in work),
        gold=sum(row.pairs for row in rows if row.is_gold),
        given=sum(row.given for row in work),
        on_gold=sum(row.labels for row in rows if row.is_gold and row.state != "dropped"),
        on_dropped=sum(row.labels for row in rows if row.state == "dropped"),
        checks=_checks(session, campaign_id, campaign.origin == "import"),
    )


def _checks(session: Session, campaign_id: int, is_import: bool) -> int:
    """Count the answers to gold pairs and the repeats."""
    if is_import:  # its people have no totals of such labels as the file did not name a kind of
        kinds = AssignmentRow.kind.in_(("repeat", "gold", "qualification"))
        statement = select(func.count()).select_from(AssignmentRow).where(AssignmentRow.campaign_id == campaign_id, kinds)
        return session.scalar(statement.where(AssignmentRow.state == "labelled")) or 0
    theirs = select(_sum(MemberRow.labels)).where(MemberRow.campaign_id == campaign_id)
    work = select(_sum(CampaignPairRow.labelled)).where(*_row_by_row(session, campaign_id))
    return int(session.scalar(theirs) or 0) - int(session.scalar(work) or 0)


def _row_by_row(session: Session, campaign_id: int) -> tuple[Any, ...]:
    """Select a campaign's pairs in the order of the table: eight times as fast as by an index, in any order of rows.

    They were added together, so that few rows of other campaigns lie between the first and the last.
    """
    ids = select(func.min(CampaignPairRow.id), func.max(CampaignPairRow.id))
    first, last = session.execute(ids.where(CampaignPairRow.campaign_id == campaign_id)).one()
    # The sum keeps the database from taking the index on campaigns.
    return (CampaignPairRow.campaign_id + 0 == campaign_id, CampaignPairRow.id.between(first, last))


def _sum(column: Any) -> Any:
    return func.coalesce(func.sum(column), 0)


@dataclass(frozen=True)
class GuidelineVersion:
    """A version of a campaign's guidelines, without its text.

    Attributes:
        author: None for the program itself.
    """

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


def labels_per_day(
    session: Session, campaign_id: int, days: int = 30, now: datetime | None = None
) -> tuple[tuple[date, int], ...]:
    """Revisions saved in a campaign on each day (UTC), oldest first, today last; skips, flags and changes are among them.

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
    """Find the first id in low .. last + 1 of a label saved at or after a moment; ids may have gaps."""
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


# Kinds of assignments that the totals of a person count.
PERSONAL_KINDS = ("work", "repeat", "gold", "qualification")
# More assignments than a person has in a day: only these are looked at for `today`, however long somebody has been at it.
_LATEST = 1500


@dataclass(frozen=True)
class LabelCounts:
    """Counts over current labels.

    Attributes:
        labels: all of them, as in `storage.campaigns.members.Member`.
        practised: pairs with a known answer among them.
        today: those that were first saved since the given moment. A lead's decisions are not among them, here and there.
    """

    labels: int = 0
    practised: int = 0
    today: int = 0


def label_counts(session: Session, campaign_id: int, annotator_id: int, since: datetime) -> LabelCounts:
    """Count the labels of one annotator in one campaign; zeros for somebody who never asked for a pair there."""
    same = (MemberRow.campaign_id == campaign_id, MemberRow.annotator_id == annotator_id)
    totals = session.execute(select(MemberRow.labels, MemberRow.gold_total).where(*same)).one_or_none()
    if totals is None:
        return LabelCounts()
    latest = (
        select(AssignmentRow.state, AssignmentRow.finished_at)
        .where(AssignmentRow.campaign_id == campaign_id, AssignmentRow.annotator_id == annotator_id)
        .where(AssignmentRow.kind.in_(PERSONAL_KINDS))
        .order_by(AssignmentRow.id.desc())
        .limit(_LATEST)
        .subquery()
    )
    done = select(func.count()).select_from(latest).where(latest.c.state == "labelled", latest.c.finished_at >= since)
    return LabelCounts(totals.labels, totals.gold_total, session.scalar(done) or 0)
