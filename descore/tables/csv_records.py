"""Records of a CSV text: strict, with whichever separator it has, and the line that each begins on.

    separator, records = csv_records("sep=;\\npath_A;path_B\\na.mp4;b.mp4\\n", "pairs.csv")
    list(records)                                       # [(2, ["path_A", "path_B"]), (3, ["a.mp4", "b.mp4"])]

Python's own reader is not strict by default: an unquoted comma cuts a cell and an open quote swallows rows, without a word.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator, Sequence

from descore.errors import TableError

SEPARATORS = (",", ";", "\t")
_SEP_LINE = re.compile(r'\s*"?sep=(.)"?[,;\t ]*(?:\r\n|\r|\n|$)', re.IGNORECASE)
_LONGEST_CELL = 1 << 24  # characters; a chain of thought outgrows the csv module's own limit
Record = tuple[int, list[str]]


def csv_records(text: str, name: str) -> tuple[str, Iterator[Record]]:
    """Split a CSV into records that are not blank.

    Args:
        text: of the whole file. Its first line may be `sep=X`, as Excel reads and writes it.
        name: of the file, for messages.

    Returns:
        The separator; and (line, cells) for the header and each row. Cells are as they stand, a record may have any number.

    Raises:
        TableError: from the iterator, where quotes break off; with the line.
    """
    said = _SEP_LINE.match(text)
    skipped = 1 if said else 0
    body = text[said.end() :] if said else text
    separator = said.group(1) if said else _separator(body)
    return separator, _records(body, separator, name, skipped)


def named_columns(header: Sequence[str], name: str, line: int) -> list[str]:
    """Return the names of a header's columns, without the blanks around them; "" for a column without a name.

    Raises:
        TableError: two columns share a name.
    """
    columns = [cell.strip() for cell in header]
    repeated = sorted({column for column in columns if column and columns.count(column) > 1})
    if repeated:
        raise TableError(name, f"repeats the columns {', '.join(repeated)}; give each a name of its own", line)
    return columns


def checked_cells(record: Record, columns: Sequence[str], name: str) -> dict[str, str]:
    """Return the cells of a row by column; columns without a name must be empty.

    Raises:
        TableError: the row has other cells than the header, or something stands under no name.
    """
    line, cells = record
    if len(cells) != len(columns):
        counted = f"{len(cells)} cells, and the header has {len(columns)}"
        raise TableError(name, f'{counted}; quote commas, as in "a red square, running left"', line)
    for position, (column, cell) in enumerate(zip(columns, cells, strict=True), start=1):
        if not column and cell.strip():
            raise TableError(name, f"holds {cell[:40]!r} and has no name; name it in the header", line, str(position))
    return {column: cell for column, cell in zip(columns, cells, strict=True) if column}


def _separator(text: str) -> str:
    """Return the separator that cuts the header into most cells; a comma where none cuts it."""
    counts = {separator: _cells_of_header(text, separator) for separator in SEPARATORS}
    return max(SEPARATORS, key=lambda separator: counts[separator])


def _cells_of_header(text: str, separator: str) -> int:
    try:
        for _, cells in _records(text, separator, "", 0):
            return len(cells)
    except TableError:
        return 1
    return 1


def _records(text: str, separator: str, name: str, skipped: int) -> Iterator[Record]:
    csv.field_size_limit(max(csv.field_size_limit(), _LONGEST_CELL))
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
    while True:
        line = reader.line_num + 1 + skipped  # the first one of a record, which may have several
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            raise TableError(name, f"not a CSV from here on: {error}", line) from error
        if any(cell.strip() for cell in cells):
            yield line, cells
