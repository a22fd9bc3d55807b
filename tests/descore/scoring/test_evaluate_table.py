"""Agreement with the labels of a table, over all labelled rows."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from descore.errors import RewardError, TableError
from descore.metrics import preference_report
from descore.scoring.config import ScoreConfig
from descore.scoring.evaluate_table import Evaluation, evaluate_table
from descore.scoring.judge_source import JudgeSource
from descore.scoring.published import benchmark_of_shape, published, published_benchmark
from descore.tables.pairs import read_pairs
from tests.helpers.tiny import tiny_judge, tiny_video

if TYPE_CHECKING:
    from descore.judge import DeScore

QUICK = ScoreConfig("quick")
LABELLED = [("a", "b", "A"), ("b", "c", "B"), ("b", "a", "B"), ("a", "c", "same"), ("c", "b", "B"), ("a", "b", "")]


class Judged:
    """A table of labelled pairs and a checkpoint."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.checkpoint = folder, folder / "tiny"
        self.judge = tiny_judge()
        self.judge.save_pretrained(self.checkpoint)
        for seed, name in enumerate("abc"):
            tiny_video(folder / f"{name}.mp4", seed)

    def evaluate(self, rows: list[tuple[str, str, str]], swaps: int = 0, name: str | None = None) -> Evaluation:
        with (self.folder / "pairs.csv").open("w", newline="", encoding="utf-8") as file:
            cells = [(f"{a}.mp4", f"{b}.mp4", "a star", label) for a, b, label in rows]
            csv.writer(file).writerows([("path_A", "path_B", "prompt", "TA"), *cells])
        table = read_pairs(self.folder / "pairs.csv", labels=True)
        out = self.folder / "out.csv"
        source = JudgeSource.of_folder(self.checkpoint, self.load)
        return evaluate_table(source, table, out, QUICK, swaps, name)

    def load(self) -> DeScore:
        return self.judge


@pytest.fixture
def judged(tmp_path: Path) -> Judged:
    return Judged(tmp_path)


def test_figures_are_those_of_the_metrics_on_all_labelled_rows(judged: Judged) -> None:
    evaluation = judged.evaluate(LABELLED, swaps=3)
    rewards = {
        name: judged.judge.score([judged.folder / f"{name}.mp4"], "a star", "quick")[0].reward or 0.0 for name in "abc"
    }
    pairs = [(a, b, {"A": 1, "B": -1, "same": 0}[label]) for a, b, label in LABELLED if label]
    expected = preference_report(
        [rewards[a] for a, _, _ in pairs], [rewards[b] for _, b, _ in pairs], np.array([label for *_, label in pairs])
    )
    report = evaluation.report
    assert (evaluation.rows, evaluation.unlabelled, evaluation.failed, report.pairs, report.ties) == (6, 1, 0, 5, 1)
    assert report.accuracy_without_ties == expected.accuracy_without_ties
    assert report.accuracy_with_ties == expected.accuracy_with_ties
    assert report.eps == pytest.approx(expected.eps, abs=1e-5)
    # (a, b) is A and (b, a) is B: the same; (b, c) is B and (c, b) is B: not the same.
    swaps = evaluation.swaps
    assert (swaps.judged, swaps.same, swaps.labelled_both_ways, swaps.same_labels) == (3, 3, 2, 1)
    assert swaps.largest_difference < 1e-4
    assert evaluation.published is None
    assert "1 rows have no label" in evaluation.text()
    assert "pairs in both orders     1 of 2 have the same label" in evaluation.text()


def test_rows_that_can_not_be_judged_are_counted_and_left_out(judged: Judged) -> None:
    evaluation = judged.evaluate([*LABELLED, ("a", "missing", "A")])
    assert (evaluation.failed, evaluation.report.pairs) == (1, 5)
    with pytest.raises(
        RewardError, match=r"none of the 1 labelled rows has rewards; .*out.csv says why in its column error"
    ):
        judged.evaluate([("a", "missing", "A")])


def test_a_table_without_a_label_is_refused(judged: Judged) -> None:
    with pytest.raises(TableError, match=r"pairs.csv, column TA: has no labelled row"):
        judged.evaluate([("a", "b", "")])


def test_published_figures_stand_beside_a_table_of_that_name(judged: Judged) -> None:
    evaluation = judged.evaluate(LABELLED, name="my copy of GenAI-Bench")
    assert evaluation.published is not None
    benchmark, models = evaluation.published
    assert benchmark == "GenAI-Bench"
    assert models[-1] == ("DeScore", 0.504, 0.765)
    text = evaluation.text()
    assert "published on GenAI-Bench (DeScore, arXiv 2605.05922 and its project page)" in text
    assert "here: tiny" in text
    assert evaluation.to_dict()["published"]["models"][-1] == {"model": "DeScore", "with_ties": 0.504, "without_ties": 0.765}


def test_which_benchmark_a_table_is() -> None:
    columns = ["path_A", "path_B", "A_model", "B_model", "prompt", "VQ", "MQ", "TA", "Overall"]
    assert benchmark_of_shape(columns, 26_500) == "videogen"
    assert benchmark_of_shape(columns, 500) is None
    assert benchmark_of_shape(["path_A", "path_B", "prompt"], 26_500) is None
    assert published_benchmark("VideoGen-RewardBench") == "videogen"
    assert published_benchmark("pairs") is None
    assert [model["name"] for model in published()["models"]][-1] == "DeScore"
