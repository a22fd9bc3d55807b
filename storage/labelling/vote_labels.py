"""Votes of the Judge page as labels of a campaign of their own, which counts once a lead says so.

The campaign is made with the first vote. Nobody is assigned there: an account votes under its name, a browser without one as
a visitor, who is never an account. A vote that replaces another is a new revision of the same label, or, where the sides had
changed places or the person has signed in since, takes the former label back and begins one of its own.
"""

from __future__ import annotations

import hashlib
import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sqlalchemy import case, func, select, update

from storage.accounts.users import VISITORS
from storage.accounts.visitors import visitor_of
from storage.campaigns import slots
from storage.campaigns.campaign import Campaign, campaign_from_outside, free_campaign_name, get_campaign, lock_campaign
from storage.campaigns.label_schema import Answer
from storage.errors import CampaignError
from storage.labelling.revisions import assignment_row, record
from storage.schema import AssignmentRow, CampaignPairRow, CampaignRow, LabelRow, Side, UserRow, VoteRow
from storage.sql import ASSIGNMENTS, CAMPAIGNS, insert_or_get

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

NAME = "votes on the Judge page"
# Of votes from before it was noted what stood on the page, or from programs: the model's answer may have been seen.
UNKNOWN = ("thoughts", "rewards")
# A label keeps its sides, so that a vote with the sides exchanged has an assignment of its own.
ROUNDS: dict[Side, int] = {"A": 0, "B": 1}


@dataclass(frozen=True)
class VotesSummary:
    """The votes of the Judge page that are in force.

    Attributes:
        campaign: their campaign.
        votes: one of each person on each pair.
        pairs: with a vote.
        people: accounts that voted.
        visitors: browsers without one.
    """

    campaign: Campaign
    votes: int
    pairs: int
    people: int
    visitors: int


def label_vote(session: Session, vote: VoteRow) -> None:
    """Save a vote that was just added as a label; the vote itself stays as it is."""
    campaign = lock_campaign(session, _campaign_id(session, vote))
    annotator_id = _annotator(session, vote)
    assignment_id = _assignment_id(session, campaign, vote, annotator_id)
    former = None if vote.replaces_id is None else session.get(VoteRow, vote.replaces_id)
    if former is not None:
        _take_back(session, campaign, former, assignment_id, vote)
    answer = Answer(choice=vote.choice, note=vote.note)
    assignment = assignment_row(session, ASSIGNMENTS.c.id == assignment_id)
    record(session, campaign, assignment, answer, vote.token, vote.created_at, visible=visible_at(vote.shown))


def label_votes(session: Session) -> int:
    """Save the votes that have no label yet, oldest first; return how many those were.

    A journal of an earlier version holds such votes. One that was replaced by a vote with a label is out of force for good.
    """
    labelled = select(LabelRow.token).join(CampaignRow, CampaignRow.id == LabelRow.campaign_id)
    tokens = set(session.scalars(labelled.where(CampaignRow.holds_votes)))
    todo, settled = list[VoteRow](), set[int]()
    for vote in session.scalars(select(VoteRow).order_by(VoteRow.id.desc())):
        if vote.token not in tokens and vote.id not in settled:
            todo.append(vote)
        elif vote.replaces_id is not None:
            settled.add(vote.replaces_id)
    for vote in reversed(todo):
        label_vote(session, vote)
    return len(todo)


def visible_at(shown: dict[str, Any] | None) -> tuple[str, ...]:
    """Return what of the model was open at a vote, in the words of a label, from the vote's own record of it."""
    if shown is None:
        return UNKNOWN
    if not shown:
        return ()
    return ("rewards",) if shown.get("mode") == "quick" else UNKNOWN


def votes_summary(session: Session) -> VotesSummary | None:
    """Count the votes in force; None before the first one."""
    campaign_id = session.scalar(select(CampaignRow.id).where(CampaignRow.holds_votes))
    if campaign_id is None:
        return None
    is_visitor = UserRow.issuer.is_not_distinct_from(VISITORS)
    counts = (
        select(
            func.count().label("votes"),
            func.count(AssignmentRow.pair_id.distinct()).label("pairs"),
            func.count(case((~is_visitor, UserRow.id)).distinct()).label("people"),
            func.count(case((is_visitor, UserRow.id)).distinct()).label("visitors"),
        )
        .select_from(AssignmentRow)
        .join(UserRow, UserRow.id == AssignmentRow.annotator_id)
        .where(AssignmentRow.campaign_id == campaign_id, AssignmentRow.state == "labelled")
        .where(AssignmentRow.kind == "import")
    )
    row = session.execute(counts).one()
    return VotesSummary(get_campaign(session, campaign_id), row.votes, row.pairs, row.people, row.visitors)


def set_counted(session: Session, campaign_id: int, counted: bool) -> None:
    """Let the votes take part in training, agreement and figures, or not.

    Raises:
        NotInStoreError: there is no such campaign.
        CampaignError: it does not hold the votes of the Judge page.
    """
    if not lock_campaign(session, campaign_id).holds_votes:
        raise CampaignError("only the votes of the Judge page can be left out; close a campaign to end it")
    session.execute(update(CAMPAIGNS).where(CAMPAIGNS.c.id == campaign_id).values(counted=counted))


def _campaign_id(session: Session, vote: VoteRow) -> int:
    """Find the campaign of the votes, or make it."""
    same = select(CampaignRow).where(CampaignRow.holds_votes)
    stored = session.scalars(same).one_or_none()
    if stored is not None:
        return stored.id
    row = campaign_from_outside(free_campaign_name(session, NAME), vote.created_at, visible=UNKNOWN)
    row.holds_votes, row.counted = True, False
    campaign_id = insert_or_get(session, row, same).id
    session.flush()
    return campaign_id


def _annotator(session: Session, vote: VoteRow) -> int:
    return visitor_of(session, vote.voter, vote.created_at).id if vote.user_id is None else vote.user_id


def _assignment_id(session: Session, campaign: Campaign, vote: VoteRow, annotator_id: int) -> int:
    """Find or make the assignment that a vote is a label of."""
    campaign_pair_id = _campaign_pair_id(session, campaign, vote.pair_id)
    mine = (
        AssignmentRow.campaign_pair_id == campaign_pair_id,
        AssignmentRow.annotator_id == annotator_id,
        AssignmentRow.round == ROUNDS[vote.left_video],
    )
    assignment_id = session.scalar(select(AssignmentRow.id).where(*mine))
    if assignment_id is not None:
        return assignment_id
    assignment = AssignmentRow(
        token=secrets.token_urlsafe(16),
        campaign_id=campaign.id,
        campaign_pair_id=campaign_pair_id,
        pair_id=vote.pair_id,
        annotator_id=annotator_id,
        kind="import",
        round=ROUNDS[vote.left_video],
        left_video=vote.left_video,
        state="returned",
        guideline_version=0,  # there are none
        leased_at=vote.created_at,
        expires_at=vote.created_at,
    )
    session.add(assignment)
    session.flush()
    return assignment.id


def _campaign_pair_id(session: Session, campaign: Campaign, pair_id: int) -> int:
    here = CampaignPairRow.campaign_id == campaign.id
    campaign_pair_id = session.scalar(select(CampaignPairRow.id).where(here, CampaignPairRow.pair_id == pair_id))
    if campaign_pair_id is not None:
        return campaign_pair_id
    last = session.scalar(select(func.max(CampaignPairRow.position)).where(here)) or 0
    row = CampaignPairRow(campaign_id=campaign.id, pair_id=pair_id, position=last + slots.SPACING, open_slots=1)
    session.add(row)
    session.flush()
    return row.id


def _take_back(session: Session, campaign: Campaign, former: VoteRow, assignment_id: int, vote: VoteRow) -> None:
    """Take the label of a replaced vote back, unless the vote becomes its next revision."""
    annotator_id = _annotator(session, former)
    theirs = (
        AssignmentRow.campaign_id == campaign.id,
        AssignmentRow.pair_id == former.pair_id,
        AssignmentRow.annotator_id == annotator_id,
        AssignmentRow.round == ROUNDS[former.left_video],
        AssignmentRow.state == "labelled",
    )
    former_id = session.scalar(select(AssignmentRow.id).where(*theirs))
    if former_id is None or former_id == assignment_id:
        return
    assignment = assignment_row(session, ASSIGNMENTS.c.id == former_id)
    submission = hashlib.sha256(f"taken back by {vote.token}".encode()).hexdigest()
    record(session, campaign, assignment, Answer(action="withdraw"), submission, vote.created_at)
    slots.return_leases(session, campaign.id, [former_id])
