"""Files of the journal: one for each start of the app, one line for each transaction, only appended to.

    journal = JournalFile.new(folder)
    journal.append([record])                                   # on the disk when this returns
    for line in read_journal(journal.path).lines: print(line.records)

A line is JSON; the first one of a file says what it is. A file that a kill cut in the middle of a line is read up to its
last whole line.
"""

from __future__ import annotations

import json
import os
import secrets
import threading
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from storage.atomic import sync
from storage.data_home import ensure_folder
from storage.errors import JournalError
from storage.journal.kept_rows import Record
from storage.schema import utc_now

SUFFIX = ".jsonl"
FORMAT = "descore journal 1"


@dataclass(frozen=True)
class Line:
    """The records of one transaction. `where` names file and line, for messages."""

    where: str
    records: tuple[Record, ...]


@dataclass(frozen=True)
class ReadJournal:
    """What a file holds.

    Attributes:
        cut: a sentence where the file ends in the middle of a line, else "".
    """

    lines: tuple[Line, ...]
    cut: str = ""


@dataclass
class JournalFile:
    """The file of this start; it is made by its first line.

    Attributes:
        at_rest: held while a line is written, so that a copy of the file made under it holds whole lines.
    """

    path: Path
    at_rest: AbstractContextManager[Any] = field(default_factory=nullcontext)
    _size: int = 0
    _one_at_a_time: threading.Lock = field(default_factory=threading.Lock, repr=False)

    @classmethod
    def new(cls, folder: Path) -> JournalFile:
        """Choose the file of a start; by their names files stand in the order of the starts."""
        name = f"{utc_now():%Y-%m-%dT%H-%M-%S.%fZ}-{secrets.token_hex(3)}{SUFFIX}"
        return cls(folder / name)

    def append(self, records: Sequence[Record]) -> None:
        """Add a line and wait until the disk has it.

        Raises:
            JournalError: it can't be written; nothing of it is left in the file, as far as that can be.
        """
        line = json.dumps({"at": utc_now().isoformat(), "rows": list(records)}, ensure_ascii=False, separators=(",", ":"))
        with self._one_at_a_time, self.at_rest:
            try:
                self._write(line + "\n")
            except OSError as error:
                raise JournalError(
                    f"The journal of labels can't be written ({error.strerror or error}), so nothing can be saved. "
                    "Tell the person who runs this app."
                ) from error

    def _write(self, text: str) -> None:
        is_new = self._size == 0
        if is_new:
            ensure_folder(self.path.parent)
            text = json.dumps({"format": FORMAT}) + "\n" + text
        handle = os.open(self.path, os.O_WRONLY | os.O_CREAT, 0o600)
        try:
            content = text.encode()
            # A line that failed before may have left its beginning behind the last whole one.
            os.ftruncate(handle, self._size)
            os.lseek(handle, self._size, os.SEEK_SET)
            written = 0
            while written < len(content):
                written += os.write(handle, content[written:])
            os.fsync(handle)
            self._size += len(content)
        except OSError:
            os.ftruncate(handle, self._size)
            raise
        finally:
            os.close(handle)
        if is_new:
            sync(self.path.parent)


def read_journal(path: Path) -> ReadJournal:
    """Read a file up to its last whole line.

    Raises:
        JournalError: it can't be read, is no journal, or a line that others follow is damaged.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise JournalError(f"can't read {path.name} of the journal: {error.strerror or error}") from error
    *whole, rest = content.split(b"\n")
    cut = ""
    if rest:
        cut = (
            f"{path.name} ends in the middle of line {len(whole) + 1}, which was never acknowledged; all before it was read"
        )
    if not whole:
        return ReadJournal((), cut)
    if _parsed(whole[0], f"{path.name}, line 1").get("format") != FORMAT:
        raise JournalError(
            f"{path.name} is no journal of this program ({FORMAT}): update the program, or take the file out of the dataset"
        )
    lines = tuple(_line(text, f"{path.name}, line {number}") for number, text in enumerate(whole[1:], start=2))
    return ReadJournal(lines, cut)


def _line(text: bytes, where: str) -> Line:
    rows = _parsed(text, where).get("rows")
    if not isinstance(rows, list) or not all(isinstance(row, dict) and {"in", "key", "row"} <= set(row) for row in rows):
        raise JournalError(f"{where}: this is no line of a journal")
    return Line(where, tuple(rows))


def _parsed(text: bytes, where: str) -> dict[str, Any]:
    try:
        parsed = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise JournalError(
            f"{where}: this line is damaged. Restore the file from the dataset's history, or take the line out."
        ) from error
    if not isinstance(parsed, dict):
        raise JournalError(f"{where}: this is no line of a journal")
    return parsed
