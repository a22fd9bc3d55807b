"""Tables as spreadsheets, programs and accidents write them."""

from __future__ import annotations

import builtins
import json
from pathlib import Path
from typing import Any

import pytest

from descore.errors import TableError
from descore.tables.read_table import read_table
from tests.helpers.mutations import EXAMPLES, holds_for, mutated

PLAIN = "path_A,path_B,prompt\r\na.mp4,b.mp4,a red square\r\n"
ROW = {"path_A": "a.mp4", "path_B": "b.mp4", "prompt": "a red square"}


def written(folder: Path, content: bytes | str, name: str = "pairs.csv") -> Path:
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def rows(path: Path) -> list[dict[str, Any]]:
    return [dict(row.cells) for row in read_table(path).rows]


@pytest.mark.parametrize(
    "content",
    [
        PLAIN,
        "\ufeff" + PLAIN,
        PLAIN.replace(",", ";"),
        "\ufeff" + PLAIN.replace(",", ";"),
        PLAIN.replace(",", "\t"),
        "sep=,\r\n" + PLAIN,
        "sep=;\r\n" + PLAIN.replace(",", ";"),
        "SEP=|\n" + PLAIN.replace(",", "|"),
        '"sep=;"\n' + PLAIN.replace(",", ";"),
        PLAIN.replace("\r\n", "\n"),
        PLAIN.replace("\r\n", "\r"),
        PLAIN.replace("path_A,path_B,prompt", '"path_A","path_B","prompt"').replace(",", ";"),
        "\r\n" + PLAIN + "\r\n,,\r\n",
        "path_A,path_B,prompt,,\r\na.mp4,b.mp4,a red square,,\r\n",
        " path_A , path_B , prompt \na.mp4,b.mp4,a red square\n",
    ],
)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "utf-16-le", "utf-16-be"])
def test_what_spreadsheets_write_is_the_same_table(tmp_path: Path, content: str, encoding: str) -> None:
    if content.startswith("\ufeff") and encoding == "utf-16":
        content = content[1:]  # Python writes the mark itself
    assert rows(written(tmp_path, content.encode(encoding))) == [ROW]


def test_the_separator_may_stand_in_a_quoted_cell(tmp_path: Path) -> None:
    path = written(tmp_path, '\ufeffpath_A;path_B;prompt\r\na.mp4;b.mp4;"a red square, moves; and stops"\r\n')
    assert rows(path)[0]["prompt"] == "a red square, moves; and stops"


def test_windows_1252_is_read_with_a_note(tmp_path: Path) -> None:
    path = written(tmp_path, "path_A;path_B;prompt\r\na;b;ein grüner Würfel – schön\r\n".encode("cp1252"))
    table = read_table(path)
    assert next(table.rows).text("prompt") == "ein grüner Würfel – schön"
    assert "pairs.csv, line 2: byte 0xfc is not UTF-8; the table is read as Windows-1252" in table.notes[0]
    assert read_table(written(tmp_path, PLAIN)).notes == ()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("a,b,c\nü,1,2\n".encode() + b"\xff,1,2\n", "line 3: byte 0xff is not UTF-8, though other letters are"),
        (b"a,b,c\n1,2,3\n1,2,\x81\n", "line 3: byte 0x81 is neither UTF-8 nor Windows-1252"),
        ("a,b\n1,2\n".encode("utf-16-le") + b"\x00\xd8", "line 3: not UTF-16-LE from here on"),
        ("a,b\n1,\0\n", "line 2: holds a zero byte"),
        ("", "is empty"),
        ("\r\n,,\r\n", "is empty"),
        ("[]", "is empty"),
        ("a,b,a\n1,2,3\n", "line 1: repeats the columns a"),
        ("a,b,\n1,2,3\n", "line 2, column 3: holds '3' and has no name"),
        (PLAIN + "c.mp4,d.mp4,a red square, running left\n", "line 3: 4 cells, and the header has 3; quote commas"),
        (PLAIN + "c.mp4,d.mp4\n", "line 3: 2 cells, and the header has 3"),
        (PLAIN + '\r\nc.mp4,d.mp4,"open\n', "line 4: not a CSV from here on"),
        ("sep=;\na;b\n1;2;3\n", "line 3: 3 cells, and the header has 2"),
        ('[{"a": 1},\n {"a": 2}\n {"a": 3}]', "line 2: not JSON: the array neither ends"),
        ('[{"a": 1},\n {"a": }]', "line 2: not JSON"),
        ('[{"a": 1},\n 7]', "line 2: each row must be an object with its columns, and this is a int"),
        ('{"a": 1}\n\n{"a": \n', "line 3: not JSON"),
        ('{\n"a": 1}\n', "line 1: not JSON: .* one object a line"),
        ("[" * 5000, "line 1: not JSON"),
        (b"PAR1 and nothing more", "is a Parquet that can't be opened"),
    ],
)
def test_a_fault_is_named_with_its_line(tmp_path: Path, content: str | bytes, message: str) -> None:
    with pytest.raises(TableError, match=rf"^pairs.csv(:|,) ?{message}"):
        rows(written(tmp_path, content))


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(TableError, match=r"none.csv: can't be read: No such file"):
        read_table(tmp_path / "none.csv")


def test_json_and_json_lines(tmp_path: Path) -> None:
    values = [ROW, {**ROW, "prompt": "two\nlines", "score": 1.5, "more": {"x": [1]}}]
    for text in (json.dumps(values), json.dumps(values, indent=2), "\n".join(map(json.dumps, values)) + "\n\n"):
        table = read_table(written(tmp_path, text, "pairs.json"))
        assert table.columns == ("path_A", "path_B", "prompt")
        assert [dict(row.cells) for row in table.rows] == values
    lines = [row.line for row in read_table(written(tmp_path, json.dumps(values, indent=2))).rows]
    assert lines == [2, 7]


def test_parquet(tmp_path: Path) -> None:
    pyarrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    path = tmp_path / "pairs.parquet"
    parquet.write_table(pyarrow.table({name: [value] * 5000 for name, value in ROW.items()}), path)
    table = read_table(path)
    assert table.columns == tuple(ROW)
    read = list(table.rows)
    assert (len(read), read[4999].line, dict(read[4999].cells)) == (5000, 5000, ROW)
    path.write_bytes(path.read_bytes()[:200] + b"\xff" * 200 + path.read_bytes()[400:])
    with pytest.raises(TableError, match=r"pairs.parquet"):
        rows(path)


def test_parquet_without_pyarrow_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without(name: str, *rest: Any, **named: Any) -> Any:
        if name.startswith("pyarrow"):
            raise ImportError(name)
        return real(name, *rest, **named)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(TableError, match=r"pairs.parquet: a Parquet table needs pyarrow: pip install pyarrow"):
        read_table(written(tmp_path, b"PAR1", "pairs.parquet"))


@EXAMPLES
def test_damaged_tables_give_rows_or_one_typed_error(tmp_path: Path, examples: int) -> None:
    seeds = [
        PLAIN.encode(),
        ("sep=;\n" + PLAIN.replace(",", ";")).encode("utf-16"),
        json.dumps([ROW, ROW], indent=1).encode(),
    ]
    pieces = [b",", b'"', b"\n", b"\r", b"\0", b"\xff", b"\xef\xbb\xbf", b"sep=", b"{", b"[", b"]", b"PAR1", b"x" * 140_000]

    def check(data: bytes) -> None:
        try:
            rows(written(tmp_path, data))
        except TableError as error:
            assert "pairs.csv" in str(error)  # noqa: PT017 - random input: an error is allowed, not required

    holds_for(mutated(seeds, pieces), examples, check)
