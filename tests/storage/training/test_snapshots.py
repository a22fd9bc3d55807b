"""What a training takes from the labels, and what the page says is new."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event

from storage import Database, StorageError, open_database
from storage.accounts.users import add_user
from storage.campaigns.campaign import CampaignConfig, create_campaign
from storage.campaigns.guidelines import DEFAULT_GUIDELINES
from storage.campaigns.label_schema import Answer
from storage.campaigns.progress import progress
from storage.labelling.adjudication import adjudicate
from storage.labelling.assignments import Assignment
from storage.labelling.campaign_pairs import add_pairs
from storage.labelling.consensus import consensus
from storage.labelling.krippendorff import krippendorff_alpha
from storage.labelling.labels import revisions
from storage.labelling.next_assignment import next_assignment
from storage.labelling.submit import submit, undo
from storage.pairs import add_pair
from storage.training.model_registry import mark_deleted
from storage.training.new_labels import NewLabels, count_new_labels
from storage.training.runs import newest_trained_label
from storage.training.snapshot_config import SnapshotConfig, newest_label, pair_keys
from storage.training.snapshots import (
    LEAST_PROMPTS,
    Snapshot,
    SnapshotPair,
    held_out_by_in_use,
    make_snapshot,
    snapshot_hash,
    with_share_in_use,
)
from tests.helpers.labelling import NOW, SCORES, Team, label_all, make_team, new_submission
from tests.helpers.opinions import opine
from tests.helpers.retraining import add_run, held_out_pairs, let_say, make_checkpoint, serve_base, snapshot_of
from tests.helpers.stores import PROMPT, make_pair, make_video

SAID = "AB=x" * 10


def news(database: Database, since: int = 0, **settings: object) -> NewLabels:
    with database.read() as session:
        return count_new_labels(session, SnapshotConfig(**settings), since)  # type: ignore[arg-type]


def newest(database: Database) -> int:
    with database.read() as session:
        return newest_label(session)


def ids(snapshot: Snapshot, part: str) -> set[int]:
    return {pair.pair_id for pair in snapshot.pairs if pair.part == part}


def second_campaign(database: Database, team: Team, name: str, people: int = 1) -> Team:
    """The same pairs asked again, of others."""
    with database.write() as session:
        persons = tuple(add_user(session, f"{name} {i}", "annotator").id for i in range(people))
        settings = CampaignConfig(name=name, dimensions=(), gold_share=0.0, repeat_share=0.0, overlap=people)
        campaign = create_campaign(session, settings, team.pairs, DEFAULT_GUIDELINES, created_by=None)
    return Team(campaign, persons, team.pairs)


def test_labels_strengths_and_revisions_are_those_of_the_consensus(database: Database) -> None:
    team = make_team(database, pairs=4, people=3, dimensions=tuple(SCORES["A"]))
    said = [("A", "clearly"), ("A", "slightly"), ("B", "slightly")]
    with database.write() as session:
        for person, (choice, strength) in zip(team.people, said, strict=True):
            label_all(session, team, person, Answer(choice=choice, strength=strength, sub_scores=SCORES))  # type: ignore[arg-type]
    snapshot = snapshot_of(database)
    assert len(snapshot.pairs) == 4
    assert snapshot.counts["labels"] == 12
    assert snapshot.counts["annotators"] == 3
    with database.read() as session:
        common = {one.pair_id: one for one in consensus(session)}
        for pair in snapshot.pairs:
            assert (pair.label, pair.sub_scores) == (1, SCORES)
            assert pair.strength == pytest.approx(2 / 3)
            given = tuple(label.id for label in revisions(session, pair.pair_id))
            assert pair.label_ids == common[pair.pair_id].label_ids == given
            assert common[pair.pair_id].annotators == team.people
        assert snapshot.last_label_id == newest_label(session) == max(max(pair.label_ids) for pair in snapshot.pairs)


@pytest.mark.slow
def test_held_out_pairs_are_in_every_snapshot_and_never_trained_on(database: Database) -> None:
    team = make_team(database, pairs=40, people=2, overlap=2)
    kept = held_out_pairs(database, team)
    assert 2 < len(kept) < 20
    let_say(database, team, 0, SAID)
    first = snapshot_of(database)
    assert ids(first, "held_out") == kept
    assert ids(first, "new") == set(team.pairs) - kept
    since = newest(database)
    nothing = snapshot_of(database, since, incremental=True)
    assert ids(nothing, "held_out") == kept
    assert not ids(nothing, "new") | ids(nothing, "replay")
    assert ids(snapshot_of(database, held_out_share=0.4), "held_out") > kept


@pytest.mark.slow
def test_an_incremental_training_takes_what_is_new_and_replays_others_each_time(database: Database) -> None:
    team = make_team(database, pairs=40, people=2, overlap=2)
    kept = held_out_pairs(database, team)
    let_say(database, team, 0, SAID)
    since = newest(database)
    fresh = set(sorted(set(team.pairs) - kept)[:6])
    let_say(database, team, 1, "".join(SAID[i] if pair in fresh else "." for i, pair in enumerate(team.pairs)))
    some = snapshot_of(database, since, incremental=True)
    assert ids(some, "new") == fresh
    assert ids(some, "held_out") == kept
    assert len(ids(some, "replay")) == 6
    assert not ids(some, "replay") & (fresh | kept)
    assert some == snapshot_of(database, since, incremental=True)
    assert len(ids(snapshot_of(database, since, incremental=True, replay_share=0.75), "replay")) == 18
    assert len(ids(snapshot_of(database, since, incremental=True, replay_share=0.9), "replay")) == 40 - len(kept) - 6
    assert not ids(snapshot_of(database, since, incremental=True, replay_share=0.0), "replay")
    older = snapshot_of(database, since - 1, incremental=True)
    assert ids(older, "replay") != ids(some, "replay")
    assert ids(snapshot_of(database, since), "new") == set(team.pairs) - kept


def test_the_hash_stands_for_the_whole_content(database: Database) -> None:
    team = make_team(database, pairs=8, people=1, overlap=1)
    let_say(database, team, 0, "AB=xAB=x")
    snapshot = snapshot_of(database)
    assert snapshot_hash(snapshot.pairs[::-1]) == snapshot.sha256
    first: SnapshotPair = snapshot.pairs[0]
    changes = [{"label": 0 if first.label else 1}, {"part": "replay"}, {"strength": 1.5}, {"label_ids": (1, 2)}]
    changes += [{"sub_scores": {"A": {"camera": "0"}}}, {"pair_id": 77}]
    hashes = {snapshot_hash((replace(first, **change), *snapshot.pairs[1:])) for change in changes}  # type: ignore[arg-type]
    assert len(hashes | {snapshot.sha256, snapshot_hash(snapshot.pairs[1:])}) == len(changes) + 2


def test_an_edit_an_undo_and_a_decision_are_news_and_a_skip_is_not(database: Database) -> None:
    team = make_team(database, pairs=4, people=2, overlap=2, name="c")
    opine(database, team, ["AAAA", "AABB"])
    person = team.people[1]
    with database.write() as session:
        lead = add_user(session, "lead", "lead").id
    since = newest(database)
    assert news(database, since) == NewLabels(0, 0, 0, None, 0, 0, 0, 0, 2, 0, 0)
    with database.write() as session:
        adjudicate(session, team.campaign.id, team.pairs[3], lead, new_submission(), Answer(choice="tie"), NOW)
    found = news(database, since)
    assert (found.labels, found.pairs, found.total_pairs) == (0, 1, 3)
    (decided,) = (pair for pair in snapshot_of(database).pairs if max(pair.label_ids) > since)
    assert (decided.pair_id, decided.label, len(decided.label_ids)) == (team.pairs[3], 0, 3)
    since = newest(database)
    with database.write() as session:
        assignment = undo(session, team.campaign.id, person, new_submission(), NOW)
        assert isinstance(assignment, Assignment)
    taken_back = news(database, since)
    assert (taken_back.labels, taken_back.pairs + taken_back.without_majority) == (0, 1)
    since = newest(database)
    with database.write() as session:
        submit(session, assignment.token, person, new_submission(), Answer(action="skip", reason="dark"), NOW)
    assert news(database, since).pairs == 0 == news(database, since).without_majority


def test_pairs_with_too_few_labels_or_without_majority_are_told_apart(database: Database) -> None:
    team = make_team(database, pairs=4, people=3)
    opine(database, team, ["AAAA", "AB.B", "AB.A"])
    assert (news(database).pairs, news(database).without_majority, news(database).too_few) == (4, 0, 0)
    found = news(database, min_labels=2)
    assert (found.pairs, found.without_majority, found.too_few) == (3, 0, 1)
    assert len(snapshot_of(database, min_labels=2).pairs) == 3
    with database.write() as session:
        lead = add_user(session, "lead", "lead").id
        adjudicate(session, team.campaign.id, team.pairs[2], lead, new_submission(), Answer(choice="B", strength="clearly"))
    assert news(database, min_labels=2).pairs == 4 == len(snapshot_of(database, min_labels=2).pairs)


def test_pairs_on_which_campaigns_disagree_are_not_taken_for_others_without_news(database: Database) -> None:
    team = make_team(database, pairs=20, people=1, overlap=1, name="first")
    other = second_campaign(database, team, "second")
    opine(database, team, ["A" * 20])
    opine(database, other, ["B" * 20])
    found = news(database)
    assert (found.without_majority, found.total_pairs, found.held_out, found.compared) == (20, 20, 0, 0)


@pytest.mark.slow
def test_what_is_new_is_what_the_snapshot_then_takes(database: Database) -> None:
    """Random histories over two campaigns: the quick counts and the real selection agree."""
    choices = random.Random(5)
    team = make_team(database, pairs=30, people=3, name="first")
    other = second_campaign(database, team, "second", people=2)
    marks = [0]
    for _ in range(2):
        for some in (team, other):
            for person in choices.sample(some.people, 2):
                for _ in range(7):
                    with database.write() as session:
                        assignment = next_assignment(session, some.campaign.id, person, NOW)
                        if isinstance(assignment, Assignment):
                            choice = choices.choices(["A", "B", "tie"], [4, 2, 1])[0]
                            said = Answer(choice=choice, strength="clearly" if choice != "tie" else None)  # type: ignore[arg-type]
                            submit(session, assignment.token, person, new_submission(), said, NOW)
                if choices.random() < 0.5:
                    with database.write() as session:
                        undo(session, some.campaign.id, person, new_submission(), NOW)
        marks.append(newest(database))
    for since in (*marks, marks[1] // 2):
        for campaigns in ((), ("first",)):
            for least in (1, 2):
                found = news(database, since, campaigns=campaigns, min_labels=least)
                taken = snapshot_of(database, since, incremental=True, campaigns=campaigns, min_labels=least)
                counts = {part: len(ids(taken, part)) for part in ("new", "replay", "held_out")}
                assert (found.new, found.replay) == (counts["new"], counts["replay"]), (since, campaigns, least)
                assert found.pairs == found.new + found.held_out
                assert found.held_out <= counts["held_out"]
                if since == 0:
                    assert found.held_out == found.compared == counts["held_out"]
                    assert (found.labels, found.annotators) >= (taken.counts["labels"], taken.counts["annotators"])
                else:  # those without news are estimated by their share, which a few pairs can miss by far
                    assert found.held_out <= found.compared <= found.held_out + round(0.2 * found.total_pairs)


def test_the_agreement_on_what_is_new(database: Database) -> None:
    team = make_team(database, pairs=5, people=3)
    opine(database, team, ["AAAA.", "AABB.", "....."])
    since = newest(database)
    assert news(database, since).alpha_patterns is None
    with database.write() as session:
        lately = make_pair(session, "late a", "late b").id
        add_pairs(session, team.campaign.id, [lately])
    late = Team(team.campaign, team.people, (*team.pairs, lately))
    opine(database, late, [".....B", ".....B", "......"])
    found = news(database, since)
    assert (found.labels, found.annotators, found.pairs) == (2, 2, 1)
    assert found.alpha_patterns == {"0,2,0,0": 1}
    everything = news(database).alpha_patterns
    assert everything == {"0,2,0,0": 1, "1,1,0,0": 2, "2,0,0,0": 2}
    assert krippendorff_alpha(everything, "nominal").pairs == 5
    with database.read() as session:
        assert progress(session, team.campaign.id).labels == news(database).labels == 10


def test_the_same_videos_in_another_order_become_one_pair(database: Database) -> None:
    with database.write() as session:
        a, b = make_video(session, "one"), make_video(session, "two")
        pairs = tuple(add_pair(session, *sides, PROMPT, source="test").id for sides in ((a, b), (b, a)))
        people = tuple(add_user(session, f"p{i}", "annotator").id for i in range(2))
        settings = CampaignConfig(name="c", dimensions=(), overlap=2, gold_share=0.0, repeat_share=0.0)
        campaign = create_campaign(session, settings, pairs, DEFAULT_GUIDELINES, created_by=None)
    team = Team(campaign, people, pairs)
    let_say(database, team, 0, "AB")
    (pair,) = snapshot_of(database).pairs
    assert (pair.pair_id, pair.label, pair.strength, len(pair.label_ids)) == (pairs[0], 1, 2.0, 2)
    assert len(snapshot_of(database, min_labels=2).pairs) == 1
    assert not snapshot_of(database, min_labels=3).pairs
    let_say(database, team, 1, "BA")
    assert snapshot_of(database).pairs == ()


def test_campaigns_are_chosen_by_name(database: Database) -> None:
    team = make_team(database, pairs=6, people=1, overlap=1, name="first")
    other = second_campaign(database, team, "second")
    opine(database, team, ["AAAAAA"])
    opine(database, other, ["BBBBBB"])
    assert snapshot_of(database).pairs == ()
    assert news(database).without_majority == 6
    for name, label in (("first", 1), ("second", -1)):
        chosen = snapshot_of(database, campaigns=(name,))
        assert {pair.label for pair in chosen.pairs} == {label}
        assert len(chosen.pairs) == 6
        assert news(database, campaigns=(name,)).pairs == 6
    with pytest.raises(StorageError, match="no campaign third; there are first, second"):
        snapshot_of(database, campaigns=("third",))


def test_labels_of_campaigns_that_a_training_left_out_stay_new(database: Database) -> None:
    team = make_team(database, pairs=12, people=1, overlap=1, name="first")
    other = second_campaign(database, replace(team, pairs=team.pairs[6:]), "second")
    let_say(database, team, 0, "A" * 6 + "." * 6)
    opine(database, other, ["BBBBBB"])
    some, everything = snapshot_of(database, campaigns=("first",)), snapshot_of(database)
    assert some.last_label_id == 0
    assert everything.last_label_id == newest(database)
    assert news(database, some.last_label_id).pairs == 12


def test_what_a_checkpoint_could_know_is_not_new_to_it(database: Database) -> None:
    team = make_team(database, pairs=10, people=2, overlap=2)
    let_say(database, team, 0, "A" * 10)
    snapshot = snapshot_of(database)
    with database.write() as session:
        base = serve_base(session)
        run = add_run(session, base, snapshot)
        made = make_checkpoint(session, "made", run_id=run.id, parent_id=base.id)
    let_say(database, team, 1, "A" * 4 + "." * 6)
    with database.read() as session:
        since = {one.name: newest_trained_label(session, one.id) for one in (base, made)}
    assert news(database, since["made"]).labels == 4
    assert news(database, since["base"]).labels == 14


def test_what_is_new_is_found_without_going_through_all_labels(tmp_path: Path) -> None:
    database = open_database(home=tmp_path)
    team = make_team(database, pairs=4, people=2, overlap=2, name="c")
    opine(database, team, ["AAAA", "AABB"])
    asked: list[tuple[str, Any]] = []
    event.listen(database.engine, "before_cursor_execute", lambda *told: asked.append((told[2], told[3])))
    for campaigns in ((), ("c",)):
        assert news(database, newest(database) - 3, campaigns=campaigns).labels == 3
    with database.read() as session:
        selects = [
            (statement, values) for statement, values in asked if "FROM labels" in statement and "max" not in statement
        ]
        steps = [
            step[3]
            for statement, values in selects
            for step in session.connection().exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", values)
        ]
    assert len(selects) >= 4
    assert not [step for step in steps if step.startswith("SCAN labels")]
    database.close()


def test_settings_out_of_range_are_refused() -> None:
    for wrong in ({"held_out_share": 0.0}, {"held_out_share": 0.6}, {"replay_share": 0.95}, {"min_labels": 0}):
        with pytest.raises(StorageError):
            SnapshotConfig(**wrong)  # type: ignore[arg-type]


def prompt_pairs(database: Database, prompts: int, each: int = 1, shared: bool = False) -> Team:
    """A campaign of some pairs for each prompt; with `shared`, a pair's video B is another prompt's video A."""
    with database.write() as session:
        pairs = []
        for index in range(each * prompts):
            second = f"{(index + each) % (each * prompts)}a" if shared else f"{index}b"
            pairs.append(make_pair(session, f"{index}a", second, f"prompt {index // each}").id)
        people = tuple(add_user(session, f"annotator {index}", "annotator").id for index in range(2))
        config = CampaignConfig("prompts", dimensions=(), overlap=1, gold_share=0.0, repeat_share=0.0)
        campaign = create_campaign(session, config, pairs, DEFAULT_GUIDELINES, created_by=None)
    return Team(campaign, people, tuple(pairs))


def test_whole_prompts_are_held_out_and_none_of_their_videos_is_trained_on(database: Database) -> None:
    team = prompt_pairs(database, prompts=12, each=2, shared=True)
    let_say(database, team, 0, "AB" * 12)
    snapshot = snapshot_of(database, held_out_by="prompts")
    with database.read() as session:
        keys = pair_keys(session, [pair.pair_id for pair in snapshot.pairs])
    held, trained = (
        [keys[pair.pair_id] for pair in snapshot.pairs if (pair.part == "held_out") == out] for out in (True, False)
    )
    assert len({key.prompt for key in held}) * 2 == len(held)
    assert 2 <= len(held) <= 10
    assert {key.prompt for key in held}.isdisjoint(key.prompt for key in trained)
    videos = {content for key in held for content in (key.first, key.second)}
    assert all(videos.isdisjoint((key.first, key.second)) for key in trained)
    assert snapshot.counts["known_videos"] == 24 - len(held) - len(trained) > 0
    assert "known_videos" not in snapshot_of(database).counts
    with pytest.raises(StorageError, match="pairs or prompts"):
        SnapshotConfig(held_out_by="videos")  # type: ignore[arg-type]


def test_new_stores_hold_out_prompts_and_others_go_on_as_they_began(database: Database) -> None:
    team = prompt_pairs(database, prompts=LEAST_PROMPTS)
    let_say(database, team, 0, "A" * (LEAST_PROMPTS - 1) + ".")
    with database.read() as session:
        assert held_out_by_in_use(session) == "pairs"  # one prompt too few has an answer
    let_say(database, team, 1, "." * (LEAST_PROMPTS - 1) + "B")
    with database.write() as session:
        base = serve_base(session)
        assert held_out_by_in_use(session) == "prompts"
        config = with_share_in_use(session, SnapshotConfig())
        by_prompts = make_snapshot(session, config, 0, incremental=False)
        news = count_new_labels(session, config, 0)
        assert (news.held_out, news.new) == (by_prompts.counts["held_out"], by_prompts.counts["new"])
        by_pairs = make_snapshot(session, SnapshotConfig(), 0, incremental=False)
        made = make_checkpoint(session, "by pairs", run_id=add_run(session, base, by_pairs).id)
        assert held_out_by_in_use(session) == "pairs"
        with pytest.raises(StorageError, match="held-out pairs, not prompts"):
            add_run(session, base, by_prompts)
        assert mark_deleted(session, made.id).deleted_at is not None
        assert add_run(session, base, by_prompts).snapshot["held_out_by"] == "prompts"  # type: ignore[index]
