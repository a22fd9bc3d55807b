"""Stored rewards of many pairs at once, and the orders of a queue that follow from them."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from app.lead.uncertainty_order import disagreement_first, uncertain_first
from storage.analysis.reward_margins import (
    count_margins,
    first_pairs,
    margin_spreads,
    margins,
    next_unjudged,
    pair_ids_of,
    pair_sources,
)
from storage.judgements import Question, save_judgement
from storage.labelling.consensus import Consensus
from tests.helpers.labelling import make_team
from tests.helpers.stores import RECORD, make_pair

if TYPE_CHECKING:
    from storage import Database
    from storage.pairs import Pair
    from storage.schema import Choice


def judged(
    database: Database, pair: Pair, a: float | None, b: float | None, fingerprint: str = "f", mode: str = "think"
) -> None:
    """Store a checkpoint's judgements of both videos."""
    with database.write() as session:
        for video, reward in ((pair.video_a, a), (pair.video_b, b)):
            question = Question(video.id, pair.prompt, fingerprint, mode)  # type: ignore[arg-type]
            save_judgement(session, question, replace(RECORD, reward=reward))


def test_margins_of_one_checkpoint_one_mode_and_chosen_pairs(database: Database) -> None:
    with database.write() as session:
        pairs = [make_pair(session, f"{i}a", f"{i}b") for i in range(4)]
        same_videos = make_pair(session, "0a", "0b", prompt="Another prompt.")
    judged(database, pairs[0], 1.5, 1.0)
    judged(database, pairs[1], -1.0, 1.0)
    judged(database, pairs[2], 3.0, 1.0, fingerprint="another checkpoint")
    judged(database, pairs[3], None, None)
    judged(database, pairs[1], 9.0, 1.0, mode="quick")
    team = make_team(database, pairs=2)  # the pairs 0 and 1
    with database.read() as session:
        assert margins(session, "f") == {pairs[0].id: 0.5, pairs[1].id: -2.0}
        assert margins(session, "f", mode="quick") == {pairs[1].id: 8.0}
        assert margins(session, "f", sources=["elsewhere"]) == {}
        assert margins(session, "f", campaign_id=team.campaign.id) == margins(session, "f", sources=["test"])
        assert count_margins(session, "f", team.campaign.id) == 2
        assert pair_sources(session) == {"test": 5}
        assert pair_ids_of(session, ["test", "elsewhere"]) == tuple(one.id for one in [*pairs, same_videos])
        assert first_pairs(session, ["test"], [pairs[2].id], 2) == (pairs[2], pairs[0])
        # The backbone without a head said something of pair 3: it is not asked again.
        assert next_unjudged(session, "f", ["test"]) == pairs[2]
        assert next_unjudged(session, "f", ["test"], after=pairs[2].id) == same_videos
        assert next_unjudged(session, "f", ["test"], after=same_videos.id) is None


def said(pair_id: int, choice: Choice | None) -> Consensus:
    return Consensus(pair_id, choice, None, {}, 3, 1.0, False)


def test_pairs_come_first_whose_verdict_little_would_turn() -> None:
    by_pair = {1: -2.0, 2: 0.1, 3: 1.0}
    scores = uncertain_first(by_pair)
    assert sorted(scores, key=lambda pair: scores[pair]) == [2, 3, 1]
    # With a tie threshold, the margin of pair 2 is surely a tie, and that of pair 3 could be either.
    scores = uncertain_first(by_pair, tie_threshold=1.0)
    assert scores == pytest.approx({1: 1.0, 2: 0.9, 3: 0.0})
    # Thoughts that disagree make a large distance uncertain, and unanimous ones a small distance sure; pair 3 is typical.
    scores = uncertain_first(by_pair, tie_threshold=0.5, spreads={1: 3.0, 2: 0.2})
    assert scores == pytest.approx({1: 0.5, 2: 2.0, 3: 0.5 / 1.6})


def test_the_spread_of_a_margin_comes_from_several_thoughts(database: Database) -> None:
    with database.write() as session:
        pair, other = make_pair(session, "0a", "0b"), make_pair(session, "1a", "1b")
        for video, spread in ((pair.video_a, 3.0), (pair.video_b, 4.0), (other.video_a, 1.0)):
            question = Question(video.id, pair.prompt, "f", "k", k=4)
            save_judgement(session, question, replace(RECORD, reward=1.0, reward_spread=spread))
    judged(database, pair, 1.5, 1.0)
    with database.read() as session:
        assert margin_spreads(session, "f") == {pair.id: 5.0}
        assert margin_spreads(session, "another") == {} == margin_spreads(session, "f", sources=["elsewhere"])


def test_sure_contradictions_come_first_and_sure_agreement_last() -> None:
    by_pair = {1: 2.0, 2: 2.0, 3: -0.2, 4: 0.1, 5: 3.0, 6: -1.0}
    people = [said(1, "A"), said(2, "B"), said(3, "A"), said(4, "tie"), said(5, "both_bad"), said(6, None), said(7, "A")]
    scores = disagreement_first(by_pair, people, tie_threshold=0.5)
    assert sorted(scores, key=lambda pair: scores[pair]) == [5, 2, 3, 4, 1]
    assert scores[4] == pytest.approx(0.4)
    assert scores[2] == -2.0
