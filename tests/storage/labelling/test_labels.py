"""Saving, editing and taking back labels; what is refused; what is kept of each revision."""

from __future__ import annotations

from dataclasses import replace

import pytest
from sqlalchemy import text

from descore.answer import DIMENSIONS
from storage import Database, StorageError
from storage.campaigns.campaign import Gold, set_status
from storage.campaigns.guidelines import DEFAULT_GUIDELINES, revise_guidelines
from storage.campaigns.label_schema import as_shown
from storage.campaigns.members import member, set_paused
from storage.campaigns.progress import progress
from storage.errors import AnswerError, CampaignError, LeaseLostError, NotYoursError
from storage.labelling.assignments import get_assignment, history, mark_revealed, save_draft
from storage.labelling.labels import current_labels, labels_of_pair, revisions
from storage.labelling.submit import submit, undo
from storage.labelling.totals import differences
from tests.helpers.labelling import (
    FULL,
    NOW,
    Team,
    answer,
    flag,
    label_next,
    later,
    make_team,
    new_submission,
    save,
    skip,
    take,
    waiting,
)


def test_everything_that_was_said_is_kept(database: Database) -> None:
    team = make_team(database, dimensions=DIMENSIONS, visible=("rewards",))
    with database.write() as session:
        assignment = take(session, team, team.people[0])
        saved = save(session, assignment, FULL, later(minutes=1))
    label = saved.label
    assert saved.is_new
    assert saved.gold is None
    for name in ("action", "choice", "strength", "sub_scores", "marks", "note", "reason", "seconds", "playback"):
        assert getattr(label, name) == getattr(FULL, name), name
    assert (label.left_video, label.kind, label.assignment_token) == (assignment.left_video, "work", assignment.token)
    assert (label.visible, label.guideline_version, label.replaces_id) == (("rewards",), 1, None)
    assert label.created_at == later(minutes=1)
    with database.read() as session:
        assert revisions(session, assignment.pair.id) == (label,)
        assert labels_of_pair(session, team.campaign.id, assignment.pair.id) == (label,)
        assert list(current_labels(session, team.campaign.id)) == [label]
        assert get_assignment(session, assignment.token, assignment.annotator_id).label == label


def test_a_refused_answer_saves_nothing_and_the_assignment_goes_on(database: Database) -> None:
    team = make_team(database, dimensions=DIMENSIONS)
    with database.write() as session:
        assignment = take(session, team, team.people[0])
        save_draft(session, assignment.token, assignment.annotator_id, {"note": "kept"}, NOW)
    with pytest.raises(AnswerError), database.write() as session:
        save(session, assignment, answer())
    with database.write() as session:
        assert revisions(session, assignment.pair.id) == ()
        assert take(session, team, team.people[0]).draft == {"note": "kept"}
        with pytest.raises(AnswerError, match="no valid submission"):
            submit(session, assignment.token, assignment.annotator_id, "", FULL)


def test_the_same_submission_saves_once(database: Database) -> None:
    team = make_team(database)
    with database.write() as session:
        assignment = take(session, team, team.people[0])
        first = submit(session, assignment.token, assignment.annotator_id, "once", answer(seconds=3))
        again = submit(session, assignment.token, assignment.annotator_id, "once", answer(seconds=9))
        assert (first.is_new, again.is_new) == (True, False)
        assert again.label == first.label
        with pytest.raises(AnswerError, match="sent before"):
            submit(session, assignment.token, assignment.annotator_id, "once", answer("B"))
        other = take(session, team, team.people[0])
        with pytest.raises(AnswerError, match="sent before"):
            submit(session, other.token, assignment.annotator_id, "once", answer())
        theirs = take(session, team, team.people[1])
        assert submit(session, theirs.token, theirs.annotator_id, "once", answer()).is_new
        set_status(session, team.campaign.id, "closed")
        assert not submit(session, assignment.token, assignment.annotator_id, "once", answer()).is_new
        assert len(revisions(session, assignment.pair.id)) == 1 + (theirs.pair.id == assignment.pair.id)


def test_of_two_tabs_the_first_saves(database: Database) -> None:
    team = make_team(database)
    with database.write() as session:
        assignment = take(session, team, team.people[0])
        saved = save(session, assignment, answer("A"))
        with pytest.raises(LeaseLostError, match="saved already"):
            save(session, assignment, answer("B"))
        assert revisions(session, assignment.pair.id) == (saved.label,)


def test_nobody_labels_for_another(database: Database) -> None:
    team = make_team(database)
    with database.write() as session:
        assignment = take(session, team, team.people[0])
        for token in (assignment.token, "unknown"):
            with pytest.raises(NotYoursError):
                submit(session, token, team.people[1], new_submission(), answer())


def test_an_edit_is_a_revision_that_names_what_it_replaces(database: Database) -> None:
    team = make_team(database)
    person = team.people[0]
    with database.write() as session:
        assignment = take(session, team, person)
        first = save(session, assignment, answer("A", seconds=10)).label
        mark_revealed(session, assignment.token, person)
        revise_guidelines(session, team.campaign.id, replace(DEFAULT_GUIDELINES, intro="new"), None)
        second = save(session, assignment, answer("B", seconds=20), edits=first.id).label
        assert (second.replaces_id, second.guideline_version) == (first.id, 2)
        assert (first.visible, second.visible) == ((), ("generators", "thoughts", "rewards"))
        with pytest.raises(LeaseLostError, match="changed meanwhile"):
            save(session, assignment, answer("tie"), edits=first.id)
        assert revisions(session, assignment.pair.id) == (first, second)
        assert labels_of_pair(session, team.campaign.id, assignment.pair.id) == (second,)
        counted = member(session, team.campaign.id, person)
        assert counted is not None
        assert (counted.labels, counted.median_seconds) == (1, 20)
        assert progress(session, team.campaign.id).labels == 1
        assert differences(session, team.campaign.id) == []


def test_only_the_last_ten_are_edited(database: Database) -> None:
    team = make_team(database, pairs=11)
    with database.write() as session:
        assignments = [take(session, team, team.people[0])]
        labels = [save(session, assignments[0]).label]
        for minute in range(10):
            assignments.append(take(session, team, team.people[0]))
            labels.append(save(session, assignments[-1], now=later(minutes=minute + 1)).label)
        with pytest.raises(LeaseLostError, match="last 10"):
            save(session, assignments[0], answer("B"), edits=labels[0].id)
        assert save(session, assignments[1], answer("B"), edits=labels[1].id).is_new


def test_an_edit_may_become_a_skip_and_back(database: Database) -> None:
    team = make_team(database, pairs=1, people=2, overlap=1)
    first, second = team.people
    with database.write() as session:
        assignment = take(session, team, first)
        label = save(session, assignment).label
        assert waiting(session, team, second) == "finished"
        skipped = save(session, assignment, skip(), edits=label.id).label
        assert progress(session, team.campaign.id).labels == 0
        again = save(session, assignment, answer("B"), edits=skipped.id).label
        save(session, assignment, skip(), edits=again.id)
        theirs = take(session, team, second)
        newest = revisions(session, assignment.pair.id)[-1]
        with pytest.raises(LeaseLostError, match="Others have labelled"):
            save(session, assignment, answer("A"), edits=newest.id)
        save(session, theirs)
        assert differences(session, team.campaign.id) == []


def test_a_label_after_the_lease_counts_while_there_is_a_place(database: Database) -> None:
    team = make_team(database, pairs=1, people=3, overlap=1)
    first, second, third = team.people
    with database.write() as session:
        assignment = take(session, team, first)
        save(session, assignment, now=later(hours=2))
        undone = undo(session, team.campaign.id, first, new_submission(), later(hours=2))
        assert undone is not None
        assert take(session, team, second, later(hours=3)).pair.id == assignment.pair.id
        with pytest.raises(LeaseLostError, match="Others have labelled"):
            save(session, assignment, now=later(hours=3))
        assert waiting(session, team, third, later(hours=3)) == "finished"
        set_status(session, team.campaign.id, "closed")
        set_status(session, team.campaign.id, "open")
        assert get_assignment(session, assignment.token, first).state == "returned"
        assert save(session, assignment, now=later(hours=4)).is_new
        assert differences(session, team.campaign.id) == []


def test_undo_gives_the_pair_back_filled_in(database: Database) -> None:
    team = make_team(database)
    person = team.people[0]
    with database.write() as session:
        first = label_next(session, team, person, answer("A", note="wobbles", seconds=7))
        held = take(session, team, person)
        save_draft(session, held.token, person, {"note": "half"}, NOW)
        assignment = undo(session, team.campaign.id, person, "u1", later(minutes=1))
        assert assignment is not None
        assert (assignment.token, assignment.state, assignment.label) == (first.token, "leased", None)
        assert assignment.draft == as_shown(answer("A", note="wobbles", seconds=7), assignment.left_video)
        again = undo(session, team.campaign.id, person, "u1", later(minutes=1))
        assert again == assignment
        assert get_assignment(session, held.token, person).state == "returned"
        assert progress(session, team.campaign.id).labels == 0
        assert take(session, team, person).token == first.token
        said = revisions(session, first.pair.id)
        assert [one.action for one in said] == ["label", "withdraw"]
        assert said[1].replaces_id == said[0].id
        assert labels_of_pair(session, team.campaign.id, first.pair.id) == ()
        save(session, assignment, answer("B"))
        assert [one.action for one in revisions(session, first.pair.id)] == ["label", "withdraw", "label"]
        back = take(session, team, person)
        assert (back.token, back.draft) == (held.token, {"note": "half"})
        assert differences(session, team.campaign.id) == []


def test_undo_goes_back_ten_steps_and_the_pairs_come_again_in_their_order(database: Database) -> None:
    team = make_team(database, pairs=12, people=1)
    (person,) = team.people
    with database.write() as session:
        assignments = [label_next(session, team, person, now=later(minutes=minute)) for minute in range(12)]
        undone = []
        while (assignment := undo(session, team.campaign.id, person, new_submission(), later(hours=1))) is not None:
            undone.append(assignment.token)
        assert undone == [assignment.token for assignment in reversed(assignments[2:])]
        assert progress(session, team.campaign.id).labels == 2
        assert history(session, team.campaign.id, person) == ()
        again = [label_next(session, team, person, now=later(hours=1, minutes=minute)).token for minute in range(10)]
        assert again == [assignment.token for assignment in assignments[2:]]
        assert differences(session, team.campaign.id) == []


def test_undo_of_a_skip_needs_a_place(database: Database) -> None:
    team = make_team(database, pairs=2, people=2, overlap=1)
    first, second = team.people
    with database.write() as session:
        label_next(session, team, first, skip())
        assignment = undo(session, team.campaign.id, first, new_submission())
        assert assignment is not None
        assert assignment.draft is not None
        assert (assignment.draft["action"], assignment.draft["reason"]) == ("skip", "too fast")
        save(session, assignment, skip("blurred"))
        label_next(session, team, second)
        label_next(session, team, second)
        with pytest.raises(LeaseLostError):
            undo(session, team.campaign.id, first, new_submission())
        assert differences(session, team.campaign.id) == []


def test_undo_of_the_only_flag_puts_the_pair_back(database: Database) -> None:
    team = make_team(database, pairs=1, people=2)
    first, second = team.people
    with database.write() as session:
        label_next(session, team, first, flag())
        assert waiting(session, team, second) == "finished"
        assignment = undo(session, team.campaign.id, first, new_submission())
        assert assignment is not None
        assert progress(session, team.campaign.id).flagged == 0
        assert take(session, team, second).pair.id == assignment.pair.id
        save(session, assignment)
        assert differences(session, team.campaign.id) == []


def test_nothing_to_undo_and_nothing_when_closed(database: Database) -> None:
    team = make_team(database)
    person = team.people[0]
    with database.write() as session:
        assert undo(session, team.campaign.id, person, new_submission()) is None
        saved = save(session, take(session, team, person)).label
        with pytest.raises(AnswerError):
            undo(session, team.campaign.id, person, "")
        set_paused(session, team.campaign.id, person, True)
        assignment = undo(session, team.campaign.id, person, new_submission())
        assert assignment is not None
        label = save(session, assignment).label
        assert label.replaces_id != saved.id
        set_status(session, team.campaign.id, "closed")
        with pytest.raises(CampaignError, match="closed"):
            undo(session, team.campaign.id, person, new_submission())
        with pytest.raises(CampaignError, match="closed"):
            save(session, assignment, answer("B"), edits=label.id)


def test_qualification_answers_stay(database: Database) -> None:
    team = make_team(database, gold={0: Gold("A"), 1: Gold("A")}, qualification_pairs=2)
    person = team.people[0]
    with database.write() as session:
        assignment = take(session, team, person)
        label = save(session, assignment).label
        assert undo(session, team.campaign.id, person, new_submission()) is None
        assert history(session, team.campaign.id, person) == ()
        with pytest.raises(CampaignError, match="shown"):
            save(session, assignment, answer("B"), edits=label.id)


def test_gold_and_repeats_are_undone_like_work(database: Database) -> None:
    team = make_team(database, pairs=20, people=1, overlap=1, gold={0: Gold("A"), 1: Gold("A")}, repeat_share=0.4)
    (person,) = team.people
    with database.write() as session:
        session.execute(text("UPDATE campaigns SET gold_share = 0.4"))
        seen: set[str] = set()
        for minute in range(40):
            assignment = label_next(session, team, person, answer("B"), later(minutes=minute))
            if assignment.kind not in seen:
                seen.add(assignment.kind)
                undone = undo(session, team.campaign.id, person, new_submission(), later(minutes=minute))
                assert undone is not None
                assert (undone.token, undone.kind) == (assignment.token, assignment.kind)
                assert differences(session, team.campaign.id) == []
                save(session, undone, answer("A"), later(minutes=minute))
            if seen == {"work", "gold", "repeat"}:
                break
        assert seen == {"work", "gold", "repeat"}
        counted = member(session, team.campaign.id, person)
        assert counted is not None
        assert counted.gold_right >= 1
        assert differences(session, team.campaign.id) == []


def test_the_database_itself_keeps_labels_as_they_are(database: Database) -> None:
    team = make_team(database)
    with database.write() as session:
        label_next(session, team, team.people[0])
    for statement in ("UPDATE labels SET note = 'x'", "DELETE FROM labels"):
        with pytest.raises(StorageError, match="append-only"), database.write() as session:
            session.execute(text(statement))


def test_withdrawn_labels_are_in_no_list(database: Database) -> None:
    team: Team = make_team(database, pairs=3, people=2)
    first, second = team.people
    with database.write() as session:
        label_next(session, team, first)
        label_next(session, team, second)
        label_next(session, team, second, skip())
        undo(session, team.campaign.id, first, new_submission())
        assert [label.annotator_id for label in current_labels(session, team.campaign.id)] == [second]
