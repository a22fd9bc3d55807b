"""Scores of other reward models: reading their files, and finding their pairs in the store."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from datetime import datetime, timezone

import pytest

from app.analyse.external_scores import Reward, ScoreFileError, read_scores
from app.analyse.score_matching import match_scores
from storage.pairs import Pair, Video
from tests.helpers.mutations import EXAMPLES, holds_for, mutated

NOW = datetime(2026, 3, 1, tzinfo=timezone.utc)


def video(number: int, name: str) -> Video:
    return Video(number, f"public{number}", f"{number:064x}", f"{number}.mp4", name, 8, 8, 12.0, 2.0, NOW)


def stored(number: int, a: str, b: str, prompt: str) -> Pair:
    return Pair(number, video(2 * number, a), video(2 * number + 1, b), prompt, "test", NOW)


STORE = [stored(7, "x_0.mp4", "y_0.mp4", "a red circle"), stored(8, "x_1.mp4", "y_1.mp4", "a blue star")]

FILES = {
    "a plain table": "path_A,path_B,prompt,reward_A,reward_B\nclips/x_0.mp4,clips/y_0.mp4,a red circle,1.5,-2\n",
    "other names, a byte order mark": "\ufeffvideo_A,video_B,score_a,score_b\nx_0.mp4,y_0.mp4,1.5,-2\n",
    "by pair id": "pair_id,score_A,score_B\n7,1.5,-2\n",
    "A and B swapped": "path_A,path_B,prompt,reward_A,reward_B\ny_0.mp4,x_0.mp4,A red  circle,-2,1.5\n",
    "one row a video": "video_path,prompt,score\nx_0.mp4,a red circle,1.5\ny_0.mp4,a red circle,-2\n",
    "VideoAlign's objects": json.dumps(
        [
            {
                "path_A": "x_0.mp4",
                "path_B": "y_0.mp4",
                "reward_A": {"VQ": 1.0, "MQ": 2.0, "TA": 1.5, "Overall": 1.5},
                "reward_B": {"VQ": 1.0, "MQ": 2.0, "TA": 1.5, "Overall": -2},
            }
        ]
    ),
    "VideoScore's five dimensions": "left_video,right_video,scores_A,scores_B\n"
    'x_0.mp4,y_0.mp4,"[1, 2, 1, 2, 1.5]","[-2, -2, -2, -2, -2]"\n',
    "VideoScore2 by dimension": "path_A,path_B,visual_quality_A,t2v_alignment_A,physical_consistency_A,visual_quality_B,"
    "t2v_alignment_B,physical_consistency_B\nx_0.mp4,y_0.mp4,1,2,1.5,-2,-2,-2\n",
    "UnifiedReward, JSON Lines": '{"video": "x_0.mp4", "prompt": "a red circle", "final_score": 1.5}\n'
    '{"video": "y_0.mp4", "prompt": "a red circle", "final_score": "-2"}\n',
    "VisionReward, results by id": json.dumps({"7": {"score_left": 1.5, "score_right": -2}}),
    "a list in an object": json.dumps({"model": "m", "results": [{"pair_id": 7, "rewards": [1.5, -2]}]}),
}


@pytest.mark.parametrize("text", FILES.values(), ids=FILES.keys())
def test_the_usual_shapes_of_score_files(text: str) -> None:
    matched = match_scores(read_scores(text), STORE)
    assert not matched.problems
    assert [(pair.pair_id, pair.rewards[0].value, pair.rewards[1].value) for pair in matched.scores] == [(7, 1.5, -2.0)]


def test_dimensions_are_kept_beside_the_overall_value() -> None:
    row = read_scores("path_A,path_B,Overall_A,Overall_B,TA_A,TA_B\nx,y,3,4,1,2\n").rows[0]
    assert row.rewards == (Reward(3.0, {"ta": 1.0}), Reward(4.0, {"ta": 2.0}))


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("7,x_0.mp4,y_0.mp4,a red circle,1,2", (7, 1.0, 2.0)),
        ("7,y_0.mp4,x_0.mp4,a red circle,2,1", (7, 1.0, 2.0)),  # the id is right, the sides are swapped
        ("7,,,,1,2", (7, 1.0, 2.0)),
        ("7,x_1.mp4,y_1.mp4,,1,2", (8, 1.0, 2.0)),  # somebody else's number 7
        ("7,y_1.mp4,x_1.mp4,a blue star,2,1", (8, 1.0, 2.0)),
        ("7,q.mp4,r.mp4,,1,2", None),
        ("7,,,a blue star,1,2", None),
        ("7,x_0.mp4,y_0.mp4,a blue star,1,2", None),
        (f"7,videos/{14:016x}.mp4,videos/{15:016x}.mp4,,1,2", (7, 1.0, 2.0)),  # as our own exports name them
    ],
)
def test_an_id_counts_only_where_names_and_prompt_fit(line: str, expected: tuple[int, float, float] | None) -> None:
    pairs = [replace(pair, video_a=_with_own_hash(pair.video_a), video_b=_with_own_hash(pair.video_b)) for pair in STORE]
    matched = match_scores(read_scores(f"pair_id,path_A,path_B,prompt,reward_A,reward_B\n{line}\n"), pairs)
    scores = [(pair.pair_id, pair.rewards[0].value, pair.rewards[1].value) for pair in matched.scores]
    assert scores == ([] if expected is None else [expected])
    assert matched.unknown == (expected is None)


def _with_own_hash(video: Video) -> Video:
    """Return the video with a sha256 whose first half is its own, as that of a real file is."""
    return replace(video, sha256=f"{video.id:016x}" + "0" * 48)


def test_a_dimension_with_its_two_names_counts_once() -> None:
    text = "pair_id,alignment_score_A,physics_A,alignment_score_B,physics_B\n7,4,1,2,1\n"
    assert read_scores(text).rows[0].rewards[0] == Reward(2.5, {"alignment": 4.0, "physics": 1.0})


@pytest.mark.parametrize("rewards", [[1.0], [], [1.0, 2.0, 3.0]])
def test_a_list_that_is_not_of_two_rewards_costs_its_row(rewards: list[float]) -> None:
    rows = [{"pair_id": 7, "rewards": rewards}, {"pair_id": 8, "rewards": [1, 2]}]
    table = read_scores(json.dumps(rows))
    assert [row.pair for row in table.rows] == ["8"]
    assert table.problems == (f"row 1: it has {len(rewards)} rewards; expected two, of A and of B",)
    with pytest.raises(ScoreFileError, match="row 1: it has"):
        read_scores(json.dumps(rows[:1]))


def test_a_broken_table_is_refused_with_its_line() -> None:
    with pytest.raises(ScoreFileError, match="line 3 is not CSV"):
        read_scores("pair_id,reward_A,reward_B\n7,1,2\n8,1\r,2\n")


def test_rows_that_fit_nothing_or_too_much_are_said() -> None:
    twice = [*STORE, stored(9, "x_0.mp4", "y_0.mp4", "another prompt")]
    text = "path_A,path_B,prompt,reward_A,reward_B\nx_0,y_0,,1,2\nx_1,y_1,a blue star,1,nan\nq,r,what,1,2\nx_1,y_1,,5,6\n"
    matched = match_scores(read_scores(text), twice)
    assert [pair.pair_id for pair in matched.scores] == [8]
    assert matched.unknown == 1
    assert "not a finite number" in matched.problems[0]
    assert "row 1: 2 pairs" in matched.problems[1]


def test_a_video_of_no_pair_is_unknown() -> None:
    matched = match_scores(read_scores("path,prompt,score\nx_0.mp4,a red circle,1\nlost.mp4,a red circle,1\n"), STORE)
    assert not matched.scores
    assert matched.unknown == 1


@pytest.mark.parametrize(
    "text",
    [
        "",
        "hello\nworld\n",
        "path_A,path_B\nx,y\n",
        "[]",
        "{",
        "[1, 2]",
        '{"a": 1}',
        "path_A,path_B,reward_A,reward_B\nx,y,pair,two\n",
    ],
)
def test_files_without_scores_are_refused(text: str) -> None:
    with pytest.raises(ScoreFileError):
        read_scores(text)


def test_text_of_a_file_is_never_run() -> None:
    text = "pair_id,reward_A,reward_B\n7,\"[__import__('os').getpid()]\",1\n"
    with pytest.raises(ScoreFileError, match="can't read the reward"):
        read_scores(text)


DEEP = '{"score": ' * 700 + "1" + "}" * 700


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('[{"pair_id": 7, "rewards": [1' + "0" * 400 + ", 1]}]", "the reward is a whole number of hundreds of digits"),
        ('[{"pair_id": 7, "rewards": [1' + "0" * 5000 + ", 1]}]", "line 1 is not JSON: too deep, or a number too long"),
        ("pair_id,reward_A,reward_B\n7," + "9" * 5000 + ",1\n", f"the reward '{'9' * 40}' is not a finite number"),
        ("[" * 100_000, "line 1 is not JSON: too deep, or a number too long"),
        (f'[{{"pair_id": 7, "rewards": [{DEEP}, 1]}}]', "row 1: its rewards are nested too deep"),
    ],
)
def test_numbers_and_depths_without_bounds_are_refused(text: str, message: str) -> None:
    with pytest.raises(ScoreFileError, match=message):
        read_scores(text)


@EXAMPLES
def test_damaged_files_of_scores_give_rows_or_one_sentence(examples: int) -> None:
    pieces = [*'{}[],:"\n\r', "NaN", "1e999", "9" * 400, "9" * 5000, "[" * 1500, '{"score":' * 400, "(", "\0", "nan"]

    def check(text: str) -> None:
        try:
            table = read_scores(text)
        except ScoreFileError as error:
            assert 0 < len(str(error)) < 1000  # noqa: PT017 - random input: an error is allowed, not required
            return
        assert all(math.isfinite(reward.value) for row in table.rows for reward in row.rewards)

    holds_for(mutated(list(FILES.values()), pieces), examples, check)
