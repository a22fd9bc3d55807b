"""The queue of a campaign: the next pair of a member, at the same cost in small and large campaigns.

A member has a cursor: everything up to there in the queue was offered to them, or could not be. The next pair is the
first one behind it that has an open slot. Now and then it is a gold pair instead, or an own earlier pair with the sides
exchanged; when, depends on the campaign's seed and how many pairs the person got.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from sqlalchemy import Row, Select, bindparam, select, text, tuple_

from storage.campaigns.slots import IS_QUEUED
from storage.schema import Kind, Side
from storage.splits import stable_share
from storage.sql import ASSIGNMENTS, CAMPAIGN_PAIRS

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from storage.campaigns.campaign import Campaign

# A repeat comes when the first label is no longer in mind.
REPEAT_AFTER_LABELS = 10
SMALL_CAMPAIGN_PAIRS = 30
REPEAT_AFTER_LABELS_IF_SMALL = 3


def _first_ahead(condition: Any) -> Select[Any]:
    """Select the first pair behind a cursor that somebody may have, with their returned assignment of it."""
    columns = (CAMPAIGN_PAIRS.c.position, CAMPAIGN_PAIRS.c.id)
    mine = (ASSIGNMENTS.c.campaign_pair_id == CAMPAIGN_PAIRS.c.id, ASSIGNMENTS.c.annotator_id == bindparam("annotator"))
    first = select(ASSIGNMENTS.c.id).where(*mine, ASSIGNMENTS.c.round == 0)
    return (
        select(*columns, CAMPAIGN_PAIRS.c.pair_id, first.scalar_subquery().label("assignment_id"))
        .where(CAMPAIGN_PAIRS.c.campaign_id == bindparam("campaign"), condition)
        .where(tuple_(*columns) > tuple_(bindparam("at_position"), bindparam("at_id")))
        .where(~first.where(ASSIGNMENTS.c.state != "returned").exists())
        .order_by(*columns)
        .limit(1)
    )


_NEXT_NEW = _first_ahead(IS_QUEUED)
_NEXT_GOLD = _first_ahead(text("campaign_pairs.is_gold AND campaign_pairs.state = 'open'"))
_LAST_QUEUED = (
    select(CAMPAIGN_PAIRS.c.position, CAMPAIGN_PAIRS.c.id)
    .where(CAMPAIGN_PAIRS.c.campaign_id == bindparam("campaign"), IS_QUEUED)
    .order_by(CAMPAIGN_PAIRS.c.position.desc(), CAMPAIGN_PAIRS.c.id.desc())
    .limit(1)
)
_OWN = (ASSIGNMENTS.c.campaign_id == bindparam("campaign"), ASSIGNMENTS.c.annotator_id == bindparam("annotator"))
_WAS_LABELLED = text("assignments.state || '' = 'labelled'")  # not by the index on time: the order by id is needed
_RECENT_LABELS = select(ASSIGNMENTS.c.id).where(*_OWN, _WAS_LABELLED).order_by(ASSIGNMENTS.c.id.desc()).limit(1)
_NEXT_REPEAT = (
    select(ASSIGNMENTS.c.id, ASSIGNMENTS.c.campaign_pair_id, ASSIGNMENTS.c.pair_id, ASSIGNMENTS.c.left_video)
    .join(CAMPAIGN_PAIRS, CAMPAIGN_PAIRS.c.id == ASSIGNMENTS.c.campaign_pair_id)
    .where(*_OWN, ASSIGNMENTS.c.id > bindparam("after"), ASSIGNMENTS.c.id < bindparam("before"))
    .where(ASSIGNMENTS.c.kind == "work", _WAS_LABELLED, CAMPAIGN_PAIRS.c.state == "open")
    .order_by(ASSIGNMENTS.c.id)
    .limit(1)
)


@dataclass(frozen=True)
class NextPair:
    """A pair to assign.

    Attributes:
        assignment_id: an own assignment that was given back before, to be taken again.
        cursors: columns of the member that change with the choice.
    """

    campaign_pair_id: int
    pair_id: int
    kind: Kind
    left_video: Side
    assignment_id: int | None = None
    cursors: dict[str, int] = field(default_factory=dict)


def choose(session: Session, campaign: Campaign, member: Row[Any]) -> NextPair | None:
    """Choose the next pair of somebody who is qualified; None when no pair has an open slot for them."""
    new = _next_new(session, member)
    if new is None:
        return None
    draw = stable_share(campaign.seed, member.annotator_id, member.served)
    settings = campaign.config
    other = None
    if draw < settings.gold_share:
        other = next_gold(session, member, "gold")
    elif draw < settings.gold_share + settings.repeat_share:
        other = _next_repeat(session, member)
    return other or new


def next_gold(session: Session, member: Row[Any], kind: Kind) -> NextPair | None:
    """Choose the next gold pair that this person has not had; None when there is none left."""
    at = {"at_position": member.gold_cursor_position, "at_id": member.gold_cursor_id}
    row = session.execute(_NEXT_GOLD, _whose(member) | at).one_or_none()
    if row is None:
        return None
    return _next_pair(row, member, kind, {"gold_cursor_position": row.position, "gold_cursor_id": row.id})


def at_the_end(session: Session, member: Row[Any]) -> dict[str, int]:
    """Return the cursor at the end of the queue, for somebody who has been offered all of it."""
    last = session.execute(_LAST_QUEUED, {"campaign": member.campaign_id}).one_or_none()
    if last is None or (last.position, last.id) <= (member.cursor_position, member.cursor_id):
        return {}
    return {"cursor_position": last.position, "cursor_id": last.id}


def left_video(annotator_id: int, pair_id: int) -> Side:
    """Which video stands left for this person: always the same, and for half of all pairs the first."""
    return "A" if stable_share("left", annotator_id, pair_id) < 0.5 else "B"


def _next_new(session: Session, member: Row[Any]) -> NextPair | None:
    at = {"at_position": member.cursor_position, "at_id": member.cursor_id}
    row = session.execute(_NEXT_NEW, _whose(member) | at).one_or_none()
    if row is None:
        return None
    return _next_pair(row, member, "work", {"cursor_position": row.position, "cursor_id": row.id})


def _next_repeat(session: Session, member: Row[Any]) -> NextPair | None:
    """Choose the oldest own label that was not repeated yet, if it is long enough ago."""
    gap = _repeat_gap(session, member.campaign_id)
    newest = session.scalar(_RECENT_LABELS.offset(gap - 1), _whose(member))
    if newest is None:
        return None
    between = {"after": member.repeat_cursor, "before": newest}
    row = session.execute(_NEXT_REPEAT, _whose(member) | between).one_or_none()
    if row is None:
        return None
    other: Side = "B" if row.left_video == "A" else "A"
    return NextPair(row.campaign_pair_id, row.pair_id, "repeat", other, cursors={"repeat_cursor": row.id})


def _repeat_gap(session: Session, campaign_id: int) -> int:
    pairs = select(CAMPAIGN_PAIRS.c.id).where(CAMPAIGN_PAIRS.c.campaign_id == campaign_id)
    is_small = session.scalar(pairs.offset(SMALL_CAMPAIGN_PAIRS - 1).limit(1)) is None
    return REPEAT_AFTER_LABELS_IF_SMALL if is_small else REPEAT_AFTER_LABELS


def _next_pair(row: Row[Any], member: Row[Any], kind: Kind, cursors: dict[str, int]) -> NextPair:
    side = left_video(member.annotator_id, row.pair_id)
    return NextPair(row.id, row.pair_id, kind, side, row.assignment_id, cursors)


def _whose(member: Row[Any]) -> dict[str, int]:
    return {"campaign": member.campaign_id, "annotator": member.annotator_id}
