"""Benchmarks: checkpoints and other reward models on the same pairs."""

from __future__ import annotations

from dataclasses import replace

import pytest

from app.analyse.figures.benchmarks import (
    HEAD,
    benchmark_table,
    collect_benchmark,
    published_table,
)
from app.analyse.figures.finding import Estimate, csv_text, share
from app.analyse.figures.judged_pairs import FITTED_HERE
from descore.scoring.published import published, published_benchmark
from tests.helpers.analysed import checkpoint, pair

PAIRS = [pair(1, "A", 1.0), pair(2, "B", 1.0), pair(3, "tie", 0.1), pair(4, "A", 2.0), pair(5, None, 1.0)]


def test_all_scorers_answer_for_the_same_pairs() -> None:
    other = {1: (3.0, 1.0), 2: (1.0, 4.0), 3: (2.0, 2.0), 99: (1.0, 0.0)}
    benchmark = collect_benchmark("test", [checkpoint(PAIRS)], {"VideoScore": other, "Nobody": {99: (0.0, 1.0)}})
    assert [scorer.title for scorer in benchmark.scorers] == ["one, think", "VideoScore, imported"]
    assert benchmark.common == (1, 2, 3)
    table = benchmark_table(benchmark)
    without = [row[HEAD.index("accuracy without ties")] for row in table.rows]
    assert without == [share(1, 2), share(2, 2)]
    assert [row[1] for row in table.rows] == [4, 3]
    assert [row[2] for row in table.rows] == [3, 3]


def test_a_sparse_scorer_is_named_and_empties_no_table() -> None:
    """One judged pair of another model must not take the comparison from those that scored all."""
    pairs = [pair(i, "A", 1.0, source="genai-bench") for i in range(1, 5)]
    imported = {"VideoScore": {1: (1.0, 0.0)}, "Half": {3: (1.0, 0.0), 4: (0.0, 1.0)}}
    benchmark = collect_benchmark("genai-bench", [checkpoint(pairs)], imported)
    assert [scorer.name for scorer in benchmark.compared] == ["one", "Half"]
    assert benchmark.common == (3, 4)
    table = benchmark_table(benchmark)
    assert [row[:3] for row in table.rows] == [
        ("one, think", 4, 2),
        ("Half, imported", 2, 2),
        ("VideoScore, imported", 1, None),
    ]
    assert any("Not compared" in note and "VideoScore, imported (1)" in note for note in table.notes)
    assert [row[0] for row in published_table([benchmark]).rows[-2:]] == ["one, think", "Half, imported"]


def test_while_nobody_has_scored_half_the_most_diligent_is_the_measure() -> None:
    pairs = [pair(i, "A", 1.0 if i < 4 else None) for i in range(10)]
    benchmark = collect_benchmark("test", [checkpoint(pairs)], {"VideoScore": {9: (1.0, 0.0)}})
    assert [scorer.name for scorer in benchmark.compared] == ["one"]
    assert benchmark.common == (0, 1, 2, 3)


def test_an_eps_from_the_held_out_pairs_of_this_store_is_named() -> None:
    here = replace(checkpoint(PAIRS), fitted_here=True)
    assert f"Trained here: one. {FITTED_HERE}" in benchmark_table(collect_benchmark("test", [here], {})).notes
    assert FITTED_HERE not in " ".join(benchmark_table(collect_benchmark("test", [checkpoint(PAIRS)], {})).notes)


def test_a_benchmark_without_scores_or_common_pairs_has_words() -> None:
    nobody = collect_benchmark("test", [checkpoint([pair(1, "A")])], {})
    assert "1 of them labelled" in benchmark_table(nobody).notes[0]
    apart = collect_benchmark("test", [checkpoint([pair(1, "A", 1.0), pair(2, "A")])], {"VideoScore": {2: (1.0, 0.0)}})
    assert "VideoScore, imported: 1" in benchmark_table(apart).notes[0]
    assert collect_benchmark("test", [], {}).scorers == ()


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
    assert published_benchmark(source) == key


def test_measured_figures_stand_in_the_published_columns() -> None:
    pairs = [pair(1, "A", 1.0, source="genai-bench"), pair(2, "B", 1.0, source="genai-bench")]
    other = collect_benchmark("test", [checkpoint(PAIRS)], {})
    table = published_table([collect_benchmark("genai-bench", [checkpoint(pairs)], {}), other])
    assert len(table.rows) == 8
    assert table.rows[-1][:2] == ("one, think", "measured on genai-bench")
    cell = table.rows[-1][table.head.index("GenAI-Bench, without ties")]
    assert isinstance(cell, Estimate)
    assert cell.value == 0.5
    assert table.rows[-1][table.head.index("VideoGen-Bench, with ties")] is None
    assert table.rows[0][2] == Estimate(0.552, None, None, 0, percent=True)
    assert ",0.552,,,," in csv_text(table)


def test_pairs_that_a_checkpoint_was_trained_on_count_for_no_scorer() -> None:
    trained = replace(checkpoint(PAIRS), trained_on=frozenset({"identity 2"}))
    benchmark = collect_benchmark("test", [trained], {"VideoScore": {1: (3.0, 1.0), 2: (1.0, 4.0), 3: (2.0, 2.0)}})
    assert benchmark.common == (1, 3)
    assert benchmark.trained_on == 1
    assert "1 more were, and are left out" in benchmark_table(benchmark).notes[0]
