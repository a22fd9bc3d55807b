"""Whatever bytes come as a table: pairs, or problems with their lines; never another error, and a store that is sound."""

from __future__ import annotations

import json
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from descore.prompt import text_problem
from storage.exchange.formats.detect import ROUND_TRIP, read_file, write_folder
from storage.exchange.importing.dry_run import compare
from storage.exchange.importing.insert import insert_import
from storage.exchange.parsed import Clip, ExchangeError, ImportRefusedError, ParsedAssignment, ParsedLabel, ParsedPair
from storage.maintenance.integrity import check_store
from tests.helpers.exchange_world import arrive, cells, make_files
from tests.helpers.mutations import EXAMPLES, FEWER_EXAMPLES, holds_for, mutated, mutated_json

if TYPE_CHECKING:
    from collections.abc import Iterator

    from storage import Database

pytestmark = pytest.mark.slow
NOON = datetime(2026, 1, 31, 12, tzinfo=timezone.utc)
FIRST = ParsedLabel(
    choice="A",
    strength="clearly",
    sub_scores={"A": cells("2"), "B": cells("N/A")},
    marks=({"video": "B", "time": 0.5},),
    note="a note",
    seconds=2.5,
    playback={"A": {"plays": 2, "watched": 1.0}},
    created_at=NOON,
)
SECOND = ParsedLabel(choice="tie", sub_scores={"A": cells("1"), "B": cells("1")}, created_at=NOON)
PAIRS = [
    ParsedPair(
        None,
        Clip("a.mp4", None, None, 24.0, 48),
        Clip("b.mp4", None, None, 24.0, 48),
        prompt,
        "sora",
        "kling",
        {"score": 0.5},
        (ParsedAssignment((FIRST, SECOND) if index else (FIRST,), "anna", "spring"),),
        thought_a="first",
        thought_b="second",
    )
    for index, prompt in enumerate(("a red circle, seen\nfrom above", 'a "blue" star'))
]
PIECES = [
    *(b",", b'"', b"\n", b"\r", b"\0", b"\xff", b"\xef\xbb\xbf", b"{", b"}", b"[", b"]", b"'", b"\\ud800", b"\\u0000"),
    *(b"NaN", b"1e999", b"9" * 400, b"9" * 5000, b"[" * 1500, b"../", b"/etc/passwd", b"x" * 300),
    *(b"path_A", b"video_a", b"prompt", b"videos", b"choice", b"null", b"\xf4\x90\x80\x80", b"PAR1", b"\xff\xff\xff\x7f"),
]


class Desk:
    """A store, and a folder with two files that stand for videos, in which tables arrive."""

    def __init__(self, database: Database, folder: Path) -> None:
        self.database, self.folder, self.number, self.taken = database, folder, 0, 0
        make_files(folder, ["a.mp4", "b.mp4"])

    def seed(self, format: str) -> bytes:
        """A valid file of a format."""
        written = write_folder(PAIRS, format, self.folder / format)
        return (self.folder / format / written.files[0]).read_bytes()

    def bring(self, data: bytes, format: str | None) -> None:
        """Read the bytes as a table, and import them where nothing is wrong with them."""
        path = self.folder / ("table.parquet" if format == "parquet" else "table")
        path.write_bytes(data)
        try:
            name, parsed = read_file(path, format)
            resolved, videos = arrive(self.database, parsed, name, f"source {self.number}")
            self.number += 1
            with self.database.read() as session:
                problems = compare(session, resolved).problems
            if not problems:
                with self.database.write() as session:
                    self.taken += insert_import(session, resolved, videos, created_by=None).pairs > 0
        except ImportRefusedError as error:
            problems = list(error.problems)
        except ExchangeError as error:
            assert text_problem(str(error), 2000) is None  # noqa: PT017 - random input: an error is allowed, not required
            return
        lines = data.count(b"\n") + data.count(b"\r") + 1
        for problem in problems:
            assert text_problem(str(problem), 2000) is None, problem
            assert problem.line is None or format == "parquet" or 1 <= problem.line <= lines, problem


@pytest.fixture
def desk(sqlite_database: Database, tmp_path: Path) -> Iterator[Desk]:
    """Such a desk; its store is sound in the end."""
    opened = Desk(sqlite_database, tmp_path / "tables")
    yield opened
    assert check_store(sqlite_database) == ()


@pytest.mark.parametrize("format", [name for name in ROUND_TRIP if name != "hf-dataset"])
@FEWER_EXAMPLES
def test_damaged_tables_give_pairs_or_problems_with_their_lines(desk: Desk, format: str, examples: int) -> None:
    seed = desk.seed(format)
    desk.bring(seed, format)
    assert desk.taken == 1
    holds_for(mutated([seed], PIECES), examples, lambda data: desk.bring(data, format))


@EXAMPLES
def test_any_bytes_are_recognised_or_refused(desk: Desk, examples: int) -> None:
    plain = [b"", b"path_A,path_B,prompt\na.mp4,b.mp4,p\n", b"[{}]", b"{}\n", b"PAR1"]
    others = [
        b'{"caption": "p", "video_1": "a.mp4", "video_2": "b.mp4", "winner": "left"}',
        b"text,left_video,right_video,ta\n",
    ]
    others += [b"[" + others[0] + b"]", others[1] + b"p,a.mp4,b.mp4,same\n"]
    seeds = [*plain, *others, desk.seed("csv"), desk.seed("studio-jsonl")]
    holds_for(mutated(seeds, PIECES), examples, lambda data: desk.bring(data, None))


@FEWER_EXAMPLES
def test_records_with_strange_values_give_pairs_or_problems(desk: Desk, examples: int) -> None:
    records = [json.loads(line) for line in desk.seed("studio-jsonl").splitlines()]
    holds_for(mutated_json(records), examples, lambda text: desk.bring(text.encode() + b"\n", "studio-jsonl"))


@FEWER_EXAMPLES
def test_genai_bench_with_strange_values_gives_pairs_or_problems(desk: Desk, examples: int) -> None:
    objects = json.loads(desk.seed("genai-bench"))
    holds_for(mutated_json([objects]), examples, lambda text: desk.bring(text.encode(), "genai-bench"))


# ---- what was found so ------------------------------------------------------------------------------------------------

RECORD = {"video_a": "a.mp4", "video_b": "b.mp4", "prompt": "p", "annotator": "anna", "choice": "A"}


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"seconds": 10**400}, "seconds is a whole number of more than 64 bits"),
        ({"seconds": 1e999}, "seconds is no finite number"),
        ({"created_at": "0001-01-01T00:00:00+23:59"}, "created_at is 0001-01-01 00:00:00+23:59; in UTC that lies outside"),
        ({"facts": {"x": "\ud800"}}, "x holds the character U+D800"),
        ({"facts": {"\ud800": 1}}, "a key holds the character U+D800"),
        ({"facts": json.dumps({"x": "\ud800"})}, "facts is not a JSON object that can be kept: x holds the"),
        ({"choice": "x" * 100_000}, "choice is 'xxx"),
    ],
)
def test_a_value_that_breaks_a_later_step_is_a_problem(tmp_path: Path, fields: dict[str, object], message: str) -> None:
    path = tmp_path / "labels.jsonl"
    path.write_text(json.dumps(RECORD | fields))
    (problem,) = read_file(path)[1].problems
    assert problem.line == 1
    assert problem.message.startswith(message)
    assert text_problem(problem.message, 1100) is None


@pytest.mark.parametrize("levels", [64, 900, 960, 980, 1000, 5000])
def test_a_deep_value_is_a_problem_whatever_the_stack(tmp_path: Path, levels: int) -> None:
    path = tmp_path / "labels.jsonl"
    path.write_text(json.dumps(RECORD)[:-1] + ', "facts": {"x": ' + "[" * levels + "]" * levels + "}}")
    (problem,) = read_file(path)[1].problems
    assert problem.message == "not JSON that can be kept: it is nested more than 64 levels deep"
