"""All pages count the same labels: the Label page, the Lead page with its annotators, the Train page."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import func, select

from storage.accounts.users import add_user, set_active
from storage.campaigns.campaign import CampaignConfig, Gold, create_campaign, list_campaigns
from storage.campaigns.guidelines import DEFAULT_GUIDELINES
from storage.campaigns.members import members
from storage.campaigns.progress import Progress, label_counts, progress
from storage.labelling.adjudication import adjudicate, disputed
from storage.labelling.assignments import get_assignment
from storage.labelling.campaign_pairs import resolve_flag, set_overlap
from storage.labelling.gold import set_gold
from storage.labelling.labels import current_labels
from storage.labelling.submit import submit, undo
from storage.labelling.vote_labels import set_counted, votes_summary
from storage.maintenance.integrity import check_store
from storage.schema import AssignmentRow, UserRow
from storage.training.new_labels import count_new_labels
from storage.training.snapshot_config import SnapshotConfig
from storage.votes import save_vote
from tests.helpers.labelling import NOW, Team, answer, flag, label_all, label_next, later, make_team, save, skip, take
from tests.helpers.stores import make_pair

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from storage import Database

START_OF_DAY = NOW - timedelta(hours=12)
CHECKS = {"gold_share": 0.3, "repeat_share": 0.3}


@pytest.fixture
def rich(sqlite_database: Database) -> Database:
    """Two campaigns in which everything happened that can happen to a label, a lead who labels and decides, a vote."""
    gold = {0: Gold("A"), 1: Gold("B")}
    team = make_team(sqlite_database, pairs=14, people=4, gold=gold, overlap=3, name="first", **CHECKS)
    campaign, (ada, ben, cleo, dora) = team.campaign.id, team.people
    with sqlite_database.write() as session:
        lead = add_user(session, "Lea", "lead").id
        others = [make_pair(session, f"x{number}", f"y{number}").id for number in range(4)]
        label_all(session, team, ada, answer("A"))
        label_next(session, team, ben, skip())
        resolve_flag(session, campaign, flag_work(session, team, ben), put_back=False)
        label_all(session, team, ben, answer("B"))
        for number in range(9):
            label_next(session, team, cleo, answer("tie" if number % 2 else "A"))
        label_next(session, team, dora)
        undo(session, campaign, dora, "taken back", NOW)
        again = label_next(session, team, dora)
        label = get_assignment(session, again.token, dora).label
        assert label is not None
        submit(session, again.token, dora, "changed", answer("B"), later(minutes=1), edits=label.id)
        label_next(session, team, lead, answer("tie"))
        for dispute in disputed(session, campaign)[:2]:
            adjudicate(session, campaign, dispute.pair.id, lead, f"decision {dispute.pair.id}", answer("B"), NOW)
        is_work = (AssignmentRow.campaign_id == campaign, AssignmentRow.annotator_id == cleo, AssignmentRow.kind == "work")
        set_gold(session, campaign, session.scalars(select(AssignmentRow.pair_id).where(*is_work)).first() or 0, Gold("A"))
        set_overlap(session, campaign, 2)
        set_active(session, ben, False)
        settings = CampaignConfig("second", (), overlap=1, gold_share=0.0, repeat_share=0.0)
        second = create_campaign(session, settings, others, DEFAULT_GUIDELINES, created_by=None)
        for _ in range(2):
            label_next(session, Team(second, team.people, tuple(others)), ada)
        save_vote(session, pair_id=others[0], choice="A", voter="browser", token="t")
    return sqlite_database


def flag_work(session: Session, team: Team, person: int) -> int:
    """Label what comes until it is a pair that others have labelled, flag that one and return its id."""
    while (assignment := take(session, team, person)).kind != "work":
        save(session, assignment)
    save(session, assignment, flag())
    return assignment.pair.id


def counts_of(database: Database) -> dict[str, Progress]:
    with database.read() as session:
        return {entry.config.name: progress(session, entry.id) for entry in list_campaigns(session)}


def test_the_store_has_labels_of_all_kinds(rich: Database) -> None:
    first = counts_of(rich)["first"]
    assert first.labels > first.given > 0
    assert min(first.checks, first.on_gold, first.on_dropped, first.dropped) > 0
    assert [one.left for one in counts_of(rich).values()] == [first.wanted - first.given, 2]
    assert check_store(rich) == ()


def test_a_campaigns_total_is_that_of_its_people_and_of_its_labels(rich: Database) -> None:
    for name, counts in counts_of(rich).items():
        with rich.read() as session:
            campaign = next(entry.id for entry in list_campaigns(session) if entry.config.name == name)
            people = members(session, campaign)
            labels = [label for label in current_labels(session, campaign) if label.kind != "adjudication"]
            assert counts.total == sum(one.labels for one in people) == len(labels)
            for one in people:  # what each of them reads on the Label page
                mine = label_counts(session, campaign, one.annotator.id, START_OF_DAY)
                assert mine.labels == mine.today == one.labels
                assert label_counts(session, campaign, one.annotator.id, later(days=1)).today == 0


def test_the_train_page_counts_what_the_lead_page_says_is_for_training(rich: Database) -> None:
    counts = counts_of(rich)
    with rich.write() as session:
        settings = SnapshotConfig(held_out_share=0.3)
        assert count_new_labels(session, settings, 0).labels == sum(one.for_training for one in counts.values())
        for name, one in counts.items():
            assert count_new_labels(session, SnapshotConfig(campaigns=(name,)), 0).labels == one.for_training
        votes = votes_summary(session)
        assert votes is not None
        set_counted(session, votes.campaign.id, True)
        with_votes = count_new_labels(session, settings, 0).labels
        assert with_votes == sum(one.for_training for one in counts.values()) + votes.votes
        assert progress(session, votes.campaign.id).total == votes.votes == 1


def test_decisions_of_a_lead_are_no_labels_of_today(rich: Database) -> None:
    with rich.read() as session:
        campaign = list_campaigns(session)[0].id
        lead = session.scalars(select(UserRow.id).where(UserRow.name == "Lea")).one()
        is_theirs = (AssignmentRow.annotator_id == lead, AssignmentRow.campaign_id == campaign)
        finished = session.scalar(select(func.count()).select_from(AssignmentRow).where(*is_theirs))
        mine = label_counts(session, campaign, lead, START_OF_DAY)
        assert (mine.labels, mine.today) == (1, 1)
        assert (finished or 0) > 1
