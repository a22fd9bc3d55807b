"""Adding a revision: the label, the state of its turn, and the running totals, all in one transaction."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from sqlalchemy import Row, bindparam, func, insert, select, update

from storage.campaigns.campaign import VISIBLE, Campaign
from storage.errors import AnswerError
from storage.labelling import totals as tallies
from storage.labelling.assignments import FINISHED, drop_draft
from storage.labelling.labels import LABELS_WITH_ASSIGNMENTS, Label, as_label
from storage.labelling.totals import Place
from storage.sql import ASSIGNMENTS, LABELS, PAIRS, PLACES, VIDEOS

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from storage.campaigns.label_schema import Answer
    from storage.labelling.pair_totals import Entry
    from storage.schema import Action, AssignmentState, PairState

LONGEST_SUBMISSION = 64
_VIDEO_A, _VIDEO_B = VIDEOS.alias("video_a"), VIDEOS.alias("video_b")
_LAST_LABEL = select(func.max(LABELS.c.id)).where(LABELS.c.assignment_id == ASSIGNMENTS.c.id).scalar_subquery()
_TURNS = (
    select(
        ASSIGNMENTS,
        PLACES.c.is_gold,
        PLACES.c.gold,
        PLACES.c.state.label("place_state"),
        PLACES.c.open_slots,
        _VIDEO_A.c.duration.label("duration_a"),
        _VIDEO_B.c.duration.label("duration_b"),
        _LAST_LABEL.label("last_label_id"),
    )
    .select_from(ASSIGNMENTS)
    .join(PLACES, PLACES.c.id == ASSIGNMENTS.c.campaign_pair_id)
    .join(PAIRS, PAIRS.c.id == ASSIGNMENTS.c.pair_id)
    .join(_VIDEO_A, _VIDEO_A.c.id == PAIRS.c.video_a_id)
    .join(_VIDEO_B, _VIDEO_B.c.id == PAIRS.c.video_b_id)
)
_TURN_BY_TOKEN = _TURNS.where(ASSIGNMENTS.c.token == bindparam("token"))
_SAVED_BEFORE = LABELS_WITH_ASSIGNMENTS.where(
    LABELS.c.annotator_id == bindparam("annotator"), LABELS.c.token == bindparam("submission")
)
_ADD_LABEL = insert(LABELS).returning(LABELS.c.id)
_CHANGED_COLUMNS = ("state", "seconds", "finished_at", "leased_at", "expires_at")
_CHANGE_TURN = (
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


def turn_row(session: Session, condition: Any) -> Row[Any]:
    """The assignment that the condition selects, with its pair's place in the campaign, the durations of its videos and
    its last revision.
    """
    return session.execute(_TURNS.where(condition)).one()


def turn_by_token(session: Session, token: str) -> Row[Any]:
    """As `turn_row`, for a token that is known to exist."""
    return session.execute(_TURN_BY_TOKEN, {"token": token}).one()


def saved_before(session: Session, annotator_id: int, submission: str) -> Label | None:
    """What this submission saved when it arrived before.

    Raises:
        AnswerError: no submission, or one that is too long.
    """
    if not 1 <= len(submission) <= LONGEST_SUBMISSION:
        raise AnswerError("The page sent no valid submission. Reload it.")
    row = session.execute(_SAVED_BEFORE, {"annotator": annotator_id, "submission": submission}).one_or_none()
    return None if row is None else as_label(row)


def record(session: Session, campaign: Campaign, turn: Row[Any], answer: Answer, submission: str, now: datetime) -> Label:
    """Add a revision to a turn, as of `turn_row`; the answer was checked, or is a withdrawal.

    The campaign has to be locked.
    """
    before = tallies.entries_of(session, turn.campaign_pair_id, turn.annotator_id)
    label = _insert(session, campaign, turn, answer, submission, now)
    state = _STATE_AFTER[answer.action]
    session.execute(_CHANGE_TURN, {"assignment": turn.id} | _turn_values(campaign, turn, answer, state, now))
    if state in FINISHED:
        drop_draft(session, turn.id)
    after = [_changed(entry, label, state) if entry.assignment_id == turn.id else entry for entry in before]
    gold_choice = turn.gold["choice"] if turn.gold else None
    place = Place(turn.campaign_pair_id, turn.is_gold, gold_choice, turn.place_state)
    tallies.apply(session, campaign, place, before, after, _pair_state(session, turn, state))
    return label


def _turn_values(
    campaign: Campaign, turn: Row[Any], answer: Answer, state: AssignmentState, now: datetime
) -> dict[str, Any]:
    values = {name: getattr(turn, name) for name in _CHANGED_COLUMNS} | {"state": state, "seconds": None}
    if state == "labelled" and turn.kind != "adjudication":
        values["seconds"] = answer.seconds
    if state == "leased":
        values["leased_at"] = now
        values["expires_at"] = now + timedelta(seconds=campaign.settings.lease_seconds)
    elif turn.state not in FINISHED:  # an edit keeps its place in the history
        values["finished_at"] = now
    return {f"new_{name}": value for name, value in values.items()}


def _insert(session: Session, campaign: Campaign, turn: Row[Any], answer: Answer, submission: str, now: datetime) -> Label:
    is_edit = turn.state in FINISHED
    values = {
        "campaign_id": campaign.id,
        "pair_id": turn.pair_id,
        "annotator_id": turn.annotator_id,
        "action": answer.action,
        "choice": answer.choice,
        "strength": answer.strength,
        "sub_scores": answer.sub_scores,
        "marks": list(answer.marks),
        "note": answer.note,
        "reason": answer.reason,
        "seconds": answer.seconds,
        "playback": answer.playback,
        "left_video": turn.left_video,
        "visible": list(campaign.settings.visible if turn.revealed_at is None else VISIBLE),
        "guideline_version": campaign.guideline_version if is_edit else turn.guideline_version,
        "replaces_id": turn.last_label_id,
        "created_at": now,
    }
    place = {"assignment_id": turn.id, "campaign_pair_id": turn.campaign_pair_id, "token": submission}
    label_id: int = session.execute(_ADD_LABEL, values | place).scalar_one()
    shown = values | {"marks": tuple(answer.marks), "visible": tuple(values["visible"])}
    return Label(id=label_id, turn=turn.token, kind=turn.kind, **shown)


def _changed(entry: Entry, label: Label, state: AssignmentState) -> Entry:
    if state != "labelled":
        return replace(entry, state=state, label_id=0, choice=None, sub_scores=None)
    return replace(entry, state=state, label_id=label.id, choice=label.choice, sub_scores=label.sub_scores)


def _pair_state(session: Session, turn: Row[Any], state: AssignmentState) -> PairState:
    """A flag takes a pair out of the queue until the lead decides; taking back the only flag brings it back."""
    current: PairState = turn.place_state
    if state == "flagged" and current == "open":
        return "flagged"
    if turn.state == "flagged" and state != "flagged" and current == "flagged":
        others = select(ASSIGNMENTS.c.id).where(
            ASSIGNMENTS.c.campaign_pair_id == turn.campaign_pair_id,
            ASSIGNMENTS.c.state == "flagged",
            ASSIGNMENTS.c.id != turn.id,
        )
        return current if session.scalar(others.limit(1)) is not None else "open"
    return current
