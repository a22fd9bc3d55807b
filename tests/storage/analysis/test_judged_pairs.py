"""Pairs with all that is known of them; facts of videos; scores of other models."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import event

from storage import Database, StorageError
from storage.analysis.external_scores import ExternalScore, external_scores, save_external, scorers
from storage.analysis.judged_pairs import AnalysedPair, analysed_pairs
from storage.analysis.video_stats import VideoStats, save_video_stats, video_stats
from storage.campaigns.label_schema import Answer
from storage.judgements import Question, save_judgement
from storage.pairs import Pair, add_pair, get_pair
from storage.splits import pair_identity
from tests.helpers.labelling import SCORES, Team, label_all, label_next, make_team
from tests.helpers.retraining import held_out_pairs, let_say
from tests.helpers.stores import RECORD, make_pair, make_video

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

OURS, OTHER = "f" * 64, "0" * 64


def judge(session: Session, pair: Pair, rewards: tuple[float | None, float | None], **question: Any) -> None:
    """Keep a judgement of both videos."""
    asked = {"fingerprint": OURS, "mode": "think"} | question
    for video, reward, thought in zip((pair.video_a, pair.video_b), rewards, ("one", "three"), strict=True):
        values: dict[str, Any] = {"reward": reward, "thought": thought, "strict_format": thought == "one"}
        values |= {"reward_spread": 0.25 if asked["mode"] == "k" and reward is not None else None}
        save_judgement(session, Question(video.id, pair.prompt, **asked), replace(RECORD, **values))


def analysed(database: Database, fingerprint: str | None = OURS, **options: Any) -> dict[int, AnalysedPair]:
    with database.read() as session:
        return {one.pair_id: one for one in analysed_pairs(session, fingerprint, **options)}


def test_a_pair_brings_people_models_and_files_together(database: Database) -> None:
    team = make_team(database, pairs=2, people=2, overlap=2, dimensions=tuple(SCORES["A"]))
    with database.write() as session:
        for person in team.people:
            label_all(session, team, person, Answer(choice="A", strength="slightly", sub_scores=SCORES))
        pair = get_pair(session, team.pairs[0])
        judge(session, pair, (1.5, -0.5))
        judge(session, pair, (9.0, 9.0), mode="k", k=8)
        judge(session, pair, (7.0, 7.0), fingerprint=OTHER)
        judge(session, pair, (0.5, None), mode="quick")
        save_video_stats(session, [VideoStats(pair.video_b.id, 800.5, 0.4, 0.03, 16, 91_020)])
    found = analysed(database)
    one, other = (found[pair_id] for pair_id in team.pairs)
    assert (one.choice, one.strength, one.support, one.labels, one.human) == ("A", 1.0, 1.0, 2, SCORES)
    assert one.identity == pair_identity(pair.video_a.sha256, pair.video_b.sha256, pair.prompt)
    assert (one.seconds, one.fps, one.source, one.generators) == ((2.5, 2.5), (12.0, 12.0), "test", (None, None))
    assert one.think is not None
    assert one.quick is None
    assert (one.think.rewards, one.think.strict, one.think.thought_chars) == ((1.5, -0.5), (True, False), (3, 5))
    assert one.think.spread == (0.25, 0.25)
    assert one.think.sub_scores == (RECORD.sub_scores, RECORD.sub_scores)
    assert one.video_stats == (None, VideoStats(pair.video_b.id, 800.5, 0.4, 0.03, 16, 91_020))
    assert (other.choice, other.think, other.quick) == ("A", None, None)
    other_model = analysed(database, OTHER)[pair.id].think
    assert other_model is not None
    assert (other_model.rewards, other_model.spread) == ((7.0, 7.0), None)
    assert analysed(database, None)[pair.id].think is None


def test_of_several_numbers_of_thoughts_the_largest_tells_the_spread(database: Database) -> None:
    with database.write() as session:
        pair = make_pair(session)
        judge(session, pair, (1.0, 2.0))
        for k, seed, spread in ((4, 0, 0.9), (8, 1, 0.8), (8, 0, 0.7)):
            for video in (pair.video_a, pair.video_b):
                record = replace(RECORD, reward_spread=spread)
                save_judgement(session, Question(video.id, pair.prompt, OURS, "k", k, seed), record)
    think = analysed(database)[pair.id].think
    assert think is not None
    assert think.spread == (0.7, 0.7)


@pytest.mark.slow
def test_pairs_are_chosen_by_source_campaign_and_part(database: Database) -> None:
    team = make_team(database, pairs=30, people=1, overlap=1)
    let_say(database, team, 0, "AB=" * 10)
    with database.write() as session:
        videos = make_video(session, "p"), make_video(session, "q")
        bench = add_pair(session, *videos, "A dog.", source="genai-bench", generator_a="one", generator_b="two")
    everything = analysed(database)
    assert set(everything) == {*team.pairs, bench.id}
    assert list(everything) == sorted(everything)
    assert everything[bench.id].choice is None
    assert everything[bench.id].labels == 0
    assert everything[bench.id].generators == ("one", "two")
    choices = [everything[pair].choice for pair in team.pairs]
    assert choices == ["A", "B", "tie"] * 10
    assert set(analysed(database, sources=["genai-bench"])) == {bench.id}
    assert set(analysed(database, campaign_ids=[team.campaign.id])) == set(team.pairs)
    assert analysed(database, sources=["genai-bench"], campaign_ids=[team.campaign.id]) == {}
    assert set(analysed(database, sources=["test"], held_out_share=0.2)) == held_out_pairs(database, team)


@pytest.mark.slow
def test_many_pairs_take_few_queries(database: Database) -> None:
    counted: list[str] = []
    event.listen(database.engine, "before_cursor_execute", lambda *told: counted.append(told[2]))
    team = make_team(database, pairs=60, people=1, overlap=1)
    numbers = []
    for begin, end in ((0, 2), (2, 60)):
        with database.write() as session:
            for pair_id in team.pairs[begin:end]:
                label_next(session, team, team.people[0])
                judge(session, get_pair(session, pair_id), (1.0, 0.0))
        counted.clear()
        with database.read() as session:
            pairs = analysed_pairs(session, OURS, sources=["test"])
        assert sum(pair.labels == 1 for pair in pairs) == sum(pair.think is not None for pair in pairs) == end
        numbers.append(len(counted))
    assert numbers[0] == numbers[1] <= 12


def test_facts_are_measured_again_and_never_nonsense(database: Database) -> None:
    with database.write() as session:
        videos = [make_video(session, name).id for name in "abc"]
        save_video_stats(session, [VideoStats(video, 10.0, 0.5, 0.1, 16, 5_000_000_000) for video in videos[:2]])
        save_video_stats(session, [VideoStats(videos[1], 20.0, 0.5, 0.0, 8, 7)])
        save_video_stats(session, [])
        with pytest.raises(StorageError, match="only finite numbers"):
            save_video_stats(session, [VideoStats(videos[2], float("nan"), 0.5, 0.0, 8, 7)])
    with database.read() as session:
        found = video_stats(session, videos)
    assert {video: one.sharpness for video, one in found.items()} == {videos[0]: 10.0, videos[1]: 20.0}
    assert found[videos[0]].file_bytes == 5_000_000_000


def test_scores_of_other_models_stand_beside_each_other(database: Database) -> None:
    team: Team = make_team(database, pairs=3)
    one, two, three = team.pairs
    with database.write() as session:
        cells = {"A": {"visual": 3.5}, "B": {"visual": 2.0}}
        assert save_external(session, " VideoScore2 ", [ExternalScore(one, 3.1, 2.7, cells), ExternalScore(two, 0, 1)]) == 2
        assert save_external(session, "VideoAlign", [ExternalScore(three, -1.5, 2.5)]) == 1
        assert save_external(session, "VideoScore2", [ExternalScore(two, 5.0, 1.0), ExternalScore(two, 6.0, 1.0)]) == 1
    with database.read() as session:
        assert scorers(session) == {"VideoAlign": 1, "VideoScore2": 2}
        found = external_scores(session, "VideoScore2")
        assert found[one] == ExternalScore(one, 3.1, 2.7, cells)
        assert found[one].sub_scores == cells
        assert (found[two].reward_a, found[two].sub_scores) == (6.0, None)
        assert external_scores(session, "nobody") == {}
    refused = [
        ("x", [ExternalScore(99, 1, 2)], "no pairs 99"),
        ("x", [ExternalScore(one, float("inf"), 2)], "no finite numbers"),
        (" ", [ExternalScore(one, 1, 2)], "needs a name"),
    ]
    for scorer, rows, message in refused:
        with pytest.raises(StorageError, match=message), database.write() as session:
            save_external(session, scorer, rows)
