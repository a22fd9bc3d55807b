"""The queue of a campaign as one annotator meets it: the next assignment, and its lease.

    assignment = next_assignment(session, campaign.id, annotator.id)     # the open one, a new one, or a `NoAssignment`
    save_draft(session, assignment.token, annotator.id, {"note": "..."})  # renews the lease too
    assignment = get_assignment(session, token_from_browser, annotator.id)

An assignment is held by a lease. One that nobody renews goes back into the queue, its draft kept; the same person gets it
again if nobody took the slot. So no pair is with more people than its campaign asks, and nobody gets one twice except as
a planned repeat.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Literal

from sqlalchemy import Row, bindparam, case, insert, or_, select, update

from storage.campaigns import slots
from storage.campaigns.campaign import Campaign, CampaignConfig, lock_campaign
from storage.campaigns.slots import IS_UNDER_WAY
from storage.labelling import queue
from storage.labelling.assignments import (
    Assignment,
    load_assignment,
)
from storage.schema import Kind, MemberRow, Standing, utc_now
from storage.sql import ASSIGNMENTS, CAMPAIGN_PAIRS, MEMBERS

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from storage.labelling.queue import NextPair

Reason = Literal["finished", "paused", "not qualified", "campaign paused", "campaign closed"]


_MEMBER = select(MEMBERS).where(
    MEMBERS.c.campaign_id == bindparam("campaign"), MEMBERS.c.annotator_id == bindparam("annotator")
)
_CURSORS = ("cursor_position", "cursor_id", "gold_cursor_position", "gold_cursor_id", "repeat_cursor")
_SERVED = (
    update(MEMBERS)
    .where(MEMBERS.c.id == bindparam("member"))
    .values({"served": MEMBERS.c.served + 1} | {name: bindparam(f"new_{name}") for name in _CURSORS})
)
_ASSIGN = insert(ASSIGNMENTS).returning(ASSIGNMENTS.c.id)
_LEASE_COLUMNS = ("state", "kind", "guideline_version", "leased_at", "expires_at")
_LEASE = (
    update(ASSIGNMENTS)
    .where(ASSIGNMENTS.c.id == bindparam("assignment"))
    .values({name: bindparam(f"new_{name}") for name in _LEASE_COLUMNS})
)
_IS_LEASED = ASSIGNMENTS.c.state == "leased"
_IS_FREE = or_(ASSIGNMENTS.c.kind.not_in(slots.HOLDING_KINDS), CAMPAIGN_PAIRS.c.open_slots > 0)
# The assignment that somebody holds, else the first they gave back and may have again.
_UNDER_WAY = (
    select(*(ASSIGNMENTS.c[name] for name in ("id", "state", "kind", "campaign_pair_id", "expires_at")))
    .join(CAMPAIGN_PAIRS, CAMPAIGN_PAIRS.c.id == ASSIGNMENTS.c.campaign_pair_id)
    .where(
        ASSIGNMENTS.c.campaign_id == bindparam("campaign"),
        ASSIGNMENTS.c.annotator_id == bindparam("annotator"),
        IS_UNDER_WAY,
        ASSIGNMENTS.c.kind != "adjudication",
        or_(_IS_LEASED, (CAMPAIGN_PAIRS.c.state == "open") & _IS_FREE),
    )
    .order_by(case((_IS_LEASED, 0), else_=1), ASSIGNMENTS.c.id)
    .limit(1)
)


@dataclass(frozen=True)
class NoAssignment:
    """Why there is no pair now. "finished" may pass: a pair comes back when somebody skips or leaves it."""

    reason: Reason


def next_assignment(
    session: Session, campaign_id: int, annotator_id: int, now: datetime | None = None
) -> Assignment | NoAssignment:
    """Give a person their next assignment. The first call makes them a member of the campaign.

    In this order: the assignment that they hold; one that they gave back, if its slot is still free, the oldest first; a
    pair of the qualification; the next pair of the queue.

    Raises:
        NotInStoreError: there is no such campaign.
    """
    now = now or utc_now()
    campaign = lock_campaign(session, campaign_id)
    if campaign.status == "closed" or campaign.origin != "studio":
        return NoAssignment("campaign closed")
    member = _joined(session, campaign, annotator_id)
    reason = _obstacle(campaign, member)
    own = session.execute(_UNDER_WAY, {"campaign": campaign_id, "annotator": annotator_id}).one_or_none()
    if own is not None and own.state == "leased" and (reason is None or own.expires_at > now):
        return _lease(session, campaign, own.id, own.kind, now)
    slots.sweep(session, campaign_id, now)
    if reason is not None:
        return NoAssignment(reason)
    if own is not None:
        slots.hold(session, own.kind, own.campaign_pair_id)
        return _lease(session, campaign, own.id, own.kind, now)
    if member.standing == "qualifying":
        return _next_of_qualification(session, campaign, member, now)
    next_pair = queue.choose(session, campaign, member)
    if next_pair is None:
        _change(session, member, **queue.at_the_end(session, member))
        return NoAssignment("finished")
    return _assign(session, campaign, member, next_pair, now)


def standing_after(settings: CampaignConfig, answered: int, right: int) -> Standing:
    """Whether somebody is through with the qualification, and passed it."""
    if answered < settings.qualification_pairs:
        return "qualifying"
    return "active" if _has_passed(settings, answered, right) else "failed"


def _has_passed(settings: CampaignConfig, answered: int, right: int) -> bool:
    # Rounding must not fail somebody who reached the share exactly.
    return answered > 0 and right >= settings.qualification_pass * answered - 1e-9


def _joined(session: Session, campaign: Campaign, annotator_id: int) -> Row[Any]:
    """Find or make the member's row; its cursors go to the front if the queue was sorted again since."""
    who = {"campaign": campaign.id, "annotator": annotator_id}
    row = session.execute(_MEMBER, who).one_or_none()
    if row is None:
        standing = "qualifying" if campaign.config.qualification_pairs else "active"
        new = MemberRow(
            campaign_id=campaign.id,
            annotator_id=annotator_id,
            standing=standing,
            order_version=campaign.order_version,
        )
        session.add(new)
        session.flush()
        row = session.execute(_MEMBER, who).one()
    elif row.order_version != campaign.order_version:
        front = {"cursor_position": -1, "cursor_id": 0, "gold_cursor_position": -1, "gold_cursor_id": 0}
        _change(session, row, order_version=campaign.order_version, **front)
        row = session.execute(_MEMBER, who).one()
    return row


def _obstacle(campaign: Campaign, member: Row[Any]) -> Reason | None:
    """Why this person gets no new pair."""
    if member.standing == "failed":
        return "not qualified"
    if member.paused:
        return "paused"
    return "campaign paused" if campaign.status == "paused" else None


def _next_of_qualification(
    session: Session, campaign: Campaign, member: Row[Any], now: datetime
) -> Assignment | NoAssignment:
    next_pair = queue.next_gold(session, member, "qualification")
    if next_pair is not None:
        return _assign(session, campaign, member, next_pair, now)
    # Gold pairs were skipped, flagged or dropped, and none is left: those answered have to do.
    passed = _has_passed(campaign.config, member.gold_total, member.gold_right)
    _change(session, member, standing="active" if passed else "failed")
    return next_assignment(session, campaign.id, member.annotator_id, now)


def _assign(session: Session, campaign: Campaign, member: Row[Any], next_pair: NextPair, now: datetime) -> Assignment:
    """Give a next_pair pair to somebody."""
    slots.hold(session, next_pair.kind, next_pair.campaign_pair_id)
    cursors = {f"new_{name}": next_pair.cursors.get(name, getattr(member, name)) for name in _CURSORS}
    session.execute(_SERVED, {"member": member.id} | cursors)
    if next_pair.assignment_id is not None:
        return _lease(session, campaign, next_pair.assignment_id, next_pair.kind, now)
    values = {
        "token": secrets.token_urlsafe(16),
        "campaign_id": campaign.id,
        "campaign_pair_id": next_pair.campaign_pair_id,
        "pair_id": next_pair.pair_id,
        "annotator_id": member.annotator_id,
        "round": 1 if next_pair.kind == "repeat" else 0,
        "left_video": next_pair.left_video,
    }
    assigned = session.execute(_ASSIGN, values | _lease_values(campaign, next_pair.kind, now))
    return load_assignment(session, assigned.scalar_one())


def _lease(session: Session, campaign: Campaign, assignment_id: int, kind: Kind, now: datetime) -> Assignment:
    """Renew a lease, or give an assignment out again."""
    values = {f"new_{name}": value for name, value in _lease_values(campaign, kind, now).items()}
    session.execute(_LEASE, {"assignment": assignment_id} | values)
    return load_assignment(session, assignment_id)


def _lease_values(campaign: Campaign, kind: Kind, now: datetime) -> dict[str, Any]:
    return {
        "state": "leased",
        "kind": kind,
        "guideline_version": campaign.guideline_version,
        "leased_at": now,
        "expires_at": now + timedelta(seconds=campaign.config.lease_seconds),
    }


def _change(session: Session, member: Row[Any], **values: Any) -> None:
    if values:
        session.execute(update(MEMBERS).where(MEMBERS.c.id == member.id).values(values))
