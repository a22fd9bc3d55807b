"""Deciding with few labels: which pairs are asked, what their labels say, and how the outcome is kept."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import pytest

from storage import Database, StorageError
from storage.accounts.users import add_user
from storage.campaigns.campaign import get_campaign, set_status
from storage.judgements import Question, save_judgement
from storage.labelling.assignments import Assignment
from storage.labelling.consensus import consensus
from storage.labelling.next_assignment import next_assignment
from storage.maintenance.integrity import check_store
from storage.training.decide import (
    Decision,
    DecisionConfig,
    add_differing,
    decision_state,
    decisions_of,
    open_decision,
    record_outcome,
)
from storage.training.decide_pairs import MOST_LAYERS, compare_on, decision_pool, in_layers, judging_mode
from storage.training.model_registry import Checkpoint, get_checkpoint, promote, set_gate
from storage.training.runs import finish, mark_running
from tests.helpers.labelling import NOW, answer, make_team, save
from tests.helpers.retraining import add_run, let_say, make_checkpoint, serve_base, snapshot_of
from tests.helpers.stores import RECORD, make_pair

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from storage.pairs import Pair

GATE = {"verdict": "not shown to be better", "sentence": "Not shown to be better: too few pairs."}


@dataclass(frozen=True)
class Match:
    """A base that serves, a candidate that was trained on six labelled pairs, somebody who labels."""

    base: Checkpoint
    candidate: Checkpoint
    person: int


@pytest.fixture
def match(database: Database) -> Match:
    team = make_team(database, pairs=6, people=1, overlap=1)
    let_say(database, team, 0, "ABABAB")
    snapshot = snapshot_of(database, held_out_share=0.01)
    with database.write() as session:
        base = serve_base(session)
        run = add_run(session, base, snapshot)
        candidate = make_checkpoint(session, "candidate", parent_id=base.id, run_id=run.id)
        mark_running(session, run.id, 1, "here")
        finish(session, run.id, "finished", 0, candidate_id=candidate.id)
        set_gate(session, candidate.id, GATE)
        person = add_user(session, "decider", "annotator").id
    return Match(base, candidate, person)


def judge(session: Session, pair: Pair, checkpoint: Checkpoint, margin: float) -> None:
    """Keep rewards of both videos of a pair."""
    for video, reward in ((pair.video_a, margin), (pair.video_b, 0.0)):
        save_judgement(
            session, Question(video.id, pair.prompt, checkpoint.fingerprint, "think"), replace(RECORD, reward=reward)
        )


def judged_pairs(session: Session, match: Match, differing: int, agreeing: int = 0, name: str = "new") -> list[int]:
    """Pairs of new videos and prompts; on the first ones the candidate prefers A and the base B."""
    ids = []
    for index in range(differing + agreeing):
        pair = make_pair(session, f"{name} {index} a", f"{name} {index} b", f"{name} prompt {index}")
        judge(session, pair, match.candidate, 1.0)
        judge(session, pair, match.base, -1.0 if index < differing else 0.5)
        ids.append(pair.id)
    return ids


def opened(database: Database, match: Match, **config: float) -> Decision:
    with database.write() as session:
        return open_decision(session, match.candidate.id, match.base.id, DecisionConfig(**config), None)  # type: ignore[arg-type]


def give_labels(database: Database, match: Match, decision: Decision, choices: str) -> list[tuple[Assignment, int]]:
    """Let the person answer the next pairs of the campaign; returns the assignments and the ids of the labels."""
    given = []
    for letter in choices:
        with database.write() as session:
            assignment = next_assignment(session, decision.campaign_id, match.person, NOW)
            assert isinstance(assignment, Assignment)
            said = answer({"A": "A", "B": "B", "=": "tie"}[letter])  # type: ignore[arg-type]
            given.append((assignment, save(session, assignment, said).label.id))
    return given


def test_only_pairs_that_neither_was_trained_on_can_decide(database: Database, match: Match) -> None:
    with database.write() as session:
        fresh = judged_pairs(session, match, 2, 3)
        same_video = make_pair(session, "0a", "somebody new", "a prompt that nobody knows")
        same_prompt = make_pair(session, "new one", "new two")  # the prompt of the labelled pairs
        turned = make_pair(session, "new 0 b", "new 0 a", "new prompt 0")
        for pair in (same_video, same_prompt):
            judge(session, pair, match.candidate, 1.0)
            judge(session, pair, match.base, -1.0)
    with database.read() as session:
        pool = decision_pool(session, match.candidate, match.base)
        assert set(pool.pair_ids) == set(fresh)
        assert turned.id not in pool.pair_ids
        assert (pool.known_videos, pool.known_prompts, pool.from_elsewhere) == (1, 1, ())
        comparison = compare_on(session, pool, match.candidate, match.base)
        assert set(comparison.differing) == set(fresh[:2])
        assert {comparison.sides[pair_id] for pair_id in fresh[:2]} == {1}
        assert comparison.unjudged == ()
        # Of the base nothing was trained on here: only labels rule a pair out.
        assert len(decision_pool(session, match.base, match.base).pair_ids) == 7


def test_new_videos_come_first(database: Database) -> None:
    with database.write() as session:
        ids = [make_pair(session, "same", f"other {index}", f"prompt {index}").id for index in range(MOST_LAYERS + 3)]
        alone = make_pair(session, "x", "y", "a prompt of its own").id
        layers = in_layers(session, [*ids, alone])
    assert layers[0] == [ids[0], alone]
    assert [len(layer) for layer in layers] == [2, *[1] * (MOST_LAYERS - 2), 4]


def test_a_decision_asks_blindly_about_the_differing_pairs_and_keeps_its_outcome(database: Database, match: Match) -> None:
    with database.write() as session:
        judged_pairs(session, match, differing=20, agreeing=20)
    decision = opened(database, match)
    with database.read() as session:
        campaign = get_campaign(session, decision.campaign_id)
        assert (campaign.config.visible, campaign.config.dimensions, campaign.config.overlap) == ((), (), 1)
        assert campaign.config.name == "Decide: candidate"
        assert len(decision.differing) == 20
        state = decision_state(session, decision)
        assert (state.look.labels, state.unanswered, state.labels_left) == (0, 20, None)
    give_labels(database, match, decision, "A=AAB")
    with database.read() as session:
        state = decision_state(session, decision)
        assert (state.look.better, state.look.worse, state.look.ties, state.unanswered) == (3, 1, 1, 15)
        assert state.look.outcome is None
        assert state.labels_left
    with database.write() as session, pytest.raises(StorageError, match="nothing is decided"):
        record_outcome(session, match.candidate.id, state)
    give_labels(database, match, decision, "A" * 11)
    with database.write() as session:
        state = decision_state(session, decision)
        assert state.look.outcome == "better"
        assert state.look.better <= 14
        assert record_outcome(session, match.candidate.id, state)
        assert not record_outcome(session, match.candidate.id, state)
    with database.read() as session:
        gate = get_checkpoint(session, match.candidate.id).gate
        assert gate is not None
        assert gate["sentence"] == GATE["sentence"]
        (kept,) = decisions_of(get_checkpoint(session, match.candidate.id))
        assert kept.recorded is not None
        assert kept.recorded["outcome"] == "better"
        assert "people side with candidate" in kept.recorded["sentence"]
        assert get_campaign(session, decision.campaign_id).status == "paused"
        assert check_store(database) == ()


def test_an_edited_label_counts_as_it_stands_and_sides_are_frozen(database: Database, match: Match) -> None:
    with database.write() as session:
        judged_pairs(session, match, differing=8)
    decision = opened(database, match)
    first, label_id = give_labels(database, match, decision, "AAA")[0]
    with database.write() as session:
        save(session, first, answer("B"), edits=label_id)
        pair = first.pair
        judge(session, pair, replace(match.candidate, fingerprint="another"), -9.0)
    with database.read() as session:
        look = decision_state(session, decision).look
    assert (look.better, look.worse) == (2, 1)


def test_several_people_count_once_they_have_all_answered(database: Database, match: Match) -> None:
    with database.write() as session:
        judged_pairs(session, match, differing=4)
        others = [add_user(session, f"other {index}", "annotator").id for index in range(2)]
    decision = opened(database, match, people=3)
    give_labels(database, match, decision, "AAAA")
    with database.read() as session:
        assert decision_state(session, decision).look.labels == 0
    give_labels(database, replace(match, person=others[0]), decision, "BBBB")
    give_labels(database, replace(match, person=others[1]), decision, "B=BB")
    with database.read() as session:
        look = decision_state(session, decision).look
        assert len(consensus(session, [decision.campaign_id])) == 4
    # Where all three said something else, they side with neither.
    assert (look.better, look.worse, look.ties) == (0, 3, 1)


def test_pairs_that_are_judged_later_are_added(database: Database, match: Match) -> None:
    with database.write() as session:
        judged_pairs(session, match, differing=3, agreeing=2)
    decision = opened(database, match)
    give_labels(database, match, decision, "A")
    with database.write() as session:
        with pytest.raises(StorageError, match="already"):
            open_decision(session, match.candidate.id, match.base.id, DecisionConfig(), None)
        judged_pairs(session, match, differing=2, agreeing=5, name="later")
        assert add_differing(session, match.candidate.id, decision.campaign_id) == 2
        assert add_differing(session, match.candidate.id, decision.campaign_id) == 0
    with database.read() as session:
        (kept,) = decisions_of(get_checkpoint(session, match.candidate.id))
        state = decision_state(session, kept)
    assert (len(kept.sides), len(kept.differing), state.unanswered) == (12, 5, 4)


def test_what_cannot_be_decided_is_refused(database: Database, match: Match) -> None:
    with database.write() as session:
        judged_pairs(session, match, differing=0, agreeing=3)
        with pytest.raises(StorageError, match="prefer the same video on all 3"):
            open_decision(session, match.candidate.id, match.base.id, DecisionConfig(), None)
        with pytest.raises(StorageError, match="serves already"):
            open_decision(session, match.base.id, match.base.id, DecisionConfig(), None)
        with pytest.raises(StorageError, match="unknown"):
            add_differing(session, match.candidate.id, 1)
        written = replace(match.candidate, settings={"paradigm": "generative"})
        with pytest.raises(StorageError, match="gives no reward"):
            judging_mode(written)
        assert judging_mode(replace(written, settings={"paradigm": "discriminative"})) == "quick"
    for wrong in ({"margin": 0.0}, {"people": 0}):
        with pytest.raises(StorageError):
            DecisionConfig(**wrong)  # type: ignore[arg-type]


def test_a_closed_campaign_keeps_what_was_said(database: Database, match: Match) -> None:
    with database.write() as session:
        judged_pairs(session, match, differing=6)
    decision = opened(database, match)
    give_labels(database, match, decision, "AB")
    with database.write() as session:
        set_status(session, decision.campaign_id, "closed")
        promote(session, match.candidate.id, "promote")
    with database.read() as session:
        state = decision_state(session, decision)
    assert (state.status, state.look.labels) == ("closed", 2)
