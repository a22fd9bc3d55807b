"""The open slots of pairs in the queue, and how leases go back into it.

Everybody goes along the queue of a campaign by position, with a cursor. A slot that opens behind cursors, because a
lease was abandoned or a label withdrawn, would never be met again; so its pair moves to just before the foremost cursor's
next step, where everybody meets it.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from sqlalchemy import ScalarSelect, bindparam, case, func, select, text, update

from storage.sql import ASSIGNMENTS, CAMPAIGN_PAIRS, CAMPAIGNS, MEMBERS

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

# Between two neighbours in the queue there is room for pairs that come back.
SPACING = 1 << 20
# Each person who asks for a pair looks after some abandoned ones, so that no request pays for all of them.
SWEEP = 20

# As written in the partial indexes: with bound values a database may not see that it can use them.
IS_LEASED = text("assignments.state = 'leased'")
IS_UNDER_WAY = text("assignments.state IN ('leased', 'returned')")
IS_QUEUED = text("campaign_pairs.open_slots > 0 AND campaign_pairs.state = 'open' AND NOT campaign_pairs.is_gold")
# Kinds of assignments that take one of the slots which the overlap allows.
HOLDING_KINDS = ("work", "import")

_HOLD = (
    update(CAMPAIGN_PAIRS)
    .where(CAMPAIGN_PAIRS.c.id == bindparam("campaign_pair"))
    .values(open_slots=CAMPAIGN_PAIRS.c.open_slots - 1)
)
_EXPIRED = (
    select(ASSIGNMENTS.c.id)
    .where(ASSIGNMENTS.c.campaign_id == bindparam("campaign"), ASSIGNMENTS.c.expires_at <= bindparam("now"), IS_LEASED)
    .order_by(ASSIGNMENTS.c.expires_at)
    .limit(SWEEP)
)


def open_slots(campaign_id: Any) -> Any:
    """Build the SQL for the open slots of a row of campaign_pairs: overlap less labels less leases."""
    overlap = select(CAMPAIGNS.c.overlap).where(CAMPAIGNS.c.id == campaign_id).scalar_subquery()
    held = (
        select(func.count())
        .select_from(ASSIGNMENTS)
        .where(
            ASSIGNMENTS.c.campaign_pair_id == CAMPAIGN_PAIRS.c.id,
            ASSIGNMENTS.c.state.in_(("leased", "labelled")),
            ASSIGNMENTS.c.kind.in_(HOLDING_KINDS),
        )
        .scalar_subquery()
    )
    return case((CAMPAIGN_PAIRS.c.is_gold, 0), (overlap > held, overlap - held), else_=0)


def next_position(campaign_id: Any) -> ScalarSelect[int]:
    """Build the SQL for a position that is ahead of every cursor."""
    version = select(CAMPAIGNS.c.order_version).where(CAMPAIGNS.c.id == campaign_id).scalar_subquery()
    return (
        select(func.coalesce(func.max(MEMBERS.c.cursor_position), -1) + 1)
        .where(MEMBERS.c.campaign_id == campaign_id, MEMBERS.c.order_version == version)
        .scalar_subquery()
    )


def hold(session: Session, kind: str, campaign_pair_id: int) -> None:
    """Take one of the slots of a pair, if assignments of this kind do."""
    if kind in HOLDING_KINDS:
        session.execute(_HOLD, {"campaign_pair": campaign_pair_id})


def put_back(session: Session, campaign_id: int, campaign_pair_ids: Sequence[int]) -> None:
    """Count the open slots of these pairs again and queue them where everybody meets them."""
    if campaign_pair_ids:
        session.execute(
            update(CAMPAIGN_PAIRS)
            .where(CAMPAIGN_PAIRS.c.id.in_(campaign_pair_ids), ~CAMPAIGN_PAIRS.c.is_gold)
            .values(open_slots=open_slots(campaign_id), position=next_position(campaign_id))
        )


def return_leases(session: Session, campaign_id: int, assignment_ids: Sequence[int]) -> None:
    """Give open leases back, drafts kept. The people who had them get them again first, if nobody took the slot."""
    if not assignment_ids:
        return
    returned = session.execute(
        update(ASSIGNMENTS)
        .where(ASSIGNMENTS.c.id.in_(assignment_ids), IS_LEASED)
        .values(state="returned")
        .returning(ASSIGNMENTS.c.campaign_pair_id, ASSIGNMENTS.c.kind)
    )
    put_back(session, campaign_id, [row.campaign_pair_id for row in returned if row.kind in HOLDING_KINDS])


def return_all(session: Session, campaign_id: int) -> None:
    """Give every open lease of a campaign back."""
    leased = select(ASSIGNMENTS.c.id).where(ASSIGNMENTS.c.campaign_id == campaign_id, IS_LEASED)
    return_leases(session, campaign_id, session.scalars(leased).all())


def sweep(session: Session, campaign_id: int, now: datetime) -> None:
    """Give back leases whose time is over, the oldest first, at most `SWEEP` of them."""
    return_leases(session, campaign_id, session.scalars(_EXPIRED, {"campaign": campaign_id, "now": now}).all())
