"""Saving a label, a skip or a flag; editing one; taking one back.

    answer = Answer(choice="A", strength="clearly", sub_scores=sub_scores)
    saved = submit(session, assignment.token, annotator.id, submission, answer)
    again = submit(session, assignment.token, annotator.id, submission, answer)      # a retry: is_new is False
    other = submit(session, assignment.token, annotator.id, another, other_answer, edits=saved.label.id)
    reopened = undo(session, campaign.id, annotator.id, yet_another)

`submission` is made by the page for each thing that it sends, so that retries and double clicks save once. Nothing is
changed in place: each of these adds a revision.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from sqlalchemy import Row, bindparam, select, update

from storage.campaigns import slots
from storage.campaigns.campaign import Campaign, Gold, lock_campaign
from storage.campaigns.label_schema import Answer, as_shown, checked, same_judgement
from storage.campaigns.slots import IS_LEASED, IS_UNDER_WAY
from storage.errors import AnswerError, CampaignError, LeaseLostError
from storage.labelling.assignments import (
    FINISHED,
    HISTORY,
    Assignment,
    latest,
    lease_lost,
    load_assignment,
    not_yours,
    put_draft,
)
from storage.labelling.labels import LABELS_WITH_ASSIGNMENTS, Label, as_label
from storage.labelling.next_assignment import standing_after
from storage.labelling.revisions import assignment_by_token, assignment_row, record, saved_before
from storage.schema import Action, utc_now
from storage.sql import ASSIGNMENTS, LABELS, MEMBERS

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

_CAMPAIGN_OF = select(ASSIGNMENTS.c.campaign_id).where(
    ASSIGNMENTS.c.token == bindparam("token"), ASSIGNMENTS.c.annotator_id == bindparam("annotator")
)
_HELD = select(ASSIGNMENTS.c.id).where(
    ASSIGNMENTS.c.campaign_id == bindparam("campaign"),
    ASSIGNMENTS.c.annotator_id == bindparam("annotator"),
    IS_UNDER_WAY,
    IS_LEASED,
)


@dataclass(frozen=True)
class Submitted:
    """What was saved.

    Attributes:
        is_new: False where the same submission had arrived before.
        gold: the known answer, as feedback, in the qualification only.
    """

    label: Label
    is_new: bool
    gold: Gold | None


def submit(
    session: Session,
    token: str,
    annotator_id: int,
    submission: str,
    answer: Answer,
    now: datetime | None = None,
    edits: int | None = None,
) -> Submitted:
    """Save the label of an assignment.

    A lease that ran out still counts as long as the pair needs the label.

    Args:
        submission: unique for each thing that the page sends; a retry repeats it.
        edits: the id of the revision that this one replaces, one of the person's last ten; None for a first answer.

    Raises:
        NotYoursError: there is no assignment of that token, or it is another's.
        LeaseLostError: the assignment was saved before, or others have labelled the pair meanwhile.
        AnswerError: the answer is not complete, or the submission was used for another one.
        CampaignError: the campaign is closed, or an answer of the qualification was to be changed.
    """
    now = now or utc_now()
    campaign = _locked_campaign_of(session, token, annotator_id)
    assignment = assignment_by_token(session, token)
    answer = checked(answer, campaign.config.dimensions, assignment.duration_a, assignment.duration_b)
    before = saved_before(session, annotator_id, submission)
    if before is not None:
        if before.assignment_token != token or not same_judgement(before, answer):
            raise _used_before()
        return Submitted(before, is_new=False, gold=_feedback(assignment, before))
    if campaign.status == "closed" and assignment.kind != "adjudication":
        raise CampaignError("This campaign is closed: nothing more is saved. Your draft is kept.")
    _check_order(session, assignment, edits)
    _check_slot(assignment, answer.action)
    label = record(session, campaign, assignment, answer, submission, now)
    if assignment.kind == "qualification" and answer.action == "label":
        _update_standing(session, campaign, annotator_id)
    return Submitted(label, is_new=True, gold=_feedback(assignment, label))


def undo(
    session: Session, campaign_id: int, annotator_id: int, submission: str, now: datetime | None = None
) -> Assignment | None:
    """Take back what this person finished last, out of the last ten, and give them the assignment again, filled in.

    Another assignment that they hold is put aside, draft kept, and comes back to them later. None where nothing can be taken
    back. The same submission again takes nothing more back.

    Raises:
        NotInStoreError: there is no such campaign.
        LeaseLostError: the pair was skipped, and others have taken its last slot meanwhile.
        CampaignError: the campaign is closed.
        AnswerError: the submission was used for a label.
    """
    now = now or utc_now()
    campaign = lock_campaign(session, campaign_id)
    before = saved_before(session, annotator_id, submission)
    if before is not None:
        if before.action != "withdraw" or before.campaign_id != campaign_id:
            raise _used_before()
        return load_assignment(session, assignment_by_token(session, before.assignment_token).id)
    if campaign.status == "closed":
        raise CampaignError("This campaign is closed: labels stay as they are.")
    finished = [row.id for row in latest(session, campaign_id, annotator_id) if row.state in FINISHED]
    if not finished:
        return None
    assignment = assignment_row(session, ASSIGNMENTS.c.id == finished[0])
    _check_slot(assignment, "withdraw")
    _put_aside(session, campaign_id, annotator_id)
    old = as_label(session.execute(LABELS_WITH_ASSIGNMENTS.where(LABELS.c.id == assignment.last_label_id)).one())
    record(session, campaign, assignment, Answer(action="withdraw"), submission, now)
    put_draft(session, assignment.id, as_shown(old, assignment.left_video), now)
    return load_assignment(session, assignment.id)


def _locked_campaign_of(session: Session, token: str, annotator_id: int) -> Campaign:
    campaign_id = session.scalar(_CAMPAIGN_OF, {"token": token, "annotator": annotator_id})
    if campaign_id is None:
        raise not_yours()
    return lock_campaign(session, campaign_id)


def _check_order(session: Session, assignment: Row[Any], edits: int | None) -> None:
    """Refuse a first answer to what is finished, and an edit of what is not, or of what was changed meanwhile."""
    if edits is None:
        if assignment.state in FINISHED:
            raise lease_lost(assignment.state)
        return
    if assignment.kind == "qualification":
        raise CampaignError("The answer to this pair was shown to you, so your label stays as it is.")
    if assignment.state not in FINISHED or assignment.last_label_id != edits:
        raise LeaseLostError("This label was changed meanwhile, maybe in another tab. Reload the page.")
    if assignment.kind == "adjudication":
        return
    if assignment.id not in [row.id for row in latest(session, assignment.campaign_id, assignment.annotator_id)]:
        raise LeaseLostError(f"Only your last {HISTORY} can be changed.")


def _check_slot(assignment: Row[Any], action: Action) -> None:
    """Refuse a label that needs one of the pair's slots when all are taken."""
    if (
        assignment.kind not in slots.HOLDING_KINDS
        or action in ("skip", "flag")
        or assignment.state in ("leased", "labelled")
    ):
        return
    if assignment.pair_state == "dropped":
        raise LeaseLostError("The lead has taken this pair out of the campaign. Go on with your next one.")
    if assignment.open_slots == 0:
        raise LeaseLostError("Others have labelled this pair meanwhile. Go on with your next one.")


def _put_aside(session: Session, campaign_id: int, annotator_id: int) -> None:
    held = session.scalars(_HELD, {"campaign": campaign_id, "annotator": annotator_id})
    slots.return_leases(session, campaign_id, held.all())


def _update_standing(session: Session, campaign: Campaign, annotator_id: int) -> None:
    same = (MEMBERS.c.campaign_id == campaign.id, MEMBERS.c.annotator_id == annotator_id)
    member = session.execute(select(MEMBERS).where(*same)).one()
    if member.standing == "qualifying":
        standing = standing_after(campaign.config, member.gold_total, member.gold_right)
        session.execute(update(MEMBERS).where(MEMBERS.c.id == member.id).values(standing=standing))


def _feedback(assignment: Row[Any], label: Label) -> Gold | None:
    if assignment.kind != "qualification" or label.action != "label" or assignment.gold is None:
        return None
    return Gold(**assignment.gold)


def _used_before() -> AnswerError:
    return AnswerError("This form was sent before with another answer. Reload the page.")
