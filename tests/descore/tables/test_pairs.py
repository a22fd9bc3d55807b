"""Pairs out of tables: columns guessed or named, and labels in people's words."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from descore.errors import TableError
from descore.tables.labels import LabelReader, parse_words
from descore.tables.pair_columns import PairColumns, found_columns, pair_columns, parse_mapping
from descore.tables.pairs import PairRow, read_pairs


def written(folder: Path, rows: list[dict[str, Any]]) -> Path:
    path = folder / "votes.json"
    path.write_text(json.dumps(rows), "utf-8")
    return path


@pytest.mark.parametrize(
    ("columns", "found"),
    [
        (("path_A", "path_B", "A_model", "prompt", "VQ", "TA"), PairColumns("path_A", "path_B", "prompt", "TA")),
        (("video_a", "video_b", "prompt", "label"), PairColumns("video_a", "video_b", "prompt", "label")),
        (("PROMPT", "Path_a", "path_b"), PairColumns("Path_a", "path_b", "PROMPT", None)),
        (
            ("prompt", "left_model", "left_video", "right_video", "vote_type"),
            PairColumns("left_video", "right_video", "prompt", "vote_type"),
        ),
        (("caption", "Video 1", "Video-2"), PairColumns("Video 1", "Video-2", "caption", None)),
        (
            ("caption", "video_0_path", "video_1_path", "overall_preference"),
            PairColumns("video_0_path", "video_1_path", "caption", "overall_preference"),
        ),
        (("prompt", "chosen", "rejected"), PairColumns("chosen", "rejected", "prompt", None)),
    ],
)
def test_usual_names_are_guessed(columns: tuple[str, ...], found: PairColumns) -> None:
    assert pair_columns(columns, "t.csv") == found


def test_a_mapping_comes_first(tmp_path: Path) -> None:
    mapping = parse_mapping(["prompt=caption, video_a=first clip", "video_b=second clip,label=who"])
    assert mapping == {"prompt": "caption", "video_a": "first clip", "video_b": "second clip", "label": "who"}
    rows = [{"caption": "p", "prompt": "not this", "first clip": "a", "second clip": "b", "who": "B"}]
    pairs = read_pairs(written(tmp_path, rows), mapping, labels=True)
    assert pairs.rows == (PairRow(1, 1, "a", "b", "p", -1),)


def test_a_mapping_may_have_roles_of_its_caller_and_say_that_there_is_no_column() -> None:
    assert parse_mapping(["annotator=who"], ("annotator",)) == {"annotator": "who"}
    with pytest.raises(ValueError, match="--map takes ROLE=COLUMN with the roles annotator, each once"):
        parse_mapping(["prompt=title"], ("annotator",))
    columns = ("path_A", "path_B", "prompt", "TA", "who")
    assert pair_columns(columns, "t.csv", {"label": ""}).label is None
    found = found_columns(columns, "t.csv", {"annotator": "WHO", "label": ""})
    assert found == {"annotator": "who", "video_a": "path_A", "video_b": "path_B", "prompt": "prompt"}


@pytest.mark.parametrize("text", ["prompt", "prompt=", "title=x", "prompt=a,prompt=b", ""])
def test_a_mapping_that_says_nothing_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="--map takes ROLE=COLUMN with the roles video_a, video_b, prompt, label"):
        parse_mapping([text])


@pytest.mark.parametrize(
    ("columns", "mapping", "message"),
    [
        (("a", "b"), {}, r"lacks the columns video_a, video_b, prompt; it has a, b; .* --map video_a=COLUMN"),
        (("path_A", "path_B", "title"), {}, r"lacks the columns prompt; it has .* --map prompt=COLUMN"),
        (("path_A", "path_B", "prompt"), {"prompt": "text"}, r"has no column 'text', which --map names; it has path_A"),
        (
            ("path_A", "path_B", "left_video", "right_video", "prompt"),
            {},
            r"several columns that could be the videos \(path_A, path_B; left_video, right_video\); say which by --map",
        ),
    ],
)
def test_columns_that_are_not_clear(columns: tuple[str, ...], mapping: dict[str, str], message: str) -> None:
    with pytest.raises(TableError, match=message):
        pair_columns(columns, "t.csv", mapping)


def test_labels(tmp_path: Path) -> None:
    words = ["A", "b", " same ", "", None, "leftvote", "bothbad_vote", "Video 2 is better", "invalid"]
    rows = [{"path_A": "a", "path_B": "b", "prompt": "p", "TA": word} for word in words]
    pairs = read_pairs(written(tmp_path, rows), labels=True)
    assert [pair.label for pair in pairs.rows] == [1, -1, 0, None, None, 1, 0, -1, None]
    assert [pair.label for pair in read_pairs(pairs.path).rows] == [None] * 9  # not asked for


def test_chosen_is_the_better_one(tmp_path: Path) -> None:
    rows = [{"prompt": "p", "chosen": "a", "rejected": "b"}]
    assert read_pairs(written(tmp_path, rows), labels=True).rows[0].label == 1


def test_numbers_of_videos_that_count_from_zero_are_not_guessed() -> None:
    reader = LabelReader("t.json", "overall", ("video_0_path", "video_1_path"), parse_words(["Video 0 Better=A"]))
    assert (reader.read("Same", 1), reader.read("video 0 better", 2)) == (0, 1)
    with pytest.raises(TableError, match=r"t.json, line 3, column overall: 'Video 1 Better' is no label .* --label"):
        reader.read("Video 1 Better", 3)


def test_words_can_be_given() -> None:
    assert parse_words(["Video 1 Better=B", "x=y=tie"]) == {"Video 1 Better": -1, "x=y": 0}
    with pytest.raises(ValueError, match="--label takes WORD=A"):
        parse_words(["good"])


def test_cells_that_are_no_text_are_named(tmp_path: Path) -> None:
    rows = [{"path_A": "a", "path_B": {"bytes": "..."}, "prompt": "p"}]
    with pytest.raises(TableError, match=r"votes.json, line 1, column path_B: must be text and is a dict"):
        read_pairs(written(tmp_path, rows))
    with pytest.raises(TableError, match=r"votes.json, line 1, column path_B: this object lacks it"):
        read_pairs(written(tmp_path, [{"path_A": "a", "path_B": "b", "prompt": "p"}, {"path_A": "a", "prompt": "p"}]))


def test_a_table_without_labels_or_without_rows(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("path_A,path_B,prompt\na,b,p\n", "utf-8")
    with pytest.raises(TableError, match=r"t.csv: has no column of labels; name it by --map label=COLUMN"):
        read_pairs(path, labels=True)
    path.write_text("path_A,path_B,prompt\n\n,,\n", "utf-8")
    with pytest.raises(TableError, match=r"t.csv: has no pairs"):
        read_pairs(path)
