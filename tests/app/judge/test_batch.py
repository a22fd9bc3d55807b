"""Tables of pairs as the Judge page takes them; the judging itself is that of programs, see test_tools.py."""

from __future__ import annotations

from pathlib import Path

import pytest

from app.judge import batch
from app.judge.batch import table_view


def test_pairs_of_a_table_come_with_the_lines_that_they_stand_on(tmp_path: Path) -> None:
    table = tmp_path / "x7.csv"
    table.write_text('left_video;right_video;caption\na.mp4;b.mp4;"A cat; a ""dog"""\n\nc/d.mp4;e.mp4;Snow.\n', "utf-8")
    view = table_view(table, "pairs.csv", 3)
    assert view["pairs"] == [
        {"line": 2, "a": "a.mp4", "b": "b.mp4", "prompt": 'A cat; a "dog"'},
        {"line": 4, "a": "c/d.mp4", "b": "e.mp4", "prompt": "Snow."},
    ]
    assert (view["turn"], view["error"], view["notes"]) == (3, "", [])


@pytest.mark.parametrize(
    ("text", "reason"),
    [("", "is empty"), ("prompt\nA cat.\n", "pairs.csv"), ("video_a,video_b,prompt\n", "no pairs"), ("a\0b", "UTF-8")],
)
def test_a_table_of_no_use_says_why_by_its_own_name(tmp_path: Path, text: str, reason: str) -> None:
    (tmp_path / "x7.csv").write_text(text, "utf-8")
    view = table_view(tmp_path / "x7.csv", "pairs.csv", 1)
    assert (view["pairs"], view["turn"]) == ([], 1)
    assert reason in view["error"]
    assert "x7" not in view["error"]


def test_too_long_a_table_and_one_that_is_gone_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table = tmp_path / "t.csv"
    table.write_text("video_a,video_b,prompt\n" + "a.mp4,b.mp4,A cat.\n" * 3, "utf-8")
    monkeypatch.setattr(batch, "MOST_PAIRS", 2)
    assert "has 3 pairs, and 2 is the most" in table_view(table, "t.csv", 1)["error"]
    monkeypatch.setattr(batch, "LARGEST_TABLE", 8)
    assert "descore score" in table_view(table, "t.csv", 1)["error"]
    table.unlink()
    assert "not here any more" in table_view(table, "t.csv", 1)["error"]
