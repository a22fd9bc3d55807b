"""The buttons of a decision, and that an outcome is kept when the page is read."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from app.serving.serving import Serving
from app.train.decide import DecideReader, act_on_decision
from app.web.form_data import FormData, FormError
from storage import StorageError
from storage.accounts.users import User, add_user
from storage.campaigns.campaign import get_campaign
from storage.judgements import Question, save_judgement
from storage.labelling.assignments import Assignment
from storage.labelling.next_assignment import next_assignment
from storage.training.decide import decisions_of
from storage.training.model_registry import Checkpoint, get_checkpoint
from storage.training.runs import list_runs
from tests.helpers.labelling import NOW, answer, save
from tests.helpers.retraining import make_checkpoint
from tests.helpers.store_world import World, make_world
from tests.helpers.stores import RECORD, make_pair


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = make_world(tmp_path / "home", pairs=2)
    yield made
    made.database.close()


def test_from_judging_over_labels_to_a_kept_outcome(world: World) -> None:
    database, serving = world.database, Serving.open(world.database, None)
    with database.write() as session:
        lead, person = add_user(session, "Lea", "lead"), add_user(session, "decider", "annotator")
        candidate = make_checkpoint(session, "candidate", parent_id=world.base.id)
        pairs = [make_pair(session, f"{number} a", f"{number} b", f"new prompt {number}") for number in range(16)]
        for pair in pairs[:14]:
            for checkpoint, reward in ((candidate, 1.0), (world.base, -1.0)):
                for video, value in ((pair.video_a, reward), (pair.video_b, 0.0)):
                    question = Question(video.id, pair.prompt, checkpoint.fingerprint, "think")
                    save_judgement(session, question, replace(RECORD, reward=value))
    reader = DecideReader(database, serving)

    def now() -> Checkpoint:
        with database.read() as session:
            return get_checkpoint(session, candidate.id)

    def press(act: str, by: User = lead, **fields: str) -> str:
        return act_on_decision(database, serving, FormData(act, str(candidate.id), fields), by)

    summary = reader.read(now(), ())
    assert summary is not None
    assert summary.comparison is not None
    assert len(summary.comparison.differing) == 14
    unjudged = len(summary.comparison.unjudged)
    assert unjudged >= 2

    with pytest.raises(FormError, match="from 1 to"):
        press("decide_judge", pairs="0")
    assert "judge" in press("decide_judge", pairs=str(unjudged))
    with database.read() as session:
        judging = list_runs(session, kind="score")
    assert {run.parent_id for run in judging} == {candidate.id, world.base.id}
    assert all(len(run.request["pairs"]) == unjudged and run.request["modes"] == ["think"] for run in judging)
    summary = reader.read(now(), judging)
    assert summary is not None
    assert len(summary.judging) == 2

    with pytest.raises(StorageError, match="points"):
        press("decide_open", margin="0", people="1")
    assert press("decide_open", margin="3", people="1").startswith("14 pairs wait")
    assert press("decide_add") == "0 more pairs wait on the Label page."
    with pytest.raises(StorageError, match="already"):
        press("decide_open", margin="3", people="1")

    (decision,) = decisions_of(now())
    for _ in range(12):
        with database.write() as session:
            assignment = next_assignment(session, decision.campaign_id, person.id, NOW)
            assert isinstance(assignment, Assignment)
            save(session, assignment, answer("A"))
    summary = reader.read(now(), ())
    assert summary is not None
    assert summary.state is not None
    assert summary.state.look.outcome == "better"
    (kept,) = decisions_of(now())
    assert kept.recorded is not None
    assert kept.recorded == summary.state.decision.recorded
    with database.read() as session:
        assert get_campaign(session, decision.campaign_id).status == "paused"
    again = reader.read(now(), ())
    assert again is not None
    assert again.state == summary.state
    with pytest.raises(FormError):
        press("decide_add")
