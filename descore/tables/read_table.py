"""The one reader of tables: rows by column, from CSV, JSON, JSON Lines or Parquet.

    table = read_table(Path("pairs.csv"))
    table.columns, table.notes
    [row.text("prompt") for row in table.rows]

What a file is, its content says: names are wrong too often. Rows come as they are read, so a table is never held twice.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

from descore.errors import TableError
from descore.tables.csv_records import checked_cells, csv_records, named_columns
from descore.tables.json_rows import json_rows
from descore.tables.text_encoding import decode

_PARQUET = b"PAR1"
_ROWS_AT_ONCE = 4096  # of a Parquet
_WANTS_PYARROW = "a Parquet table needs pyarrow: pip install pyarrow, or save the table as CSV"


@dataclass(frozen=True)
class TableRow:
    """One row of a table.

    Attributes:
        line: the first line that it stands on; of a Parquet the number of the row, from 1.
        cells: by column; text in a CSV, any JSON value elsewhere.
    """

    line: int
    cells: Mapping[str, Any]

    def text(self, column: str) -> str:
        """Return a cell as text, "" where the column or its value is missing."""
        value = self.cells.get(column)
        return "" if value is None else str(value)


@dataclass(frozen=True)
class Table:
    """An opened table.

    Attributes:
        path: of its file.
        columns: names, in their order; of JSON those of the first object.
        rows: to be walked through once; errors in the middle of a file come from here, as `TableError`.
        notes: what the reader should know, such as a guessed encoding.
    """

    path: Path
    columns: tuple[str, ...]
    rows: Iterator[TableRow]
    notes: tuple[str, ...] = ()


def read_table(path: Path) -> Table:
    """Open a table.

    Raises:
        TableError: it can't be read, is empty, or has no header; from its `rows`: a fault further down, with its line.
    """
    try:
        with path.open("rb") as file:
            is_parquet = file.read(len(_PARQUET)) == _PARQUET
        if is_parquet:
            return _parquet(path)
        data = path.read_bytes()
    except OSError as error:
        raise TableError(path.name, f"can't be read: {error.strerror or error}") from error
    decoded = decode(data, path.name)
    text, notes = decoded.text, tuple[str, ...]()
    if decoded.note is not None:
        notes = (f"{path.name}, line {decoded.note.line}: {decoded.note.reason}",)
    if "\0" in text:
        line = text.count("\n", 0, text.index("\0")) + 1
        raise TableError(path.name, "holds a zero byte; it is no table of text", line)
    if text.lstrip()[:1] in ("[", "{"):
        return _json(path, text, notes)
    return _csv(path, text, notes)


def _csv(path: Path, text: str, notes: tuple[str, ...]) -> Table:
    _, records = csv_records(text, path.name)
    header = next(records, None)
    if header is None:
        raise TableError(path.name, "is empty; a table has a header and rows")
    columns = named_columns(header[1], path.name, header[0])
    rows = (TableRow(record[0], checked_cells(record, columns, path.name)) for record in records)
    return Table(path, tuple(column for column in columns if column), rows, notes)


def _json(path: Path, text: str, notes: tuple[str, ...]) -> Table:
    rows = (TableRow(line, cells) for line, cells in json_rows(text, path.name))
    first = next(rows, None)
    if first is None:
        raise TableError(path.name, "is empty; a table has rows")
    return Table(path, tuple(first.cells), chain([first], rows), notes)


def _parquet(path: Path) -> Table:
    try:
        from pyarrow import ArrowException
        from pyarrow.parquet import ParquetFile
    except ImportError as error:
        raise TableError(path.name, _WANTS_PYARROW) from error
    try:
        file = ParquetFile(path)
    except (ArrowException, OSError, ValueError) as error:
        raise TableError(path.name, f"is a Parquet that can't be opened ({error}); fetch or write it again") from error

    def rows() -> Iterator[TableRow]:
        number = 0
        try:
            for batch in file.iter_batches(_ROWS_AT_ONCE):
                for cells in batch.to_pylist():
                    number += 1
                    yield TableRow(number, cells)
        except (ArrowException, OSError, ValueError) as error:
            raise TableError(path.name, f"is damaged from here on ({error}); fetch or write it again", number + 1) from error

    return Table(path, tuple(file.schema_arrow.names), rows())
