"""Reading a file of pairs: where its videos lie, its rows with their lines, and everything that is wrong with it.

    reading = FormatReader(path, videos)
    for row in reading.table(("path_A", "path_B", "prompt")):
        a = reading.clip(row, "path_A")                 # None, and a problem kept, where the path can't be used
        ...
    return reading.parsed()

A problem never ends the reading: all of a file's problems are reported together.
"""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from storage.exchange.parsed import (
    Clip,
    ExchangeError,
    ParsedAssignment,
    ParsedFile,
    ParsedLabel,
    ParsedPair,
    Problem,
    storable,
)

Value = TypeVar("Value")
_LONGEST_CELL = 1 << 24  # characters; a chain of thought outgrows the csv module's own limit


@dataclass(frozen=True)
class Row:
    """One row or object of a file. line: the first line that it stands on. cells: by column, never None in a CSV."""

    line: int
    cells: Mapping[str, Any]

    def text(self, column: str) -> str:
        """A cell as text, "" where the column or its value is missing."""
        value = self.cells.get(column)
        return "" if value is None else str(value)


class FormatReader:
    """What reading one file has found so far."""

    def __init__(
        self, path: Path, videos: Path | None = None, *, name: str | None = None, folder: Path | None = None
    ) -> None:
        """name: how messages call the file, by default its own name.

        Paths in the file start from `videos`, by default from `folder`, and that is by default the file's own. Only with
        given `videos` may they be absolute or hold "..", as long as they end up inside of it.
        """
        self.path = path
        self.name = name or path.name
        self._root = os.path.abspath(videos or folder or path.parent)
        self._root_is_given = videos is not None
        self._pairs: list[ParsedPair] = []
        self._problems: list[Problem] = []
        self._notes: list[Problem] = []

    def problem(self, line: int | None, message: str) -> None:
        """Keep a reason why the file can't be imported."""
        self._problems.append(Problem(self.name, line, message))

    def note(self, line: int | None, message: str) -> None:
        """Keep something that the reader should know, and that does not stand in the way."""
        self._notes.append(Problem(self.name, line, message))

    def add(self, pair: ParsedPair) -> None:
        """Keep a pair."""
        self._pairs.append(pair)

    def parsed(self) -> ParsedFile:
        """All that was found."""
        return ParsedFile(self.name, tuple(self._pairs), tuple(self._problems), tuple(self._notes))

    def clip(self, row: Row, column: str, sha256: str | None = None) -> Clip | None:
        """The video that a cell names; None and a problem where the cell names none that may be read."""
        return self.clip_at(row.line, row.cells.get(column), column, sha256)

    def clip_at(self, line: int | None, name: Any, what: str, sha256: str | None = None) -> Clip | None:
        """The video of that name; `what` calls it in a problem."""
        if not isinstance(name, str) or not name.strip() or "\0" in name:
            self.problem(line, f"{what} names no video")
            return None
        path = os.path.normpath(os.path.join(self._root, name))
        leads_out = os.path.isabs(name) or (".." in name and ".." in Path(name).parts)
        if not path.startswith(os.path.join(self._root, "")) or (leads_out and not self._root_is_given):
            self.problem(line, f"video {name}: the path leads out of the folder of the videos")
            return None
        return Clip(name, Path(path), sha256)

    def prompt(self, row: Row, column: str = "prompt") -> str:
        """The prompt; "" and a problem without one."""
        text = row.text(column)
        if not text.strip():
            self.problem(row.line, f"{column} is empty: a pair needs the prompt that its videos were made from")
            return ""
        if not storable(text):
            self.problem(row.line, f"{column} holds a character that can't be stored")
            return ""
        return text

    def one_of(self, row: Row, column: str, known: Mapping[str, Value]) -> Value | None:
        """What a cell stands for; None for an empty one; None and a problem for a word that is not known."""
        text = row.text(column)
        if not text:
            return None
        if text not in known:
            self.problem(row.line, f"{column} is {text!r}; expected {', '.join(known)}")
            return None
        return known[text]

    def assignment(self, row: Row, label: ParsedLabel | None) -> tuple[ParsedAssignment, ...]:
        """The assignment of a row with one label, by the person in the column `annotator` if there is one."""
        if label is None:
            return ()
        return (ParsedAssignment((label,), annotator=row.text("annotator") or None, line=row.line),)

    def table(self, required: Sequence[str], one_of: Sequence[str] = ()) -> Iterator[Row]:
        """The rows of a CSV in UTF-8.

        Args:
            required: columns that must be there. one_of: columns of which at least one must be there.
        """
        text = self.text()
        if text is None:
            return
        records = self._records(text)
        header = next(records, None)
        if header is None:
            self.problem(None, f"there is no table in it; expected the columns {', '.join(required)}")
            return
        columns = header[1]
        missing = [name for name in required if name not in columns]
        if one_of and not set(one_of) & set(columns):
            missing.append(" or ".join(one_of))
        repeated = sorted({name for name in columns if columns.count(name) > 1})
        if missing:
            self.problem(header[0], f"lacks the columns {', '.join(missing)}; it has {', '.join(columns)}")
        if repeated:
            self.problem(header[0], f"repeats the columns {', '.join(repeated)}")
        if not missing and not repeated:
            yield from self._rows(records, columns)

    def _rows(self, records: Iterator[tuple[int, list[str]]], columns: list[str]) -> Iterator[Row]:
        for line, cells in records:
            if len(cells) != len(columns):
                self.problem(line, f"has {len(cells)} cells, the header has {len(columns)}")
            else:
                yield Row(line, dict(zip(columns, cells, strict=True)))

    def _records(self, text: str) -> Iterator[tuple[int, list[str]]]:
        """The records of a CSV that are not blank, each with the line that it begins on."""
        csv.field_size_limit(max(csv.field_size_limit(), _LONGEST_CELL))
        reader = csv.reader(io.StringIO(text, newline=""), strict=True)
        while True:
            line = reader.line_num + 1
            try:
                cells = next(reader)
            except StopIteration:
                return
            except csv.Error as error:
                self.problem(line, f"not a CSV from here on: {error}")
                return
            if cells:
                yield line, cells

    def text(self) -> str | None:
        """The file's text; None and a problem where it is not UTF-8.

        Raises:
            ExchangeError: it can't be read at all.
        """
        try:
            data = self.path.read_bytes()
        except OSError as error:
            raise ExchangeError(f"can't read {self.name}: {error.strerror or error}") from error
        try:
            return data.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            line = data[: error.start].count(b"\n") + 1
            self.problem(line, f"byte 0x{data[error.start]:02x} is not UTF-8; save the file as UTF-8 and try again")
            return None

    def json_lines(self) -> Iterator[Row]:
        """The objects of a JSON Lines file."""
        for number, line in enumerate((self.text() or "").split("\n"), start=1):
            if line.strip():
                try:
                    value = json.loads(line)
                except (ValueError, RecursionError) as error:
                    self.problem(number, f"not JSON: {error}")
                    continue
                yield from self._object(number, value)

    def json_array(self) -> Iterator[Row]:
        """The objects of a JSON file that holds one array, each with the line that it begins on."""
        text = self.text()
        if text is None:
            return
        decoder, position, line, counted = json.JSONDecoder(), _after_blanks(text, 0), 1, 0
        if text[position : position + 1] != "[":
            self.problem(1, "not a JSON array of objects")
            return
        position = _after_blanks(text, position + 1)
        while text[position : position + 1] != "]":
            line, counted = line + text.count("\n", counted, position), position
            try:
                value, position = decoder.raw_decode(text, position)
            except (ValueError, RecursionError) as error:
                self.problem(line, f"not JSON: {error}")
                return
            yield from self._object(line, value)
            position = _after_blanks(text, position)
            if text[position : position + 1] == ",":
                position = _after_blanks(text, position + 1)
            elif text[position : position + 1] != "]":
                self.problem(line, "not JSON: the array does not go on with a comma or end behind this object")
                return

    def _object(self, line: int, value: Any) -> Iterator[Row]:
        if isinstance(value, dict):
            yield Row(line, value)
        else:
            self.problem(line, f"not an object but {type(value).__name__}")


def other_columns(row: Row, used: Sequence[str]) -> dict[str, Any]:
    """The cells that nobody has used and that are not empty: they are kept with the pair."""
    return {name: value for name, value in row.cells.items() if name not in used and value not in ("", None)}


def _after_blanks(text: str, position: int) -> int:
    while position < len(text) and text[position] in " \t\r\n":
        position += 1
    return position
