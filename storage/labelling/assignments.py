"""Assignments: one pair given to one annotator, with its draft, lease and label.

The token is all that a browser knows of an assignment, and it only works together with the annotator's id from the server.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from sqlalchemy import Row, Select, bindparam, delete, select, update

from storage.campaigns.slots import IS_LEASED
from storage.errors import AnswerError, CampaignError, LeaseLostError, NotYoursError
from storage.labelling.labels import LABELS_WITH_ASSIGNMENTS, Label, as_label
from storage.pairs import Pair, get_pair
from storage.schema import AssignmentRow, AssignmentState, CampaignRow, Kind, PairRow, Side, utc_now
from storage.sql import ASSIGNMENTS, CAMPAIGNS, DRAFTS, LABELS, for_dialect, upsert

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

# How far back a person may undo, edit, and see what they did.
HISTORY = 10
LONGEST_DRAFT = 32_768
FINISHED = ("labelled", "skipped", "flagged")

_ASSIGNMENTS = select(ASSIGNMENTS, DRAFTS.c.content.label("draft")).outerjoin_from(
    ASSIGNMENTS, DRAFTS, DRAFTS.c.assignment_id == ASSIGNMENTS.c.id
)
_IS_OWN = (ASSIGNMENTS.c.token == bindparam("token"), ASSIGNMENTS.c.annotator_id == bindparam("annotator"))
_ASSIGNMENT_BY_ID = _ASSIGNMENTS.where(ASSIGNMENTS.c.id == bindparam("assignment"))
_OWN_ASSIGNMENT = _ASSIGNMENTS.where(*_IS_OWN)
_OWN_LEASE = (
    select(ASSIGNMENTS.c.id, ASSIGNMENTS.c.state, CAMPAIGNS.c.lease_seconds)
    .join(CAMPAIGNS, CAMPAIGNS.c.id == ASSIGNMENTS.c.campaign_id)
    .where(*_IS_OWN)
)
_LAST_LABEL = (
    LABELS_WITH_ASSIGNMENTS.where(LABELS.c.assignment_id == bindparam("assignment")).order_by(LABELS.c.id.desc()).limit(1)
)
_LATEST: Select[Any] = (
    select(ASSIGNMENTS.c.id, ASSIGNMENTS.c.state)
    .where(
        ASSIGNMENTS.c.campaign_id == bindparam("campaign"),
        ASSIGNMENTS.c.annotator_id == bindparam("annotator"),
        ASSIGNMENTS.c.finished_at.is_not(None),
        ASSIGNMENTS.c.kind.in_(("work", "repeat", "gold")),
    )
    .order_by(ASSIGNMENTS.c.finished_at.desc(), ASSIGNMENTS.c.id.desc())
    .limit(HISTORY)
)
_RENEW = (
    update(ASSIGNMENTS)
    .where(ASSIGNMENTS.c.id == bindparam("assignment"), IS_LEASED)
    .values(expires_at=bindparam("new_expires_at"))
    .returning(ASSIGNMENTS.c.id)
)
_PUT_DRAFT = upsert(DRAFTS, ("content", "updated_at"))
_DROP_DRAFT = delete(DRAFTS).where(DRAFTS.c.assignment_id == bindparam("assignment"))


@dataclass(frozen=True)
class Assignment:
    """A pair in somebody's hands, or one that they have finished.

    campaign_pair_id and kind stay on the server: nobody is told which pairs check them.

    Attributes:
        left_video: which of the pair's videos stands left for this person.
        revealed_at: when the model's view was first shown to them.
        draft: in the shape of `storage.campaigns.label_schema.as_shown`, any part may be missing.
        label: the revision in force, also a skip or a flag.
    """

    token: str
    campaign_id: int
    campaign_pair_id: int
    annotator_id: int
    kind: Kind
    pair: Pair
    left_video: Side
    state: AssignmentState
    guideline_version: int
    expires_at: datetime
    revealed_at: datetime | None
    draft: dict[str, Any] | None
    label: Label | None


def get_assignment(session: Session, token: str, annotator_id: int) -> Assignment:
    """Return an assignment of this person.

    Raises:
        NotYoursError: there is none of that token, or it is another's.
    """
    row = session.execute(_OWN_ASSIGNMENT, {"token": token, "annotator": annotator_id}).one_or_none()
    if row is None:
        raise not_yours()
    return _assignment(session, row)


def load_assignment(session: Session, assignment_id: int) -> Assignment:
    """Load an assignment by its id, for the other modules of this package."""
    return _assignment(session, session.execute(_ASSIGNMENT_BY_ID, {"assignment": assignment_id}).one())


def history(session: Session, campaign_id: int, annotator_id: int, limit: int = HISTORY) -> tuple[Assignment, ...]:
    """List the assignments that this person finished last and may still edit or undo, newest first."""
    ids = [row.id for row in latest(session, campaign_id, annotator_id) if row.state in FINISHED][:limit]
    rows = {row.id: row for row in session.execute(_ASSIGNMENTS.where(ASSIGNMENTS.c.id.in_(ids)))}
    # Read at once; `get_pair` then finds them in the session as long as they are held here.
    pairs = session.scalars(select(PairRow).where(PairRow.id.in_([row.pair_id for row in rows.values()]))).all()
    assignments = tuple(_assignment(session, rows[assignment_id]) for assignment_id in ids)
    del pairs
    return assignments


def latest(session: Session, campaign_id: int, annotator_id: int) -> Sequence[Row[Any]]:
    """id and state of the assignments that this person finished last, those taken back since too, newest first.

    Without those of the qualification, whose answers were shown.
    """
    return session.execute(_LATEST, {"campaign": campaign_id, "annotator": annotator_id}).all()


def save_draft(
    session: Session, token: str, annotator_id: int, content: Mapping[str, Any], now: datetime | None = None
) -> datetime:
    """Save a draft and renew the lease; return when the lease ends.

    Raises:
        NotYoursError: there is no assignment of that token, or it is another's.
        LeaseLostError: the assignment was finished or given back.
        AnswerError: the draft is no JSON, or too long.
    """
    draft = dict(content)
    try:
        length = len(json.dumps(draft, allow_nan=False))
    except (TypeError, ValueError) as error:
        raise AnswerError("the draft can't be stored") from error
    if length > LONGEST_DRAFT:
        raise AnswerError(f"the draft has {length} characters; at most {LONGEST_DRAFT} are kept")
    moment = now or utc_now()
    assignment_id, expires_at = _renew(session, token, annotator_id, moment)
    put_draft(session, assignment_id, draft, moment)
    return expires_at


def renew(session: Session, token: str, annotator_id: int, now: datetime | None = None) -> datetime:
    """Keep the lease of an assignment; returns when it ends.

    Raises:
        NotYoursError: there is no assignment of that token, or it is another's.
        LeaseLostError: the assignment was finished or given back.
    """
    return _renew(session, token, annotator_id, now or utc_now())[1]


def mark_revealed(session: Session, token: str, annotator_id: int, now: datetime | None = None) -> None:
    """Note that the model's view, or who made the videos, is shown to this person; later revisions say so.

    Raises:
        NotYoursError: there is no assignment of that token, or it is another's.
        CampaignError: it is not labelled yet, and the campaign is blind.
    """
    columns = (AssignmentRow.id, AssignmentRow.state, AssignmentRow.revealed_at, CampaignRow.visible)
    own = select(*columns).join(CampaignRow, CampaignRow.id == AssignmentRow.campaign_id)
    mine = (AssignmentRow.token == token, AssignmentRow.annotator_id == annotator_id)
    row = session.execute(own.where(*mine)).one_or_none()
    if row is None:
        raise not_yours()
    if row.revealed_at is not None:
        return
    if row.state != "labelled" and not row.visible:
        raise CampaignError("The model's view opens once your label is saved.")
    session.execute(update(ASSIGNMENTS).where(ASSIGNMENTS.c.id == row.id).values(revealed_at=now or utc_now()))


def put_draft(session: Session, assignment_id: int, content: Mapping[str, Any], now: datetime) -> None:
    """Write a draft over the former one."""
    values = {"assignment_id": assignment_id, "content": content, "updated_at": now}
    session.execute(for_dialect(session, _PUT_DRAFT), values)


def drop_draft(session: Session, assignment_id: int) -> None:
    """Forget a draft: it became a label."""
    session.execute(_DROP_DRAFT, {"assignment": assignment_id})


def not_yours() -> NotYoursError:
    """Make the error for an unknown token and for another person's: the same words for both."""
    return NotYoursError("This pair was not given to you. Go on with your next one.")


def lease_lost(state: AssignmentState) -> LeaseLostError:
    """Make the error for an assignment that can't be continued in this state."""
    if state in FINISHED:
        return LeaseLostError("This pair was saved already, maybe in another tab. Edit it in your history.")
    return LeaseLostError("You were away for long and this pair went back into the queue; your draft is kept.")


def _renew(session: Session, token: str, annotator_id: int, now: datetime) -> tuple[int, datetime]:
    row = session.execute(_OWN_LEASE, {"token": token, "annotator": annotator_id}).one_or_none()
    if row is None:
        raise not_yours()
    expires_at = now + timedelta(seconds=row.lease_seconds)
    # Asked again while writing: another transaction may give the lease back in between.
    renewed = session.execute(_RENEW, {"assignment": row.id, "new_expires_at": expires_at})
    if renewed.one_or_none() is None:
        raise lease_lost(row.state)
    return row.id, expires_at


def _assignment(session: Session, row: Row[Any]) -> Assignment:
    return Assignment(
        token=row.token,
        campaign_id=row.campaign_id,
        campaign_pair_id=row.campaign_pair_id,
        annotator_id=row.annotator_id,
        kind=row.kind,
        pair=get_pair(session, row.pair_id),
        left_video=row.left_video,
        state=row.state,
        guideline_version=row.guideline_version,
        expires_at=row.expires_at,
        revealed_at=row.revealed_at,
        draft=row.draft,
        label=_current(session, row.id) if row.state in FINISHED else None,
    )


def _current(session: Session, assignment_id: int) -> Label:
    return as_label(session.execute(_LAST_LABEL, {"assignment": assignment_id}).one())
