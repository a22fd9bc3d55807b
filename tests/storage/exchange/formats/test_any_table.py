"""Tables with columns of their own: named, guessed, left alone; and what is said of each."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from storage.exchange.formats.detect import FORMATS, MAPPABLE, read_file
from storage.exchange.parsed import ExchangeError, ParsedFile
from tests.helpers.exchange_world import cells, write_csv

WORDS = ["left", "Video 2 is better", "Same", "both_bad", "", "invalid"]
CHOICES = ["A", "B", "tie", "both_bad", None, None]
ROWS = [(f"p {number}", f"{number}a.mp4", f"{number}b.mp4", word, "7") for number, word in enumerate(WORDS)]
COLUMNS = ("title", "first clip", "second clip", "who won", "seed")
MAPPING = {"prompt": "title", "video_a": "first clip", "video_b": "second clip", "label": "who won"}


def choices(parsed: ParsedFile) -> list[str | None]:
    """What each pair's label says, None where it has none."""
    return [pair.assignments[0].labels[0].choice if pair.assignments else None for pair in parsed.pairs]


def written(path: Path) -> Path:
    """The rows above in the kind of file that the name says."""
    objects = [dict(zip(COLUMNS, row, strict=True)) for row in ROWS]
    if path.suffix == ".csv":
        return write_csv(path, COLUMNS, ROWS)
    if path.suffix == ".parquet":
        import pyarrow as pa
        import pyarrow.parquet as pq

        pq.write_table(pa.Table.from_pylist(objects), path)
    elif path.suffix == ".json":
        path.write_text(json.dumps(objects, indent=1), "utf-8")
    else:
        path.write_text("\n".join(map(json.dumps, objects)), "utf-8")
    return path


@pytest.mark.parametrize("name", ["t.csv", "t.json", "t.jsonl", "t.parquet"])
def test_named_columns_are_read_from_every_kind_of_file(tmp_path: Path, name: str) -> None:
    format, parsed = read_file(written(tmp_path / name), mapping=MAPPING)
    assert (format, parsed.problems) == ("table", ())
    assert [(pair.prompt, pair.a.name, pair.b.name) for pair in parsed.pairs] == [row[:3] for row in ROWS]
    assert choices(parsed) == CHOICES
    assert {json.dumps(dict(pair.extra_columns)) for pair in parsed.pairs} == {'{"seed": "7"}'}
    assert (parsed.columns.names, dict(parsed.columns.roles)) == (COLUMNS, MAPPING)
    assert (parsed.columns.unused, dict(parsed.columns.guesses), parsed.columns.kept) == (("seed",), {}, True)


@pytest.mark.parametrize("name", ["t.csv", "t.json", "t.jsonl", "t.parquet"])
def test_columns_that_are_not_found_are_a_problem_and_are_listed_for_a_choice(tmp_path: Path, name: str) -> None:
    format, parsed = read_file(written(tmp_path / name))
    (problem,) = parsed.problems
    assert format == "table"
    assert problem.message.startswith("lacks the columns video_a, video_b, prompt; it has title, first clip, second clip")
    assert "--map video_a=COLUMN" in problem.message
    assert parsed.columns.names == COLUMNS


USUAL = [
    (
        {"prompt": "p", "video_left": "a", "video_right": "b", "vote_type": "rightvote"},
        {"video_a": "video_left", "video_b": "video_right", "prompt": "prompt", "label": "vote_type"},
        "B",
    ),
    (
        {"caption": "p", "video_0_path": "a", "video_1_path": "b", "overall_preference": "Same", "user": 3},
        {"video_a": "video_0_path", "video_b": "video_1_path", "prompt": "caption", "label": "overall_preference"},
        "tie",
    ),
    (
        {"prompt": "p", "left_video": "a", "right_video": "b", "model_a": "sora", "model_b": "kling", "rater": "anna"},
        {"generator_a": "model_a", "generator_b": "model_b", "annotator": "rater"},
        None,
    ),
    ({"text": "p", "chosen": "a", "rejected": "b"}, {"label": "chosen", "prompt": "text"}, "A"),
]


@pytest.mark.parametrize(("row", "roles", "choice"), USUAL)
@pytest.mark.parametrize("lines", [True, False])
def test_usual_names_are_guessed(
    tmp_path: Path, row: dict[str, Any], roles: Mapping[str, str], choice: str | None, lines: bool
) -> None:
    path = tmp_path / "votes"
    path.write_text(json.dumps(row) if lines else json.dumps([row]))
    format, parsed = read_file(path)
    assert (format, parsed.problems) == ("table", ())
    assert roles.items() <= parsed.columns.roles.items()
    assert choices(parsed) == [choice]
    assert (parsed.pairs[0].a.name, parsed.pairs[0].b.name, parsed.pairs[0].prompt) == ("a", "b", "p")
    assert parsed.pairs[0].generator_a == row.get("model_a")
    assert parsed.pairs[0].ordered == ("chosen" not in row)


def test_video_1_of_columns_that_count_from_0_has_to_be_said(tmp_path: Path) -> None:
    columns = ("caption", "video_0_path", "video_1_path", "overall_preference")
    rows = [("p", "a", "b", "Video 1 Better"), ("q", "a", "b", "Video 0 Better"), ("r", "a", "b", "Both Bad")]
    path = write_csv(tmp_path / "votes.csv", columns, rows)
    assert [str(problem) for problem in read_file(path)[1].problems] == [
        f"votes.csv:{line}: overall_preference is {word!r}; A, B, tie, both_bad and the like are known, other words need a "
        "meaning, as in WORD=A"
        for line, word in ((2, "Video 1 Better"), (3, "Video 0 Better"))
    ]
    parsed = read_file(path, words={"Video 0 Better": 1, "video 1 better": -1})[1]
    assert (parsed.problems, choices(parsed)) == ((), ["B", "A", "both_bad"])
    assert choices(read_file(path, words={"Video 0 Better": 1, "video 1 better": -1, "both bad": 0})[1])[2] == "tie"


def test_another_column_can_be_the_label_or_none_and_the_rest_stays_with_the_pair(tmp_path: Path) -> None:
    columns = ("path_A", "path_B", "A_model", "B_model", "prompt", "TA", "Overall", "annotator", "subject_A", "note")
    rows = [("a", "b", "sora", "kling", "p", "A", "B", "anna", "2", "a note")]
    path = write_csv(tmp_path / "pairs.csv", columns, rows)
    assert read_file(path)[0] == "videoalign"
    parsed = read_file(path, mapping={"label": "Overall"})[1]
    (pair,) = parsed.pairs
    (label,) = pair.assignments[0].labels
    assert (label.choice, label.sub_scores, label.note) == ("B", {"A": {"subject": "2"}}, "a note")
    assert (pair.generator_a, pair.generator_b, pair.assignments[0].annotator) == ("sora", "kling", "anna")
    assert dict(pair.extra_columns) == {"TA": "A"}
    assert dict(parsed.columns.guesses) == {}
    (pair,) = read_file(path, mapping={"label": "", "annotator": "", "generator_a": "note"})[1].pairs
    assert (pair.assignments, pair.generator_a) == ((), "a note")
    assert dict(pair.extra_columns) == {
        "A_model": "sora",
        "TA": "A",
        "Overall": "B",
        "annotator": "anna",
        "subject_A": "2",
    }


GUESSES = [
    ("csv", {"choice": "label", "generator_a": "generator_a"}),
    ("studio-jsonl", {"winner": "label"}),
]


@pytest.mark.parametrize(("format", "guesses"), GUESSES)
def test_an_unused_column_is_named_with_what_it_may_be(tmp_path: Path, format: str, guesses: Mapping[str, str]) -> None:
    row = {"video_a": "a", "video_b": "b", "prompt": "p", **dict.fromkeys(guesses, "A"), "seed": "7"}
    path = tmp_path / "t"
    if format == "csv":
        write_csv(path, tuple(row), [tuple(row.values())])
    else:
        path.write_text(json.dumps(row))
    name, parsed = read_file(path)
    use = parsed.columns
    assert (name, parsed.problems, choices(parsed)) == (format, (), [None])
    assert use.unused == (*guesses, "seed")
    assert dict(use.guesses) == guesses
    assert use.kept == (format == "csv")
    assert dict(parsed.pairs[0].extra_columns) == ({**dict.fromkeys(guesses, "A"), "seed": "7"} if use.kept else {})
    first = next(iter(guesses))
    assert use.sentences() == (
        "columns: video A from video_a, video B from video_b, prompt from prompt",
        f"columns that are not used, and {'kept with the pairs' if use.kept else 'left out'}: {', '.join(use.unused)}",
        *(
            f"column {column} may be the {'label' if role == 'label' else 'generator of A'}, and is not used"
            for column, role in guesses.items()
        ),
    )
    assert choices(read_file(path, mapping={"label": first})[1]) == ["A"]


def test_what_the_studio_writes_has_no_column_that_it_does_not_read(tmp_path: Path) -> None:
    record = {"video_a": "a", "video_b": "b", "prompt": "p", "annotator": "anna", "choice": "A"}
    whole = {"campaign": "c", "facts": {"x": 1}, "sub_scores": {"A": cells("2")}, "seconds": 1.5, "video_a_sha256": "0" * 64}
    (tmp_path / "labels.jsonl").write_text(json.dumps(record) + "\n" + json.dumps({**record, **whole, "prompt": "q"}))
    use = read_file(tmp_path / "labels.jsonl")[1].columns
    assert (use.unused, use.roles["label"], use.roles["annotator"]) == ((), "choice", "annotator")


@pytest.mark.parametrize("name", sorted(set(FORMATS) - set(MAPPABLE)))
def test_columns_are_named_in_single_tables_only(tmp_path: Path, name: str) -> None:
    path = written(tmp_path / "t.csv")
    with pytest.raises(ExchangeError, match=rf"in a single table only, not in the format {name}"):
        read_file(path, name, mapping=MAPPING)
    with pytest.raises(ExchangeError, match=r"in a single table only, not in .*, a folder"):
        read_file(tmp_path, mapping=MAPPING)


def test_a_table_without_rows_and_a_column_that_is_not_there(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "t.csv", COLUMNS, [])
    assert [str(one) for one in read_file(path, mapping=MAPPING)[1].problems] == ["t.csv: has no pairs below its header"]
    (problem,) = read_file(written(path), mapping=MAPPING | {"prompt": "text"})[1].problems
    assert problem.message.startswith("has no column 'text', which --map names; it has title, first clip")
