"""Runs that judge pairs of the store: what is asked, what is kept, what a bad video costs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from storage.analysis.judged_pairs import analysed_pairs
from storage.judgements import Question, find_judgement
from storage.pairs import get_pair
from tests.helpers.store_world import World, make_world
from tests.helpers.tiny import tiny_clip
from trainer.data.video_stats import measure
from trainer.engine.stop_signals import StopSignals
from trainer.evaluation import score_pairs as score_run
from trainer.evaluation.score_pairs import score
from trainer.runs.store_run import run_from_store

pytestmark = pytest.mark.training


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = make_world(tmp_path / "home", pairs=12)
    yield made
    made.database.close()


def analysed(world: World):
    with world.database.read() as session:
        return analysed_pairs(session, world.base.fingerprint)


def test_pairs_are_judged_in_both_modes_and_measured(world: World) -> None:
    run = world.ask_to_score()
    assert run_from_store(run.id, world.home) == 0
    done = world.run(run.id)
    assert done.state == "finished"
    assert done.message == "12 pairs: 12 judged, 0 were known"
    assert done.progress["done"] == done.progress["total"] == 12
    for pair in analysed(world):
        assert pair.think is not None
        assert pair.quick is not None
        assert None not in pair.video_stats
        facts = pair.video_stats[0]
        assert facts is not None
        assert facts.frames > 1
        assert facts.file_bytes > 500
        assert 0 < facts.brightness < 1
    # Asked again, everything is known, and the judge has nothing to do.
    again = world.ask_to_score()
    assert run_from_store(again.id, world.home) == 0
    assert world.run(again.id).message == "12 pairs: 0 judged, 12 were known"


def test_only_what_is_asked_is_judged_as_the_app_would(world: World) -> None:
    run = world.ask_to_score(sources=["two"], campaigns=[world.team.campaign.id], modes=["quick"])
    assert run_from_store(run.id, world.home) == 0
    assert [pair.quick is not None for pair in analysed(world)] == [False, True] * 6
    assert all(pair.think is None for pair in analysed(world))
    with world.database.read() as session:
        pair = get_pair(session, world.team.pairs[1])
        question = Question(pair.video_a.id, pair.prompt, world.base.fingerprint, "quick")
        stored = find_judgement(session, question)
    assert stored is not None
    assert stored.record.checkpoint == "tiny"
    assert stored.record.thought == ""


def test_pairs_can_be_named(world: World) -> None:
    named = list(world.team.pairs[3:5])
    run = world.ask_to_score(pairs=named, modes=["quick"])
    assert run_from_store(run.id, world.home) == 0
    assert world.run(run.id).message == "2 pairs: 2 judged, 0 were known"
    assert [pair.pair_id for pair in analysed(world) if pair.quick is not None] == named


def test_a_bad_video_costs_its_pairs_alone(world: World) -> None:
    with world.database.read() as session:
        broken = get_pair(session, world.team.pairs[0]).video_a
    (world.home / "videos" / broken.file).write_bytes(b"no video")
    run = world.ask_to_score(modes=["quick"])
    assert run_from_store(run.id, world.home) == 0
    missing = [pair for pair in analysed(world) if pair.quick is None]
    with world.database.read() as session:
        of_it = [
            pair_id
            for pair_id in world.team.pairs
            if broken.id in (get_pair(session, pair_id).video_a.id, get_pair(session, pair_id).video_b.id)
        ]
    assert [pair.pair_id for pair in missing] == of_it
    assert 0 < len(of_it) < 12
    assert f"{len(of_it)} could not be judged, such as pair {of_it[0]}" in world.run(run.id).message


def test_a_stopped_scoring_keeps_what_it_has_and_goes_on(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(score_run, "PAIRS_AT_ONCE", 4)
    run, stop = world.ask_to_score(modes=["quick"]), StopSignals()

    def on_progress(done: int, _total: int) -> None:
        if done == 4:
            stop.note(15)

    scored = score(world.database, run, str(world.home / "base"), on_progress, stop)
    assert (scored.judged, scored.complete) == (4, False)
    assert sum(pair.quick is not None for pair in analysed(world)) >= 4
    assert run_from_store(run.id, world.home) == 0
    assert all(pair.quick is not None for pair in analysed(world))


def test_wrong_requests_are_refused(world: World) -> None:
    run = world.ask_to_score(modes=["k"])
    assert run_from_store(run.id, world.home) == 2
    assert "modes think and quick" in world.run(run.id).message


def test_facts_of_a_clip_are_what_they_say() -> None:
    clip = tiny_clip(0, frames=4)
    still = replace(clip, frames=np.repeat(clip.frames[:1], 4, axis=0))
    grey = replace(clip, frames=np.full_like(clip.frames, 51))
    assert measure(grey).brightness == pytest.approx(0.2)
    assert measure(grey).sharpness == pytest.approx(0, abs=1e-6)
    assert measure(still).motion == 0 < measure(clip).motion
    assert measure(still).frames == 4
    checks = np.indices((32, 32)).sum(axis=0) % 2 * 255  # each inner pixel differs from its four neighbours by 255
    sharp = replace(clip, frames=np.repeat(np.repeat(checks[None, :, :, None], 3, axis=3), 2, axis=0).astype(np.uint8))
    assert measure(sharp).sharpness == pytest.approx((4 * 255) ** 2, rel=1e-3)
    assert measure(sharp).sharpness > measure(clip).sharpness > 0
