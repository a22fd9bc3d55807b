"""Benchmarks and the scores of other reward models."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import datetime, timezone

import pytest

from app.analyse.figures.benchmarks import HEAD, benchmark, benchmark_table, published, published_for, published_table
from app.analyse.figures.external_scores import Reward, ScoreFileError, read_scores
from app.analyse.figures.finding import Estimate, csv_text, share
from app.analyse.figures.judged_pairs import FITTED_HERE
from app.analyse.figures.score_matching import match_scores
from storage.pairs import Pair, Video
from tests.helpers.analysed import checkpoint, pair

NOW = datetime(2026, 3, 1, tzinfo=timezone.utc)
PAIRS = [pair(1, "A", 1.0), pair(2, "B", 1.0), pair(3, "tie", 0.1), pair(4, "A", 2.0), pair(5, None, 1.0)]


def test_all_scorers_answer_for_the_same_pairs() -> None:
    other = {1: (3.0, 1.0), 2: (1.0, 4.0), 3: (2.0, 2.0), 99: (1.0, 0.0)}
    found = benchmark("test", [checkpoint(PAIRS)], {"VideoScore": other, "Nobody": {99: (0.0, 1.0)}})
    assert [scorer.title for scorer in found.scorers] == ["one, think", "VideoScore, imported"]
    assert found.common == (1, 2, 3)
    table = benchmark_table(found)
    without = [row[HEAD.index("accuracy without ties")] for row in table.rows]
    assert without == [share(1, 2), share(2, 2)]
    assert [row[1] for row in table.rows] == [4, 3]
    assert [row[2] for row in table.rows] == [3, 3]


def test_a_sparse_scorer_is_named_and_empties_no_table() -> None:
    """One judged pair of another model must not take the comparison from those that scored all."""
    pairs = [pair(i, "A", 1.0, source="genai-bench") for i in range(1, 5)]
    imported = {"VideoScore": {1: (1.0, 0.0)}, "Half": {3: (1.0, 0.0), 4: (0.0, 1.0)}}
    found = benchmark("genai-bench", [checkpoint(pairs)], imported)
    assert [scorer.name for scorer in found.compared] == ["one", "Half"]
    assert found.common == (3, 4)
    table = benchmark_table(found)
    assert [row[:3] for row in table.rows] == [
        ("one, think", 4, 2),
        ("Half, imported", 2, 2),
        ("VideoScore, imported", 1, None),
    ]
    assert any("Not compared" in note and "VideoScore, imported (1)" in note for note in table.notes)
    assert [row[0] for row in published_table([found]).rows[-2:]] == ["one, think", "Half, imported"]


def test_while_nobody_has_scored_half_the_most_diligent_is_the_measure() -> None:
    pairs = [pair(i, "A", 1.0 if i < 4 else None) for i in range(10)]
    found = benchmark("test", [checkpoint(pairs)], {"VideoScore": {9: (1.0, 0.0)}})
    assert [scorer.name for scorer in found.compared] == ["one"]
    assert found.common == (0, 1, 2, 3)


def test_an_eps_from_the_held_out_pairs_of_this_store_is_named() -> None:
    here = replace(checkpoint(PAIRS), fitted_here=True)
    assert f"Trained here: one. {FITTED_HERE}" in benchmark_table(benchmark("test", [here], {})).notes
    assert FITTED_HERE not in " ".join(benchmark_table(benchmark("test", [checkpoint(PAIRS)], {})).notes)


def test_a_benchmark_without_scores_or_common_pairs_has_words() -> None:
    nobody = benchmark("test", [checkpoint([pair(1, "A")])], {})
    assert "1 of them labelled" in benchmark_table(nobody).notes[0]
    apart = benchmark("test", [checkpoint([pair(1, "A", 1.0), pair(2, "A")])], {"VideoScore": {2: (1.0, 0.0)}})
    assert "VideoScore, imported: 1" in benchmark_table(apart).notes[0]
    assert benchmark("test", [], {}).scorers == ()


def test_published_figures_are_those_of_the_paper() -> None:
    by_name = {model["name"]: model for model in published()["models"]}
    assert by_name["DeScore"] == {
        "name": "DeScore",
        "in_domain": [0.734, None],
        "genai": [0.504, 0.765],
        "videogen": [0.568, 0.768],
    }
    assert by_name["UnifiedReward-Thinking"]["genai"] == [0.548, 0.709]
    assert len(by_name) == 7


@pytest.mark.parametrize(
    ("source", "key"),
    [
        ("GenAI-Bench video", "genai"),
        ("VideoGen-RewardBench", "videogen"),
        ("video_align test", "videogen"),
        ("winter", None),
    ],
)
def test_a_source_is_known_by_its_name(source: str, key: str | None) -> None:
    assert published_for(source) == key


def test_measured_figures_stand_in_the_published_columns() -> None:
    pairs = [pair(1, "A", 1.0, source="genai-bench"), pair(2, "B", 1.0, source="genai-bench")]
    table = published_table([benchmark("genai-bench", [checkpoint(pairs)], {}), benchmark("test", [checkpoint(PAIRS)], {})])
    assert len(table.rows) == 8
    assert table.rows[-1][:2] == ("one, think", "measured on genai-bench")
    cell = table.rows[-1][table.head.index("GenAI-Bench, without ties")]
    assert isinstance(cell, Estimate)
    assert cell.value == 0.5
    assert table.rows[-1][table.head.index("VideoGen-Bench, with ties")] is None
    assert table.rows[0][2] == Estimate(0.552, None, None, 0, percent=True)
    assert ",0.552,,,," in csv_text(table)


# ---- scores from files -----------------------------------------------------------------------------------------------


def video(number: int, name: str) -> Video:
    return Video(number, f"public{number}", f"{number:064x}", f"{number}.mp4", name, 8, 8, 12.0, 2.0, NOW)


def stored(number: int, a: str, b: str, prompt: str) -> Pair:
    return Pair(number, video(2 * number, a), video(2 * number + 1, b), prompt, "test", NOW)


STORE = [stored(7, "x_0.mp4", "y_0.mp4", "a red circle"), stored(8, "x_1.mp4", "y_1.mp4", "a blue star")]

FILES = {
    "a plain table": "path_A,path_B,prompt,reward_A,reward_B\nclips/x_0.mp4,clips/y_0.mp4,a red circle,1.5,-2\n",
    "other names, a byte order mark": "\ufeffvideo_A,video_B,score_a,score_b\nx_0.mp4,y_0.mp4,1.5,-2\n",
    "by pair id": "pair_id,score_A,score_B\n7,1.5,-2\n",
    "A and B exchanged": "path_A,path_B,prompt,reward_A,reward_B\ny_0.mp4,x_0.mp4,A red  circle,-2,1.5\n",
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
    found = match_scores(read_scores(text), STORE)
    assert not found.problems
    assert [(one.pair_id, one.rewards[0].value, one.rewards[1].value) for one in found.scores] == [(7, 1.5, -2.0)]


def test_dimensions_are_kept_beside_the_overall_value() -> None:
    row = read_scores("path_A,path_B,Overall_A,Overall_B,TA_A,TA_B\nx,y,3,4,1,2\n").rows[0]
    assert row.rewards == (Reward(3.0, {"ta": 1.0}), Reward(4.0, {"ta": 2.0}))


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("7,x_0.mp4,y_0.mp4,a red circle,1,2", (7, 1.0, 2.0)),
        ("7,y_0.mp4,x_0.mp4,a red circle,2,1", (7, 1.0, 2.0)),  # the id is right, the sides are turned
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
    content = [replace(one, video_a=_content(one.video_a), video_b=_content(one.video_b)) for one in STORE]
    found = match_scores(read_scores(f"pair_id,path_A,path_B,prompt,reward_A,reward_B\n{line}\n"), content)
    scores = [(one.pair_id, one.rewards[0].value, one.rewards[1].value) for one in found.scores]
    assert scores == ([] if expected is None else [expected])
    assert found.unknown == (expected is None)


def _content(one: Video) -> Video:
    """The same video with a sha256 whose first half tells it from others, as a true one does."""
    return replace(one, sha256=f"{one.id:016x}" + "0" * 48)


def test_a_dimension_with_its_two_names_counts_once() -> None:
    text = "pair_id,alignment_score_A,physics_A,alignment_score_B,physics_B\n7,4,1,2,1\n"
    assert read_scores(text).rows[0].rewards[0] == Reward(2.5, {"alignment": 4.0, "physics": 1.0})


@pytest.mark.parametrize("rewards", [[1.0], [], [1.0, 2.0, 3.0]])
def test_a_list_that_is_not_of_two_rewards_costs_its_row(rewards: list[float]) -> None:
    rows = [{"pair_id": 7, "rewards": rewards}, {"pair_id": 8, "rewards": [1, 2]}]
    table = read_scores(json.dumps(rows))
    assert [row.pair for row in table.rows] == ["8"]
    assert table.problems == (f"row 1: has {len(rewards)} rewards; expected two, of A and of B",)
    with pytest.raises(ScoreFileError, match="row 1: has"):
        read_scores(json.dumps(rows[:1]))


def test_a_broken_table_is_refused_with_its_line() -> None:
    with pytest.raises(ScoreFileError, match="line 3 is no CSV"):
        read_scores("pair_id,reward_A,reward_B\n7,1,2\n8,1\r,2\n")


def test_rows_that_fit_nothing_or_too_much_are_said() -> None:
    twice = [*STORE, stored(9, "x_0.mp4", "y_0.mp4", "another prompt")]
    text = "path_A,path_B,prompt,reward_A,reward_B\nx_0,y_0,,1,2\nx_1,y_1,a blue star,1,nan\nq,r,what,1,2\nx_1,y_1,,5,6\n"
    found = match_scores(read_scores(text), twice)
    assert [one.pair_id for one in found.scores] == [8]
    assert found.unknown == 1
    assert "no finite number" in found.problems[0]
    assert "row 1: 2 pairs" in found.problems[1]


def test_a_video_of_no_pair_is_unknown() -> None:
    found = match_scores(read_scores("path,prompt,score\nx_0.mp4,a red circle,1\nlost.mp4,a red circle,1\n"), STORE)
    assert not found.scores
    assert found.unknown == 1


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
        "path_A,path_B,reward_A,reward_B\nx,y,one,two\n",
    ],
)
def test_files_without_scores_are_refused(text: str) -> None:
    with pytest.raises(ScoreFileError):
        read_scores(text)


def test_text_of_a_file_is_never_run() -> None:
    text = "pair_id,reward_A,reward_B\n7,\"[__import__('os').getpid()]\",1\n"
    with pytest.raises(ScoreFileError, match="can't read the reward"):
        read_scores(text)
