"""Pairs of videos with their prompt, read from any table.

pairs = read_pairs(Path("pairs.csv"))
pairs.rows[0].path_a, pairs.rows[0].prompt, pairs.rows[0].label
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from descore.errors import TableError
from descore.tables.labels import LabelReader
from descore.tables.pair_columns import PairColumns, pair_columns
from descore.tables.read_table import Table, TableRow, read_table


@dataclass(frozen=True, slots=True)
class PairRow:
    """One pair of a table; kept small, since tables have many.

    Attributes:
        row: counted from 1, blank rows left out.
        line: where it begins in the file.
        path_a: first video, as the table has it.
        path_b: second video, as the table has it.
        prompt: the text that both were made from; nothing is checked.
        label: +1 the first is better, -1 the second, 0 neither; None where there is none, or none was asked for.
    """

    row: int
    line: int
    path_a: str
    path_b: str
    prompt: str
    label: int | None = None


@dataclass(frozen=True)
class PairTable:
    """All pairs of a table.

    Attributes:
        path: of the table.
        folder: where relative paths start.
        columns: which column said what.
        table_columns: names of all columns.
        rows: the pairs, in order.
        notes: what the reader should know.
    """

    path: Path
    folder: Path
    columns: PairColumns
    table_columns: tuple[str, ...]
    rows: tuple[PairRow, ...]
    notes: tuple[str, ...] = ()


def read_pairs(
    path: Path,
    mapping: Mapping[str, str] | None = None,
    videos: Path | None = None,
    labels: bool = False,
    words: Mapping[str, int] | None = None,
) -> PairTable:
    """Read the pairs of a table.

    Args:
        path: a CSV, JSON, JSON Lines or Parquet file.
        mapping: role (video_a, video_b, prompt, label) to column; the others are guessed.
        videos: where relative paths start, by default the table's folder.
        labels: read people's preferences too.
        words: meanings (+1, -1, 0) of further words in the column of labels.

    Raises:
        TableError: no table that can be read, no rows, columns missing, a row with other cells than the header has, or an
            unknown label; with line and column.
    """
    table = read_table(path)
    columns = pair_columns(table.columns, path.name, mapping)
    label = _label_of(columns, path.name, words) if labels else lambda _: None
    cell = _cell_reader(table)

    def pair(number: int, row: TableRow) -> PairRow:
        paths = cell(row, columns.video_a), cell(row, columns.video_b)
        return PairRow(number, row.line, *paths, cell(row, columns.prompt), label(row))

    rows = tuple(pair(number, row) for number, row in enumerate(table.rows, start=1))
    if not rows:
        raise TableError(path.name, "has no pairs below its header")
    return PairTable(path, videos or path.parent, columns, table.columns, rows, table.notes)


def _cell_reader(table: Table) -> Callable[[TableRow, str], str]:
    """Return a function that reads a cell as text; texts that repeat are kept once."""
    once: dict[str, str] = {}

    def read(row: TableRow, column: str) -> str:
        if column not in row.cells:
            raise TableError(table.path.name, "this object lacks it", row.line, column)
        value = row.cells[column]
        if value is not None and not isinstance(value, str):
            reason = f"must be text and is a {type(value).__name__}"
            raise TableError(table.path.name, reason, row.line, column)
        return once.setdefault(value or "", value or "")

    return read


def _label_of(columns: PairColumns, name: str, words: Mapping[str, int] | None) -> Callable[[TableRow], int | None]:
    if columns.label is None:
        if columns.ordered_by_preference:
            return lambda _: 1
        raise TableError(name, "has no column of labels; name it by --map label=COLUMN")
    column = columns.label
    reader = LabelReader(name, column, (columns.video_a, columns.video_b), words)
    return lambda row: reader.read(row.cells.get(column), row.line)
