"""A table of pairs whose columns have names of their own: CSV, a JSON array, JSON Lines or Parquet.

    title,first clip,second clip,who won
    "A red circle bounces.",a.mp4,b.mp4,left

    read(path, mapping={"prompt": "title", "video_a": "first clip", "video_b": "second clip", "label": "who won"})

The columns are named by the caller or guessed from usual names (`descore.tables.pair_columns`); labels are words of
`descore.tables.labels`. With a label, the columns `strength`, `note` and those of sub-scores are read as in
`storage.exchange.formats.plain_csv`. Any other column is kept with the pair.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

from descore.errors import TableError
from descore.tables.labels import BOTH_BAD, LabelReader
from descore.tables.pair_columns import found_columns, pair_columns
from storage.exchange.column_use import guessed_annotator, guessed_generators
from storage.exchange.format_reader import FormatReader, PairColumns
from storage.exchange.formats.file_head import file_head
from storage.exchange.formats.plain_csv import OF_LABEL, label_with_details
from storage.exchange.formats.studio_parquet import parquet_rows
from storage.exchange.parsed import ParsedFile, ParsedLabel

if TYPE_CHECKING:
    from descore.tables.read_table import TableRow
    from storage.schema import Choice

_CHOICES: dict[int, Choice] = {1: "A", -1: "B", 0: "tie"}


@dataclass(frozen=True)
class _Layout:
    """What this table's columns are.

    Attributes:
        chosen_first: the first video is the better one, by the names of the columns, and no column has a label.
    """

    columns: PairColumns
    prompt: str
    chosen_first: bool


def read(
    path: Path,
    videos: Path | None = None,
    mapping: Mapping[str, str] | None = None,
    words: Mapping[str, int] | None = None,
) -> ParsedFile:
    """Read such a table.

    Args:
        path: of the table.
        videos: the folder that paths start from, by default the table's.
        mapping: role (`storage.exchange.column_use.ROLES`) to column, "" where a role has none; the others are guessed.
        words: meanings (+1 A, -1 B, 0 a tie) of further words in the column of labels.

    Raises:
        ExchangeError: the file can't be opened.
    """
    reading = FormatReader(path, videos)
    rows = _rows(reading)
    first = next(rows, None)
    if first is None:
        if not reading.parsed().problems:
            reading.problem(None, "has no pairs below its header")
        return reading.parsed()
    layout = _layout(reading, [name for name in first.cells if name], mapping or {})
    if layout is not None:
        labels = _Labels(reading, layout, words or {})
        for row in chain([first], rows):
            _add(reading, row, layout, labels)
    return reading.parsed()


def _rows(reading: FormatReader) -> Iterator[TableRow]:
    kind = file_head(reading.path).kind
    if kind == "parquet":
        return parquet_rows(reading, ())
    if kind == "json":
        return reading.json_array(())
    return reading.json_lines() if kind == "json-lines" else reading.table(())


def _layout(reading: FormatReader, names: Sequence[str], mapping: Mapping[str, str]) -> _Layout | None:
    """Decide what the columns are; None and a problem where that is not clear."""
    guessed = {**guessed_generators(names), **guessed_annotator(names)}
    roles = {role: column for role, column in guessed.items() if role not in mapping}
    try:
        roles |= found_columns(names, reading.name, mapping)
        pair = pair_columns(names, reading.name, mapping)
    except TableError as error:
        reading.read_as(names, roles, ())
        reading.problem(error.line, error.reason)
        return None
    columns = PairColumns(
        a=pair.video_a,
        b=pair.video_b,
        generator_a=roles.get("generator_a", ""),
        generator_b=roles.get("generator_b", ""),
        own=(*roles.values(), *(OF_LABEL if pair.label is not None else ())),
        label=pair.label or (pair.video_a if pair.ordered_by_preference else ""),
        annotator=roles.get("annotator", ""),
    )
    return _Layout(columns, pair.prompt, pair.label is None and pair.ordered_by_preference)


class _Labels:
    """The labels of the rows, in people's words."""

    def __init__(self, reading: FormatReader, layout: _Layout, words: Mapping[str, int]) -> None:
        self._reading, self._layout = reading, layout
        columns = layout.columns
        self._reader = LabelReader(reading.name, columns.label, (columns.a, columns.b), words)
        self._both_bad = {*BOTH_BAD} - {" ".join(word.casefold().split()) for word in words}

    def of(self, row: TableRow) -> ParsedLabel | None:
        """Return a row's label; None where it has none, and None and a problem where its word is not known."""
        column = self._layout.columns.label
        if self._layout.chosen_first:
            return ParsedLabel(choice="A")
        if not column:
            return None
        word = row.text(column)
        try:
            meaning = self._reader.read(word, row.line)
        except TableError:
            known = "A, B, tie, both_bad and the like are known"
            self._reading.problem(row.line, f"{column} is {word[:40]!r}; {known}, other words need a meaning, as in WORD=A")
            return None
        choice = None if meaning is None else _CHOICES[meaning]
        if choice == "tie" and " ".join(word.casefold().split()) in self._both_bad:
            choice = "both_bad"
        return label_with_details(self._reading, row, choice, column)


def _add(reading: FormatReader, row: TableRow, layout: _Layout, labels: _Labels) -> None:
    pair = reading.pair(row, layout.columns, prompt=layout.prompt)
    assignments = reading.assignment(row, labels.of(row), layout.columns.annotator)
    if pair is not None:
        reading.add(replace(pair, assignments=assignments, ordered=not layout.chosen_first))
