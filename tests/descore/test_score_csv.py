"""The table of pairs that `descore score` reads and the one that it writes, damaged in every way."""

from __future__ import annotations

from pathlib import Path

import pytest

from descore.score_csv import COLUMNS, Pair, _resume, read_pairs
from tests.helpers.mutations import EXAMPLES, holds_for, mutated

SEED = b'path_A,path_B,prompt,note\r\na.mp4,b.mp4,"a red circle, seen\nfrom above",x\r\nc.mp4,d.mp4,a star,\r\n'
PIECES = [b",", b'"', b"\n", b"\r", b"\0", b"\xff", b"\xef\xbb\xbf", b"prompt", b"path_A", b"x" * 140_000]


def write(folder: Path, content: bytes) -> Path:
    (folder / "pairs.csv").write_bytes(content)
    return folder / "pairs.csv"


@EXAMPLES
def test_damaged_tables_give_pairs_or_one_sentence(tmp_path: Path, examples: int) -> None:
    def check(data: bytes) -> None:
        try:
            pairs = read_pairs(write(tmp_path, data))
        except ValueError as error:
            assert "pairs.csv" in str(error)  # noqa: PT017 - random input: an error is allowed, not required
            return
        assert [pair.row for pair in pairs] == list(range(1, len(pairs) + 1))

    assert len(read_pairs(write(tmp_path, SEED))) == 2
    holds_for(mutated([SEED], PIECES), examples, check)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (b"a.mp4,b.mp4,a circle, red,", r"line 3: 5 cells, and the header has 4; quote commas"),
        (b"a.mp4,b.mp4", r"line 3: 2 cells, and the header has 4"),
        (b'a.mp4,b.mp4,"open,', r"line 3: not a CSV from here on"),
        (b'a.mp4,b.mp4,"a" circle,', r"line 3: not a CSV from here on"),
    ],
)
def test_a_row_that_was_not_quoted_is_refused_with_its_line(tmp_path: Path, row: bytes, message: str) -> None:
    path = write(tmp_path, b"path_A,path_B,prompt,note\r\na.mp4,b.mp4,fine,\r\n" + row + b"\r\n")
    with pytest.raises(ValueError, match=message):
        read_pairs(path)


def test_blank_lines_do_not_count(tmp_path: Path) -> None:
    path = write(tmp_path, b"\r\npath_A,path_B,prompt\r\n\r\na,b,p\r\n\r\n")
    assert read_pairs(path) == [Pair(1, "a", "b", "p", tmp_path)]


@EXAMPLES
def test_a_damaged_result_is_cut_behind_its_last_whole_row_or_refused(tmp_path: Path, examples: int) -> None:
    pairs = [Pair(number, "a", "b", f"prompt {number}", tmp_path) for number in (1, 2, 3)]
    keys = [pair.key("c", "think") for pair in pairs]
    rows = [f'{row},a,b,prompt,c,think,1,2,3,4,,,,,,,"a thought,\nof two lines",,,{key}\r\n' for row, key in keys]
    seed = (",".join(COLUMNS) + "\r\n" + "".join(rows)).encode()
    out = tmp_path / "out.csv"

    def check(data: bytes) -> None:
        out.write_bytes(data)
        try:
            done, _ = _resume(out, set(keys))
        except ValueError as error:
            assert str(out) in str(error)  # noqa: PT017 - random input: an error is allowed, not required
            assert out.read_bytes() == data
            return
        left = out.read_bytes()
        assert data.startswith(left)
        assert _resume(out, set(keys))[0] == done
        assert out.read_bytes() == left

    out.write_bytes(seed)
    assert _resume(out, set(keys)) == (set(keys), 0)
    holds_for(mutated([seed], PIECES), examples, check)
