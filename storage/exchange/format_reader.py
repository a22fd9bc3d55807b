"""The reader that all formats share: rows with their lines, paths of videos, and every problem of the file.

    reading = FormatReader(path, videos)
    for row in reading.table(("path_A", "path_B", "prompt")):
        a = reading.clip(row, "path_A")                 # None, and a problem kept, where the path can't be used
        ...
    parsed = reading.parsed()

A problem never ends the reading: all of a file's problems are reported together.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from descore.errors import TableError
from descore.prompt import prompt_problem
from descore.tables.csv_records import csv_records
from descore.tables.read_table import TableRow
from descore.tables.text_encoding import decode
from storage.exchange.column_use import column_use
from storage.exchange.parsed import (
    Clip,
    ExchangeError,
    ParsedAssignment,
    ParsedFile,
    ParsedLabel,
    ParsedPair,
    Problem,
)
from storage.foreign_json import read_json, read_json_at

Value = TypeVar("Value")


@dataclass(frozen=True)
class PairColumns:
    """The columns in which a format describes a pair.

    Attributes:
        a, b: the paths of the videos.
        generator_a, generator_b: the models that made them.
        own: every column with a meaning of its own; all others are kept as extra columns.
        label: people's preference, "" where no single column has it.
        annotator: who labelled.
    """

    a: str
    b: str
    generator_a: str
    generator_b: str
    own: tuple[str, ...]
    label: str = ""
    annotator: str = "annotator"

    def roles(self, prompt: str) -> dict[str, str]:
        """Return role -> column, as `storage.exchange.column_use` names the roles."""
        return {
            "video_a": self.a,
            "video_b": self.b,
            "prompt": prompt,
            "label": self.label,
            "generator_a": self.generator_a,
            "generator_b": self.generator_b,
            "annotator": self.annotator,
        }


class FormatReader:
    """The reader of one file; it collects pairs, problems and notes."""

    def __init__(
        self, path: Path, videos: Path | None = None, *, name: str | None = None, folder: Path | None = None
    ) -> None:
        """Prepare to read a file.

        Paths in the file start from `videos`, by default from `folder`, and that is by default the file's own. Only with
        given `videos` may they be absolute or hold "..", as long as they end up inside of it.

        Args:
            name: how messages call the file, by default its own name.
        """
        self.path = path
        self.name = name or path.name
        self._root = Path(os.path.normpath((videos or folder or path.parent).absolute()))
        self._root_is_given = videos is not None
        self._pairs: list[ParsedPair] = []
        self._problems: list[Problem] = []
        self._notes: list[Problem] = []
        self._names: dict[str, None] = {}
        self._roles: dict[str, str] = {}
        self._own: tuple[str, ...] = ()
        self._keeps_unused = True

    def problem(self, line: int | None, message: str) -> None:
        """Keep a reason why the file can't be imported."""
        self._problems.append(Problem(self.name, line, message))

    def note(self, line: int | None, message: str) -> None:
        """Keep something that the reader should know, and that does not stand in the way."""
        self._notes.append(Problem(self.name, line, message))

    def read_as(self, names: Iterable[str], roles: Mapping[str, str], own: Sequence[str], *, kept: bool = True) -> None:
        """Keep which columns there are, and what they are read as.

        Args:
            names: of the columns of a row.
            roles: role -> column.
            own: every column with a meaning of its own.
            kept: whether all others stay with the pairs.
        """
        self._names.update(dict.fromkeys(names))
        self._roles, self._own, self._keeps_unused = dict(roles), tuple(own), kept

    def add(self, pair: ParsedPair) -> None:
        """Keep a pair."""
        self._pairs.append(pair)

    def pair(
        self,
        row: TableRow,
        columns: PairColumns,
        *,
        clips: tuple[Clip | None, Clip | None] | None = None,
        prompt: str = "prompt",
    ) -> ParsedPair | None:
        """Read the pair of a row, without its label; None and a problem where a video is missing.

        Args:
            clips: the two videos, where the format does not name them in two columns.
            prompt: the column of the prompt.
        """
        self.read_as(row.cells, columns.roles(prompt), columns.own)
        a, b = (self.clip(row, columns.a), self.clip(row, columns.b)) if clips is None else clips
        text = self.prompt(row, prompt)
        if a is None or b is None:
            return None
        return ParsedPair(
            line=row.line,
            a=a,
            b=b,
            prompt=text,
            generator_a=row.text(columns.generator_a) or None,
            generator_b=row.text(columns.generator_b) or None,
            extra_columns=other_columns(row, columns.own),
        )

    def add_labelled(self, row: TableRow, pair: ParsedPair | None, label: ParsedLabel | None) -> None:
        """Keep a pair with the label of its row; nothing without a pair."""
        if pair is not None:
            self.add(replace(pair, assignments=self.assignment(row, label)))

    def parsed(self) -> ParsedFile:
        """All that was found."""
        columns = column_use(self._names, self._roles, self._own, kept=self._keeps_unused)
        return ParsedFile(self.name, tuple(self._pairs), tuple(self._problems), tuple(self._notes), columns)

    def clip(self, row: TableRow, column: str, sha256: str | None = None) -> Clip | None:
        """Resolve the video that a cell names; None and a problem where it names none that may be read."""
        return self.clip_at(row.line, row.cells.get(column), column, sha256)

    def clip_at(self, line: int | None, name: Any, what: str, sha256: str | None = None) -> Clip | None:
        """Resolve the video of that name; `what` names it in a problem."""
        if not isinstance(name, str) or not name.strip() or "\0" in name:
            self.problem(line, f"{what} names no video")
            return None
        path = Path(os.path.normpath(self._root / name))  # not `resolve`: links inside of the folder stay what they are
        leads_out = Path(name).is_absolute() or ".." in Path(name).parts
        if self._root not in path.parents or (leads_out and not self._root_is_given):
            self.problem(line, f"video {name}: the path leads out of the folder of the videos")
            return None
        return Clip(name, path, sha256)

    def prompt(self, row: TableRow, column: str = "prompt") -> str:
        """Return the prompt; "" and a problem where it is none that can be used."""
        text = row.text(column)
        problem = prompt_problem(text)
        if problem is not None:
            self.problem(row.line, f"{column} {problem}")
            return ""
        return text

    def one_of(self, row: TableRow, column: str, known: Mapping[str, Value]) -> Value | None:
        """Look up a cell in a table of words; None for an empty cell, and None and a problem for an unknown word."""
        text = row.text(column)
        if not text:
            return None
        if text not in known:
            self.problem(row.line, f"{column} is {text!r}; expected {', '.join(known)}")
            return None
        return known[text]

    def assignment(
        self, row: TableRow, label: ParsedLabel | None, annotator: str = "annotator"
    ) -> tuple[ParsedAssignment, ...]:
        """Make the assignment of a row with one label, by the person in the column `annotator` if there is one."""
        if label is None:
            return ()
        return (ParsedAssignment((label,), annotator=row.text(annotator) or None, line=row.line),)

    def table(self, required: Sequence[str], one_of: Sequence[str] = ()) -> Iterator[TableRow]:
        """Yield the rows of a CSV, with the separator and the encoding that it has.

        Args:
            required: columns that must be there. one_of: columns of which at least one must be there.
        """
        text = self.text()
        if text is None:
            return
        records = self._records(text)
        header = next(records, None)
        if header is None:
            expected = f"; expected the columns {', '.join(required)}" if required else ""
            self.problem(None, f"there is no table in it{expected}")
            return
        columns = [column.strip() for column in header[1]]
        self._names.update(dict.fromkeys(column for column in columns if column))
        missing = [name for name in required if name not in columns]
        if one_of and not set(one_of) & set(columns):
            missing.append(" or ".join(one_of))
        repeated = sorted({name for name in columns if name and columns.count(name) > 1})
        if missing:
            self.problem(header[0], f"lacks the columns {', '.join(missing)}; it has {', '.join(columns)}")
        if repeated:
            self.problem(header[0], f"repeats the columns {', '.join(repeated)}")
        if not missing and not repeated:
            yield from self._rows(records, columns)

    def _rows(self, records: Iterator[tuple[int, list[str]]], columns: list[str]) -> Iterator[TableRow]:
        for line, cells in records:
            if len(cells) != len(columns):
                self.problem(line, f"has {len(cells)} cells, the header has {len(columns)}")
            else:
                nameless = [cell for column, cell in zip(columns, cells, strict=True) if not column and cell.strip()]
                if nameless:
                    self.problem(line, f"holds {nameless[0][:40]!r} in a column without a name; name it in the header")
                yield TableRow(line, {column: cell for column, cell in zip(columns, cells, strict=True) if column})

    def _records(self, text: str) -> Iterator[tuple[int, list[str]]]:
        """Yield the records of a CSV that are not blank, each with the line that it begins on."""
        try:
            _, records = csv_records(text, self.name)
            yield from records
        except TableError as error:
            self.problem(error.line, error.reason)

    def text(self) -> str | None:
        """Read the file's text; None and a problem where it is in no encoding that is known.

        Raises:
            ExchangeError: it can't be read at all.
        """
        try:
            data = self.path.read_bytes()
        except OSError as error:
            raise ExchangeError(f"can't read {self.name}: {error.strerror or error}") from error
        try:
            decoded = decode(data, self.name)
        except TableError as error:
            self.problem(error.line, error.reason)
            return None
        if decoded.note is not None:
            self.note(decoded.note.line, decoded.note.reason)
        return decoded.text

    def json_lines(self, required: Sequence[str] = ()) -> Iterator[TableRow]:
        """Yield the objects of a JSON Lines file that have the required keys; the others are problems."""
        for number, line in enumerate((self.text() or "").split("\n"), start=1):
            if line.strip():
                try:
                    value = read_json(line)
                except ValueError as error:
                    self.problem(number, str(error))
                    continue
                yield from self._object(number, value, required)

    def json_array(self, required: Sequence[str]) -> Iterator[TableRow]:
        """Yield the objects of a JSON file that holds one array, each with the line that it begins on.

        Args:
            required: keys that each object must have; an object without them is a problem.
        """
        text = self.text()
        if text is None:
            return
        position, line, counted = _after_blanks(text, 0), 1, 0
        if text[position : position + 1] != "[":
            self.problem(1, "not a JSON array of objects")
            return
        position = _after_blanks(text, position + 1)
        while text[position : position + 1] != "]":
            line, counted = line + text.count("\n", counted, position), position
            try:
                value, position = read_json_at(text, position)
            except ValueError as error:
                self.problem(line, str(error))
                return
            yield from self._object(line, value, required)
            position = _after_blanks(text, position)
            if text[position : position + 1] == ",":
                position = _after_blanks(text, position + 1)
            elif text[position : position + 1] != "]":
                self.problem(line, "not JSON: the array does not go on with a comma or end behind this object")
                return

    def _object(self, line: int, value: Any, required: Sequence[str]) -> Iterator[TableRow]:
        if not isinstance(value, dict):
            self.problem(line, f"not an object but {type(value).__name__}")
            return
        missing = [name for name in required if name not in value]
        if missing:
            self.problem(line, f"lacks {', '.join(missing)}; an object needs {', '.join(required)}")
        else:
            yield TableRow(line, value)


def other_columns(row: TableRow, used: Sequence[str]) -> dict[str, Any]:
    """Return the cells of unused columns that are not empty: they are kept with the pair."""
    return {name: value for name, value in row.cells.items() if name not in used and value not in ("", None)}


def _after_blanks(text: str, position: int) -> int:
    while position < len(text) and text[position] in " \t\r\n":
        position += 1
    return position
