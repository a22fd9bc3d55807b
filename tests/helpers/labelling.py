"""Campaigns, annotators and answers for tests of labelling."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any

from descore.answer import DIMENSIONS
from storage.accounts.users import add_user
from storage.campaigns.campaign import Campaign, CampaignConfig, Gold, create_campaign
from storage.campaigns.guidelines import DEFAULT_GUIDELINES
from storage.campaigns.label_schema import Answer
from storage.labelling.assignments import Assignment
from storage.labelling.next_assignment import NoAssignment, next_assignment
from storage.labelling.submit import Submitted, submit
from tests.helpers.stores import make_pair

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from storage import Database
    from storage.schema import Choice

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=timezone.utc)
SCORES = {video: dict.fromkeys(DIMENSIONS, "2") for video in ("A", "B")}
_submissions = itertools.count()
# A valid label where all sub-scores are asked.
FULL = Answer(
    choice="B",
    strength="slightly",
    sub_scores={"A": SCORES["A"] | {"style": "N/A"}, "B": SCORES["B"] | {"camera": "0"}},
    marks=({"video": "A", "time": 1.25}, {"video": "B", "time": 0.0}),
    note="the hand melts",
    seconds=41.5,
    playback={"A": {"watched": 1.0, "plays": 3}, "B": {"watched": 0.5, "plays": 1}},
)


@dataclass(frozen=True)
class Team:
    """A campaign with its annotators, by id, and its pairs, by id, in the order in which they were given."""

    campaign: Campaign
    people: tuple[int, ...]
    pairs: tuple[int, ...]


def make_team(
    database: Database, pairs: int = 6, people: int = 3, gold: dict[int, Gold] | None = None, **settings: Any
) -> Team:
    """A campaign that asks the overall preference alone; gold answers are given by place in the order of pairs."""
    chosen = {"name": "a campaign", "dimensions": (), "gold_share": 0.0, "repeat_share": 0.0} | settings
    with database.write() as session:
        ids = tuple(make_pair(session, f"{i}a", f"{i}b").id for i in range(pairs))
        team = tuple(add_user(session, f"annotator {i}", "annotator").id for i in range(people))
        answers = {ids[place]: answer for place, answer in (gold or {}).items()}
        campaign = create_campaign(session, CampaignConfig(**chosen), ids, DEFAULT_GUIDELINES, created_by=None, gold=answers)
    return Team(campaign, team, ids)


def answer(choice: Choice = "A", **fields: Any) -> Answer:
    """A valid label where no sub-scores are asked."""
    return Answer(choice=choice, strength="clearly" if choice in ("A", "B") else None, **fields)


def skip(reason: str = "too fast") -> Answer:
    """A skip with its reason."""
    return Answer(action="skip", reason=reason)


def flag(reason: str = "does not play") -> Answer:
    """A flag with its reason."""
    return Answer(action="flag", reason=reason)


def later(**spans: float) -> datetime:
    """A moment after `NOW`."""
    return NOW + timedelta(**spans)


def new_submission() -> str:
    """What no page has sent yet."""
    return f"s{next(_submissions)}"


def take(session: Session, team: Team, annotator: int, now: datetime = NOW) -> Assignment:
    """The next assignment of a person, who has to get one."""
    assignment = next_assignment(session, team.campaign.id, annotator, now)
    assert isinstance(assignment, Assignment), assignment
    return assignment


def waiting(session: Session, team: Team, annotator: int, now: datetime = NOW) -> str:
    """Why a person, who must not get an assignment, gets none."""
    found = next_assignment(session, team.campaign.id, annotator, now)
    assert isinstance(found, NoAssignment), found
    return found.reason


def save(
    session: Session, assignment: Assignment, said: Answer | None = None, now: datetime = NOW, **options: Any
) -> Submitted:
    """Submit an answer to an assignment."""
    return submit(session, assignment.token, assignment.annotator_id, new_submission(), said or answer(), now, **options)


def label_next(session: Session, team: Team, annotator: int, said: Answer | None = None, now: datetime = NOW) -> Assignment:
    """Take the next assignment and label it."""
    assignment = take(session, team, annotator, now)
    save(session, assignment, said, now)
    return assignment


def label_all(session: Session, team: Team, annotator: int, said: Answer | None = None) -> list[Assignment]:
    """Label everything that a person gets."""
    assignments = []
    while isinstance(assignment := next_assignment(session, team.campaign.id, annotator, NOW), Assignment):
        save(session, assignment, said)
        assignments.append(assignment)
    return assignments
