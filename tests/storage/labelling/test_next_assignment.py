"""Who gets which pair: leases, the queue, repeats, gold, qualification."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event, text

from storage import Database, open_database
from storage.campaigns.campaign import Gold
from storage.campaigns.members import member, members, readmit, set_paused
from storage.campaigns.progress import progress
from storage.errors import AnswerError, CampaignError, LeaseLostError, NotYoursError
from storage.labelling.assignments import get_assignment, history, mark_revealed, renew, save_draft
from storage.labelling.campaign_pairs import resolve_flag
from storage.labelling.queue import left_video
from storage.labelling.totals import differences
from storage.splits import stable_share
from tests.helpers.labelling import answer, flag, label_all, label_next, later, make_team, save, skip, take, waiting


def test_an_assignment_is_resumed_until_it_is_finished(database: Database) -> None:
    team = make_team(database)
    person = team.people[0]
    with database.write() as session:
        assignment = take(session, team, person)
        again = take(session, team, person, later(minutes=20))
        assert (again.token, again.pair.id, again.left_video) == (
            assignment.token,
            assignment.pair.id,
            assignment.left_video,
        )
        assert again.expires_at == later(minutes=50)
        save(session, assignment)
        assert take(session, team, person).token != assignment.token
        assert progress(session, team.campaign.id).leased == 1


def test_a_pair_goes_to_no_more_people_than_its_overlap(database: Database) -> None:
    team = make_team(database, pairs=4, people=5, overlap=2)
    with database.write() as session:
        assignments = [take(session, team, person) for person in team.people]
        assert max(Counter(assignment.pair.id for assignment in assignments).values()) == 2
        for assignment in assignments:
            save(session, assignment)
        for person in team.people:
            label_all(session, team, person)
        assert progress(session, team.campaign.id).finished == 4
        labels = session.execute(text("SELECT pair_id, count(*) FROM labels GROUP BY pair_id")).all()
    assert [count for _, count in labels] == [2, 2, 2, 2]


def test_somebody_elses_assignment_is_not_to_be_told_from_none(database: Database) -> None:
    team = make_team(database)
    with database.write() as session:
        assignment = take(session, team, team.people[0])
    messages = set()
    for token, person in ((assignment.token, team.people[1]), ("unknown", team.people[0])):
        for call in (get_assignment, renew, mark_revealed, lambda *given: save_draft(*given, {})):
            with pytest.raises(NotYoursError) as caught, database.write() as session:
                call(session, token, person)
            messages.add(str(caught.value))
    assert len(messages) == 1


def test_an_abandoned_lease_returns_and_others_meet_the_pair_next(database: Database) -> None:
    team = make_team(database, pairs=5, people=2, overlap=1)
    first, second = team.people
    with database.write() as session:
        left = take(session, team, first)
        label_next(session, team, second)
        label_next(session, team, second)
        assert take(session, team, second, later(minutes=29)).pair.id != left.pair.id
        save(session, take(session, team, second, later(minutes=29)))
        assert take(session, team, second, later(minutes=30)).pair.id == left.pair.id
        assert get_assignment(session, left.token, first).state == "returned"
        assert differences(session, team.campaign.id) == []


def test_what_was_given_back_comes_again_with_its_draft(database: Database) -> None:
    team = make_team(database, pairs=5, people=2, overlap=2)
    first, second = team.people
    draft = {"choice": "left", "note": "hands melt"}
    with database.write() as session:
        left = take(session, team, first)
        assert save_draft(session, left.token, first, draft, later(minutes=10)) == later(minutes=40)
        label_next(session, team, second, now=later(minutes=41))
        assert get_assignment(session, left.token, first).state == "returned"
        with pytest.raises(LeaseLostError, match="draft is kept"):
            save_draft(session, left.token, first, {}, later(minutes=42))
        with pytest.raises(LeaseLostError):
            renew(session, left.token, first, later(minutes=42))
        again = take(session, team, first, later(minutes=42))
        assert (again.token, again.state, again.draft) == (left.token, "leased", draft)
        save(session, again, now=later(minutes=43))
        assert get_assignment(session, left.token, first).draft is None
        with pytest.raises(LeaseLostError, match="another tab"):
            save_draft(session, left.token, first, draft, later(minutes=44))


def test_an_expired_lease_that_nobody_took_is_simply_renewed(database: Database) -> None:
    team = make_team(database)
    person = team.people[0]
    with database.write() as session:
        assignment = take(session, team, person)
        again = take(session, team, person, later(hours=5))
        assert (again.token, again.expires_at) == (assignment.token, later(hours=5, minutes=30))
        assert renew(session, assignment.token, person, later(hours=6)) == later(hours=6, minutes=30)


def test_a_draft_has_to_be_json_of_some_length(database: Database) -> None:
    team = make_team(database)
    person = team.people[0]
    with database.write() as session:
        assignment = take(session, team, person)
        for broken in ({"x": float("nan")}, {"x": object()}, {"x": "y" * 40_000}):
            with pytest.raises(AnswerError):
                save_draft(session, assignment.token, person, broken)
        save_draft(session, assignment.token, person, {"note": "é✓"})
        save_draft(session, assignment.token, person, {"note": "é✓✓"})
        assert get_assignment(session, assignment.token, person).draft == {"note": "é✓✓"}


def test_a_skipped_pair_goes_to_others_only(database: Database) -> None:
    team = make_team(database, pairs=3, people=3, overlap=1)
    first, second, third = team.people
    with database.write() as session:
        skipped = label_next(session, team, first, skip())
        seen = [label_next(session, team, first).pair.id for _ in range(2)]
        assert skipped.pair.id not in seen
        assert waiting(session, team, first) == "finished"
        assert take(session, team, second).pair.id == skipped.pair.id
        assert waiting(session, team, third) == "finished"


def test_a_place_that_opens_behind_somebody_is_met_by_them_next(database: Database) -> None:
    team = make_team(database, pairs=5, people=2, overlap=1)
    first, second = team.people
    with database.write() as session:
        skipped = take(session, team, first)
        label_next(session, team, second)
        save(session, skipped, skip())
        assert label_next(session, team, second).pair.id == skipped.pair.id
        edited = take(session, team, first)
        label_next(session, team, second)
        label = save(session, edited).label
        save(session, edited, skip(), edits=label.id)
        assert label_next(session, team, second).pair.id == edited.pair.id
        flagged = label_next(session, team, first, flag())
        assert waiting(session, team, second) == "finished"
        resolve_flag(session, team.campaign.id, flagged.pair.id, put_back=True)
        assert label_next(session, team, second).pair.id == flagged.pair.id
        assert waiting(session, team, first) == "finished"


def test_who_has_had_everything_need_not_be_looked_after_again(database: Database) -> None:
    team = make_team(database, pairs=3, people=1, overlap=2)
    with database.write() as session:
        label_all(session, team, team.people[0])
        session.execute(text("UPDATE members SET cursor_position = -1"))
        for _ in range(2):
            assert waiting(session, team, team.people[0]) == "finished"
            at_the_end = "SELECT cursor_position = (SELECT max(position) FROM campaign_pairs) FROM members"
            assert session.scalar(text(at_the_end))


def test_paused_people_finish_what_they_hold_and_get_nothing_new(database: Database) -> None:
    team = make_team(database)
    first, second, _ = team.people
    with database.write() as session:
        held = take(session, team, first)
        set_paused(session, team.campaign.id, first, True)
        assert take(session, team, first).token == held.token
        save(session, held)
        assert waiting(session, team, first) == "paused"
        take(session, team, second)
        set_paused(session, team.campaign.id, first, False)
        take(session, team, first)
        set_paused(session, team.campaign.id, first, True)
        assert waiting(session, team, first, later(days=1)) == "paused"
        assert progress(session, team.campaign.id).leased == 0


def test_the_left_video_is_fixed_for_a_person_and_even_over_pairs(database: Database) -> None:
    sides = [left_video(annotator, pair) for annotator in range(40) for pair in range(50)]
    assert 0.46 < sides.count("A") / len(sides) < 0.54
    assert left_video(3, 7) == left_video(3, 7)
    assert len({left_video(annotator, 7) for annotator in range(20)}) == 2
    team = make_team(database)
    with database.write() as session:
        assignment = take(session, team, team.people[0])
        assert assignment.left_video == left_video(team.people[0], assignment.pair.id)


@pytest.mark.slow
def test_repeats_come_later_with_the_sides_exchanged_and_once(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("storage.campaigns.campaign.secrets.token_hex", lambda _length: "always the same seed")
    team = make_team(database, pairs=60, people=1, repeat_share=0.3, overlap=1)
    (person,) = team.people
    with database.write() as session:
        assignments = label_all(session, team, person)
        counted = member(session, team.campaign.id, person)
        assert differences(session, team.campaign.id) == []
    work = {assignment.pair.id: place for place, assignment in enumerate(assignments) if assignment.kind == "work"}
    repeats = {assignment.pair.id: place for place, assignment in enumerate(assignments) if assignment.kind == "repeat"}
    assert len(work) == 60
    assert 12 <= len(repeats) <= 35
    assert len(assignments) == len(work) + len(repeats)
    for pair, place in repeats.items():
        assert place - work[pair] > 10
        assert assignments[place].left_video != assignments[work[pair]].left_video
    assert counted is not None
    assert (counted.labels, counted.repeat_total, counted.repeat_same) == (len(assignments), len(repeats), len(repeats))


def test_gold_pairs_are_strewn_in_and_take_no_slot(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("storage.campaigns.campaign.secrets.token_hex", lambda _length: "always the same seed")
    gold = {index: Gold("A") for index in range(5)}
    team = make_team(database, pairs=35, people=2, gold=gold, gold_share=0.2, overlap=1)
    with database.write() as session:
        assignments = [
            assignment
            for person, choice in zip(team.people, ("A", "B"), strict=True)
            for assignment in label_all(session, team, person, answer(choice))
        ]
        first, second = members(session, team.campaign.id)
        assert differences(session, team.campaign.id) == []
        assert progress(session, team.campaign.id).labels == 30
    kinds = Counter(assignment.kind for assignment in assignments)
    assert kinds["work"] == 30
    assert kinds["gold"] == first.gold_total + second.gold_total
    assert 1 <= first.gold_total <= 5
    assert (first.gold_right, second.gold_right) == (first.gold_total, 0)


def test_the_qualification_comes_first_with_feedback(database: Database) -> None:
    known = Gold("B", explanation="the dog is missing in A")
    gold = {0: known, 1: known, 2: known}
    team = make_team(database, gold=gold, qualification_pairs=2, qualification_pass=0.5)
    good, bad, _ = team.people
    with database.write() as session:
        for said, standing in ((answer("A"), "qualifying"), (answer("B"), "active")):
            assignment = take(session, team, good)
            assert assignment.kind == "qualification"
            assert save(session, assignment, said).gold == known
            counted = member(session, team.campaign.id, good)
            assert counted is not None
            assert counted.standing == standing
        assignment = take(session, team, good)
        assert assignment.kind == "work"
        assert save(session, assignment).gold is None
        for _ in range(2):
            label_next(session, team, bad, answer("tie"))
        assert waiting(session, team, bad) == "not qualified"
        readmit(session, team.campaign.id, bad)
        assert take(session, team, bad).kind == "work"
        with pytest.raises(CampaignError):
            readmit(session, team.campaign.id, good)
        assert differences(session, team.campaign.id) == []


def test_a_qualification_whose_pairs_are_skipped_is_decided_by_the_rest(database: Database) -> None:
    gold = {index: Gold("A") for index in range(2)}
    team = make_team(database, gold=gold, qualification_pairs=2)
    some, none, wrong = team.people
    with database.write() as session:
        label_next(session, team, wrong, skip())
        label_next(session, team, wrong, answer("B"))
        assert waiting(session, team, wrong) == "not qualified"
        label_next(session, team, some, skip())
        label_next(session, team, some, answer("A"))
        assert take(session, team, some).kind == "work"
        label_next(session, team, none, skip())
        label_next(session, team, none, skip())
        assert waiting(session, team, none) == "not qualified"


def test_the_model_is_shown_after_the_label_and_that_is_noted(database: Database) -> None:
    team = make_team(database)
    person = team.people[0]
    with database.write() as session:
        assignment = take(session, team, person)
        with pytest.raises(CampaignError, match="once your label is saved"):
            mark_revealed(session, assignment.token, person)
        save(session, assignment)
        mark_revealed(session, assignment.token, person, later(minutes=1))
        mark_revealed(session, assignment.token, person, later(minutes=2))
        assert get_assignment(session, assignment.token, person).revealed_at == later(minutes=1)


def test_the_history_is_what_was_finished_last(database: Database) -> None:
    team = make_team(database, pairs=14, people=1, overlap=1)
    (person,) = team.people
    with database.write() as session:
        assignments = [
            label_next(session, team, person, skip() if place % 3 == 0 else None, later(minutes=place))
            for place in range(12)
        ]
        take(session, team, person)
        found = history(session, team.campaign.id, person)
        assert [assignment.token for assignment in found] == [assignment.token for assignment in reversed(assignments[2:])]
        assert [assignment.token for assignment in history(session, team.campaign.id, person, limit=2)] == [
            assignment.token for assignment in found[:2]
        ]
        assert found[0].label is not None
        assert found[0].label.assignment_token == found[0].token
        assert {assignment.state for assignment in found} == {"labelled", "skipped"}


def test_stable_shares_are_spread_evenly() -> None:
    shares = [stable_share("seed", number) for number in range(4000)]
    assert all(0 <= share < 1 for share in shares)
    tenths = Counter(int(share * 10) for share in shares)
    assert min(tenths.values()) > 320
    assert stable_share("a", 1) == stable_share("a", 1) != stable_share("a1", "")


def _selects(database: Database, team: Any, person: int) -> list[tuple[str, Any]]:
    """The statements of one request for a pair and of its submit."""
    seen: list[tuple[str, Any]] = []

    @event.listens_for(database.engine, "before_cursor_execute")
    def note(_connection: Any, _cursor: Any, statement: str, parameters: Any, _context: Any, many: bool) -> None:
        seen.append((statement, parameters[0] if many else parameters))

    with database.write() as session:
        label_next(session, team, person)
    event.remove(database.engine, "before_cursor_execute", note)
    return [(statement, given) for statement, given in seen if statement.split()[0] in ("SELECT", "UPDATE", "DELETE")]


@pytest.mark.slow
def test_a_pair_costs_the_same_in_any_campaign(tmp_path: Path) -> None:
    database = open_database(home=tmp_path)
    team = make_team(database, pairs=40, gold={0: Gold("A")}, gold_share=0.4, repeat_share=0.4)
    with database.write() as session:
        for _ in range(15):
            label_next(session, team, team.people[0])
    statements = _selects(database, team, team.people[0]) + _selects(database, team, team.people[1])
    assert len(statements) <= 50
    plans = []
    with database.engine.connect() as connection:
        for statement, given in statements:
            steps = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", given)
            plans.append([str(step[3]) for step in steps])
    database.close()
    assert not [step for plan in plans for step in plan if step.startswith("SCAN")]
    queued = [plan for plan in plans if any("ix_campaign_pairs_queue" in step for step in plan)]
    assert len(queued) == 2
    assert not [step for plan in queued for step in plan if "TEMP B-TREE" in step]
