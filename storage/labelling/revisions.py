"""The one way to add a revision: label, state of its assignment and running totals, in one transaction."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from sqlalchemy import Row, bindparam, func, insert, select, update

from storage.campaigns.campaign import VISIBLE, Campaign
from storage.errors import AnswerError
from storage.labelling import totals
from storage.labelling.assignments import FINISHED, drop_draft
from storage.labelling.labels import LABELS_WITH_ASSIGNMENTS, Label, as_label
from storage.labelling.totals import CountedPair
from storage.sql import ASSIGNMENTS, CAMPAIGN_PAIRS, LABELS, PAIRS, VIDEOS

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from storage.campaigns.label_schema import Answer
    from storage.labelling.pair_totals import Entry
    from storage.schema import Action, AssignmentState, PairState

LONGEST_SUBMISSION = 64
_VIDEO_A, _VIDEO_B = VIDEOS.alias("video_a"), VIDEOS.alias("video_b")
_LAST_LABEL = select(func.max(LABELS.c.id)).where(LABELS.c.assignment_id == ASSIGNMENTS.c.id).scalar_subquery()
_ASSIGNMENTS = (
    select(
        ASSIGNMENTS,
        CAMPAIGN_PAIRS.c.is_gold,
        CAMPAIGN_PAIRS.c.gold,
        CAMPAIGN_PAIRS.c.state.label("pair_state"),
        CAMPAIGN_PAIRS.c.open_slots,
        _VIDEO_A.c.duration.label("duration_a"),
        _VIDEO_B.c.duration.label("duration_b"),
        _LAST_LABEL.label("last_label_id"),
    )
    .select_from(ASSIGNMENTS)
    .join(CAMPAIGN_PAIRS, CAMPAIGN_PAIRS.c.id == ASSIGNMENTS.c.campaign_pair_id)
    .join(PAIRS, PAIRS.c.id == ASSIGNMENTS.c.pair_id)
    .join(_VIDEO_A, _VIDEO_A.c.id == PAIRS.c.video_a_id)
    .join(_VIDEO_B, _VIDEO_B.c.id == PAIRS.c.video_b_id)
)
_ASSIGNMENT_BY_TOKEN = _ASSIGNMENTS.where(ASSIGNMENTS.c.token == bindparam("token"))
_SAVED_BEFORE = LABELS_WITH_ASSIGNMENTS.where(
    LABELS.c.annotator_id == bindparam("annotator"), LABELS.c.token == bindparam("submission")
)
_ADD_LABEL = insert(LABELS).returning(LABELS.c.id)
_CHANGED_COLUMNS = ("state", "seconds", "finished_at", "leased_at", "expires_at")
_CHANGE_ASSIGNMENT = (
    update(ASSIGNMENTS)
    .where(ASSIGNMENTS.c.id == bindparam("assignment"))
    .values({name: bindparam(f"new_{name}") for name in _CHANGED_COLUMNS})
)
_STATE_AFTER: dict[Action, AssignmentState] = {
    "label": "labelled",
    "skip": "skipped",
    "flag": "flagged",
    "withdraw": "leased",
}


def assignment_row(session: Session, condition: Any) -> Row[Any]:
    """Load the assignment that the condition selects, with its campaign pair, its videos' durations and last revision."""
    return session.execute(_ASSIGNMENTS.where(condition)).one()


def assignment_by_token(session: Session, token: str) -> Row[Any]:
    """As `assignment_row`, for a token that is known to exist."""
    return session.execute(_ASSIGNMENT_BY_TOKEN, {"token": token}).one()


def saved_before(session: Session, annotator_id: int, submission: str) -> Label | None:
    """Return the revision that this submission saved when it arrived before.

    Raises:
        AnswerError: no submission, or one that is too long.
    """
    if not 1 <= len(submission) <= LONGEST_SUBMISSION:
        raise AnswerError("The page sent no valid submission. Reload it.")
    row = session.execute(_SAVED_BEFORE, {"annotator": annotator_id, "submission": submission}).one_or_none()
    return None if row is None else as_label(row)


def record(
    session: Session,
    campaign: Campaign,
    assignment: Row[Any],
    answer: Answer,
    submission: str,
    now: datetime,
    visible: Sequence[str] | None = None,
) -> Label:
    """Add a revision to an assignment, as of `assignment_row`; the answer was checked, or is a withdrawal.

    The campaign has to be locked.

    Args:
        visible: what was open to the person; by default what the campaign opens, or all once it was revealed.
    """
    if visible is None:
        visible = campaign.config.visible if assignment.revealed_at is None else VISIBLE
    before = totals.entries_of(session, assignment.campaign_pair_id, assignment.annotator_id)
    label = _insert(session, campaign, assignment, answer, submission, now, visible)
    state = _STATE_AFTER[answer.action]
    session.execute(
        _CHANGE_ASSIGNMENT, {"assignment": assignment.id} | _assignment_values(campaign, assignment, answer, state, now)
    )
    if state in FINISHED:
        drop_draft(session, assignment.id)
    after = [_changed(entry, label, state) if entry.assignment_id == assignment.id else entry for entry in before]
    gold_choice = assignment.gold["choice"] if assignment.gold else None
    counted_pair = CountedPair(assignment.campaign_pair_id, assignment.is_gold, gold_choice, assignment.pair_state)
    totals.apply(session, campaign, counted_pair, before, after, _pair_state(session, assignment, state))
    return label


def _assignment_values(
    campaign: Campaign, assignment: Row[Any], answer: Answer, state: AssignmentState, now: datetime
) -> dict[str, Any]:
    values = {name: getattr(assignment, name) for name in _CHANGED_COLUMNS} | {"state": state, "seconds": None}
    if state == "labelled" and assignment.kind != "adjudication":
        values["seconds"] = answer.seconds
    if state == "leased":
        values["leased_at"] = now
        values["expires_at"] = now + timedelta(seconds=campaign.config.lease_seconds)
    elif assignment.state not in FINISHED:  # an edit keeps its place in the history
        values["finished_at"] = now
    return {f"new_{name}": value for name, value in values.items()}


def _insert(
    session: Session,
    campaign: Campaign,
    assignment: Row[Any],
    answer: Answer,
    submission: str,
    now: datetime,
    visible: Sequence[str],
) -> Label:
    is_edit = assignment.state in FINISHED
    values = {
        "campaign_id": campaign.id,
        "pair_id": assignment.pair_id,
        "annotator_id": assignment.annotator_id,
        "action": answer.action,
        "choice": answer.choice,
        "strength": answer.strength,
        "sub_scores": answer.sub_scores,
        "marks": list(answer.marks),
        "note": answer.note,
        "reason": answer.reason,
        "seconds": answer.seconds,
        "playback": answer.playback,
        "left_video": assignment.left_video,
        "visible": list(visible),
        "guideline_version": campaign.guideline_version if is_edit else assignment.guideline_version,
        "replaces_id": assignment.last_label_id,
        "created_at": now,
    }
    ids = {"assignment_id": assignment.id, "campaign_pair_id": assignment.campaign_pair_id, "token": submission}
    label_id: int = session.execute(_ADD_LABEL, values | ids).scalar_one()
    shown = values | {"marks": tuple(answer.marks), "visible": tuple(values["visible"])}
    return Label(id=label_id, assignment_token=assignment.token, kind=assignment.kind, **shown)


def _changed(entry: Entry, label: Label, state: AssignmentState) -> Entry:
    if state != "labelled":
        return replace(entry, state=state, label_id=0, choice=None, sub_scores=None)
    return replace(entry, state=state, label_id=label.id, choice=label.choice, sub_scores=label.sub_scores)


def _pair_state(session: Session, assignment: Row[Any], state: AssignmentState) -> PairState:
    """Decide the pair's state: a flag takes it out of the queue, taking back the only flag brings it back."""
    current: PairState = assignment.pair_state
    if state == "flagged" and current == "open":
        return "flagged"
    if assignment.state == "flagged" and state != "flagged" and current == "flagged":
        others = select(ASSIGNMENTS.c.id).where(
            ASSIGNMENTS.c.campaign_pair_id == assignment.campaign_pair_id,
            ASSIGNMENTS.c.state == "flagged",
            ASSIGNMENTS.c.id != assignment.id,
        )
        return current if session.scalar(others.limit(1)) is not None else "open"
    return current
