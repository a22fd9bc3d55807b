"""The beginning of a file, and what kind of table it is by its content: names are wrong too often."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from descore.errors import TableError
from descore.tables.csv_records import csv_records
from descore.tables.text_encoding import decode
from storage.exchange.parsed import ExchangeError
from storage.foreign_json import read_json, read_json_at

Kind = Literal["parquet", "json", "json-lines", "csv"]
_HEAD = 1 << 20  # bytes


@dataclass(frozen=True)
class FileHead:
    """The beginning of a file.

    Attributes:
        kind: of the table in it.
        text: its first megabyte; "" of a Parquet.
    """

    kind: Kind
    text: str = ""

    def columns(self, name: str) -> tuple[str, ...]:
        """Return the columns of the header, or of the first object; () where neither can be read.

        Args:
            name: of the file.
        """
        try:
            if self.kind == "csv":
                _, records = csv_records(self.text, name)
                return tuple(column.strip() for column in next(records, (0, []))[1])
            if self.kind == "json":
                begin = len(self.text) - len(self.text[self.text.index("[") + 1 :].lstrip())
                first = read_json_at(self.text, begin)[0]
            else:
                first = read_json(next(line for line in self.text.split("\n") if line.strip()))
        except (TableError, ValueError):
            return ()
        return tuple(first) if isinstance(first, dict) else ()


def file_head(path: Path) -> FileHead:
    """Read the beginning of a file.

    Raises:
        ExchangeError: it can't be opened.
    """
    try:
        with path.open("rb") as file:
            head = file.read(_HEAD)
    except OSError as error:
        raise ExchangeError(f"can't read {path.name}: {error.strerror or error}") from error
    if head.startswith(b"PAR1"):
        return FileHead("parquet")
    try:
        text = decode(head, path.name).text
    except TableError:  # also where the head ends inside of a letter
        text = head.decode("utf-8-sig", errors="replace")
    start = text.lstrip()[:1]
    return FileHead("json" if start == "[" else "json-lines" if start == "{" else "csv", text)
