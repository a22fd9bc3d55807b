"""Tables of pairs in, DataFrames out, and agreement with people's preferences."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pandas
import pytest

from descore import DeScore, Evaluation, MissingLibraryError, TableError, evaluate
from tests.helpers.tiny import calibrated, tiny_judge, tiny_video

PROMPT = "A red circle bounces"


@pytest.fixture(scope="module")
def judge() -> DeScore:
    return calibrated(tiny_judge(thought_tokens=4))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("videos")
    for seed in range(3):
        tiny_video(folder / f"{seed}.mp4", seed)
    return folder


def table(folder: Path, names: tuple[str, str] = ("path_A", "path_B")) -> list[dict[str, Any]]:
    a, b = names
    return [
        {a: "0.mp4", b: "1.mp4", "prompt": PROMPT, "model": "x", "label": "A"},
        {a: "1.mp4", b: "gone.mp4", "prompt": PROMPT, "model": "y", "label": "B"},
        {a: str(folder / "2.mp4"), b: "2.mp4", "prompt": PROMPT, "model": "z", "label": "same"},
        {a: "2.mp4", b: "1.mp4", "prompt": PROMPT, "model": "z", "label": ""},
    ]


@pytest.mark.parametrize("names", [("path_A", "path_B"), ("video_a", "video_b")])
def test_a_table_comes_back_with_results(judge: DeScore, folder: Path, names: tuple[str, str]) -> None:
    frame = judge.judge_pairs(table(folder, names), "quick", folder=folder)
    assert list(frame["model"]) == ["x", "y", "z", "z"]
    verdict = judge.judge([folder / "0.mp4", folder / "1.mp4"], PROMPT, "quick")
    first = frame.iloc[0]
    assert first["p_first_preferred"] == pytest.approx(verdict.p_first_preferred, abs=1e-5)
    assert first["verdict"] == verdict.verdict
    assert first["reward_B"] == pytest.approx(verdict.videos[1].reward, abs=1e-5)
    assert frame.iloc[2]["verdict"] == "tie"
    assert "gone.mp4" in frame.iloc[1]["error"]
    assert frame["reward_A"].isna().tolist() == [False, True, False, False]
    assert {str(frame[name].dtype) for name in ("reward_A", "subject_B", "p_first_preferred")} == {"float64"}


def test_a_frame_keeps_its_index(judge: DeScore, folder: Path) -> None:
    rows = pandas.DataFrame(table(folder), index=[10, 20, 30, 40])
    assert list(judge.judge_pairs(rows, "quick", folder=folder).index) == [10, 20, 30, 40]


def test_agreement_is_a_result(judge: DeScore, folder: Path) -> None:
    result = evaluate(judge, table(folder), "quick", folder=folder)
    assert isinstance(result, Evaluation)
    assert (result.report.pairs, result.report.ties, result.failed) == (2, 1, 1)
    preferred = judge.judge([folder / "0.mp4", folder / "1.mp4"], PROMPT, "quick").verdict
    assert result.report.accuracy_without_ties == float(preferred == "A")
    numbers = [{**row, "label": {"A": 1, "B": -1.0, "same": 0, "": None}[row["label"]]} for row in table(folder)]
    assert evaluate(judge, numbers, "quick", folder=folder).report == result.report


@pytest.mark.parametrize(
    ("rows", "reason"),
    [
        ([], "has no rows"),
        ([{"path_A": "a", "prompt": "x"}], "video_a, video_b"),
        ([{"path_A": "a", "path_B": "b"}], "prompt"),
        ([{"path_A": "a", "path_B": "b", "prompt": "x"}, {"path_A": "a", "path_B": "b"}], "line 2: this row has no prompt"),
        ("pairs.csv", "descore score"),
        ({"path_A": ["a"]}, "one dict a row"),
    ],
)
def test_tables_that_lack_something_are_refused(judge: DeScore, rows: Any, reason: str) -> None:
    with pytest.raises(TableError, match=reason):
        judge.judge_pairs(rows, "quick")


def test_evaluation_needs_preferences(judge: DeScore, folder: Path) -> None:
    plain = [{key: value for key, value in row.items() if key != "label"} for row in table(folder)]
    with pytest.raises(TableError, match="no column of preferences"):
        evaluate(judge, plain, "quick", folder=folder)
    with pytest.raises(TableError, match="no pair that could be judged has a preference"):
        evaluate(judge, [{**row, "label": ""} for row in table(folder)], "quick", folder=folder)
    with pytest.raises(TableError, match=r"none of its 4 pairs could be judged: .*no such file"):
        evaluate(judge, table(folder)[:1] * 4, "quick", folder=folder / "elsewhere")


def test_without_pandas_it_says_what_to_install(judge: DeScore, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(MissingLibraryError, match="pip install pandas"):
        judge.judge_pairs(table(folder), "quick", folder=folder)
