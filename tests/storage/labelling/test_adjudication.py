"""Pairs in disagreement, decisions of leads, gold pairs, and the totals that have to follow them."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

import pytest

from storage import Database, NotInStoreError
from storage.accounts.users import add_user
from storage.campaigns.campaign import Gold, set_status
from storage.campaigns.guidelines import DEFAULT_GUIDELINES, Guidelines, revise_guidelines
from storage.campaigns.label_schema import Answer
from storage.campaigns.members import members
from storage.campaigns.progress import guideline_versions, labels_per_day, progress
from storage.errors import AnswerError, CampaignError
from storage.labelling.adjudication import adjudicate, disputed
from storage.labelling.gold import gold_choices, known_answers, set_gold
from storage.labelling.labels import labels_of_pair, revisions
from storage.labelling.totals import differences
from tests.helpers.labelling import Team, answer, flag, label_next, make_team, new_submission, save, take
from tests.helpers.opinions import opine


@pytest.fixture
def team(database: Database) -> Team:
    """Five pairs: agreed, disputed, agreed by two of three, disputed, unanimous tie."""
    team = make_team(database, pairs=5)
    opine(database, team, ["AAAA=", "ABAB=", "A=Bx="])
    return team


def lead_of(database: Database, name: str = "lead") -> int:
    with database.write() as session:
        return add_user(session, name, "lead").id


def decide(database: Database, team: Team, lead: int, place: int, said: Answer, submission: str = "") -> int:
    with database.write() as session:
        pair = team.pairs[place]
        return adjudicate(session, team.campaign.id, pair, lead, submission or new_submission(), said).id


def queue(database: Database, team: Team, **options: int) -> list[int]:
    """The places of the pairs that wait for a decision."""
    with database.read() as session:
        return [team.pairs.index(one.pair.id) for one in disputed(session, team.campaign.id, **options)]


def test_queue_holds_what_has_no_majority_until_a_lead_decides(database: Database, team: Team) -> None:
    waiting = queue(database, team)
    assert sorted(waiting) == [1, 3]
    with database.read() as session:
        first = disputed(session, team.campaign.id, limit=1)[0]
        assert sorted(str(label.choice) for label in first.labels) in (["A", "B", "tie"], ["A", "B", "both_bad"])
    assert queue(database, team, after=first.campaign_pair_id) == waiting[1:]
    decide(database, team, lead_of(database), waiting[0], answer("B"))
    assert queue(database, team) == waiting[1:]
    with database.read() as session:
        assert progress(session, team.campaign.id).disputed == 1
        assert differences(session, team.campaign.id) == []


def test_decision_is_saved_once_and_a_changed_mind_is_a_new_revision(database: Database, team: Team) -> None:
    lead = lead_of(database)
    first = decide(database, team, lead, 1, answer("B", note="B keeps the colour"), "form")
    assert decide(database, team, lead, 1, answer("B", note="B keeps the colour"), "form") == first
    with pytest.raises(AnswerError, match="sent before"):
        decide(database, team, lead, 1, answer("A"), "form")
    with pytest.raises(AnswerError, match="sent before"):
        decide(database, team, lead, 3, answer("B", note="B keeps the colour"), "form")
    second = decide(database, team, lead, 1, Answer(choice="both_bad"))
    with database.read() as session:
        mine = [one for one in revisions(session, team.pairs[1]) if one.annotator_id == lead]
        assert [(one.id, one.choice, one.replaces_id) for one in mine] == [(first, "B", None), (second, "both_bad", first)]
        current = labels_of_pair(session, team.campaign.id, team.pairs[1])
        assert [one.id for one in current if one.kind == "adjudication"] == [second]
        assert len(current) == 4
        assert differences(session, team.campaign.id) == []


def test_last_of_two_leads_counts_and_a_closed_campaign_can_be_decided(database: Database, team: Team) -> None:
    with database.write() as session:
        set_status(session, team.campaign.id, "closed")
    decide(database, team, lead_of(database), 3, answer("A"))
    decide(database, team, lead_of(database, "other lead"), 3, answer("B"))
    with database.read() as session:
        (one,) = gold_choices(session, team.campaign.id, "adjudicated")
        assert one.suggested == "B"
        assert one.pair.id == team.pairs[3]


def test_incomplete_decisions_and_foreign_pairs_are_refused(database: Database, team: Team) -> None:
    lead = lead_of(database)
    for said in (Answer(), Answer(choice="A"), flag(), Answer(choice="tie", strength="clearly")):
        with pytest.raises(AnswerError):
            decide(database, team, lead, 1, said)
    with pytest.raises(NotInStoreError), database.write() as session:
        adjudicate(session, team.campaign.id, 10**6, lead, new_submission(), answer("A"))
    assert sorted(queue(database, team)) == [1, 3]


def test_lists_to_choose_gold_from(database: Database, team: Team) -> None:
    with database.read() as session:
        unanimous = gold_choices(session, team.campaign.id, "unanimous")
        assert {team.pairs.index(one.pair.id): (one.suggested, one.summary) for one in unanimous} == {
            0: ("A", "3 A"),
            4: ("tie", "3 tie"),
        }
        first, *others = gold_choices(session, team.campaign.id, "all", limit=5)
        assert len(others) == 4
        assert gold_choices(session, team.campaign.id, "all", after=first.campaign_pair_id)[0] == others[0]
        with pytest.raises(CampaignError):
            gold_choices(session, team.campaign.id, "best")  # type: ignore[arg-type]


def test_pair_becomes_gold_leaves_the_queue_and_comes_back(database: Database) -> None:
    team = make_team(database, pairs=2, people=2, overlap=2)
    with database.write() as session:
        set_gold(session, team.campaign.id, team.pairs[0], Gold("A", explanation="seen by all"))
        assert differences(session, team.campaign.id) == []
        assert known_answers(session, ["test"]) == {team.pairs[0]: Gold("A", explanation="seen by all")}
        (one,) = gold_choices(session, team.campaign.id, "gold")
        assert one.gold == Gold("A", explanation="seen by all")
        assert progress(session, team.campaign.id).gold == 1
    opine(database, team, ["AA", ".."])
    with database.write() as session:
        set_gold(session, team.campaign.id, team.pairs[0], None)
        assert differences(session, team.campaign.id) == []
        assert take(session, team, team.people[0]).pair.id == team.pairs[0]


def test_new_gold_answer_counts_for_those_who_answered_and_such_a_pair_stays_gold(database: Database) -> None:
    gold = {0: Gold("A", sub_scores={"A": {"camera": "2"}})}
    team = make_team(database, pairs=3, people=2, gold=gold, qualification_pairs=1, qualification_pass=0.0)
    with database.write() as session:
        for annotator, choice in zip(team.people, ("A", "B"), strict=True):
            assert label_next(session, team, annotator, answer(choice)).kind == "qualification"
        assert [member.gold_right for member in members(session, team.campaign.id)] == [1, 0]
        set_gold(session, team.campaign.id, team.pairs[0], Gold("B"))
        assert [member.gold_right for member in members(session, team.campaign.id)] == [0, 1]
        assert differences(session, team.campaign.id) == []
        assert gold_choices(session, team.campaign.id, "gold")[0].gold == Gold("B", sub_scores={"A": {"camera": "2"}})
        with pytest.raises(CampaignError, match="stays gold"):
            set_gold(session, team.campaign.id, team.pairs[0], None)


def test_lease_on_a_pair_that_becomes_gold_can_be_finished(database: Database) -> None:
    team = make_team(database, pairs=1, people=1, overlap=1)
    with database.write() as session:
        assignment = take(session, team, team.people[0])
        set_gold(session, team.campaign.id, team.pairs[0], Gold("A"))
        save(session, assignment, answer("A"))
        assert differences(session, team.campaign.id) == []


def test_labels_a_day(database: Database) -> None:
    team, today = make_team(database, pairs=4, people=2, overlap=2), datetime(2026, 3, 10, 15, tzinfo=timezone.utc)
    other = None
    for days, number in ((40, 1), (3, 2), (1, 1), (0, 3)):
        for _ in range(number):
            with database.write() as session:
                other = label_next(session, team, team.people[0 if days else 1], now=today - timedelta(days=days))
    assert other is not None
    with database.read() as session:
        counts = labels_per_day(session, team.campaign.id, days=5, now=today)
        assert [number for _, number in counts] == [0, 2, 0, 1, 3]
        assert counts[-1][0] == today.date()
        assert labels_per_day(session, team.campaign.id + 1, days=5, now=today)[-1][1] == 0


def test_versions_of_guidelines_say_who_wrote_them(database: Database) -> None:
    team, lead = make_team(database, pairs=1), lead_of(database)
    with database.write() as session:
        changed = Guidelines("Look twice.", DEFAULT_GUIDELINES.dimensions)
        assert revise_guidelines(session, team.campaign.id, changed, lead) == 2
        found = guideline_versions(session, team.campaign.id)
    assert [(one.version, one.author) for one in found] == [(2, "lead"), (1, None)]
