"""Keeping the journal of a store: each committed transaction becomes a line before anybody is told that it was saved.

    kept = keep_journal(database, folder)              # reads and writes as before
    with kept.write() as session:
        save_vote(session, pair_id=7, choice="A", voter="Ada", token=token)

Temporary triggers note which rows a transaction changes, by whatever code, so no caller has to think of the journal.
Beside the lines lie copies of the video files that they name, under the names that the data folder has for them. This is for
SQLite only: a database server keeps labels by itself.
"""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sqlalchemy import event, select, text

from storage.atomic import sync
from storage.data_home import ensure_folder
from storage.errors import JournalError, NotInStoreError, StorageError
from storage.journal.journal_file import JournalFile
from storage.journal.kept_rows import KEPT, ON_DEMAND, KeptTable, Name, Namer, Record, as_name, named_rows, record_of
from storage.video_files import playable_path, video_path

if TYPE_CHECKING:
    import sqlite3

    from sqlalchemy.orm import Session

    from storage.database import Database

log = logging.getLogger(__name__)

JOURNAL, VIDEOS, PLAYABLE = "journal", "videos", "playable"
_CHANGED = text("SELECT kept, row_id FROM changed_rows ORDER BY rowid")
_FORGET = text("DELETE FROM changed_rows")
_CHUNK = 500


@dataclass(frozen=True)
class Changes:
    """What a transaction is about to commit."""

    records: Sequence[Record]
    names: Mapping[tuple[str, int], Name]


@dataclass
class Journal:
    """The journal of one store; `Database.write` calls it, one transaction after the other.

    Attributes:
        folder: holds `journal/`, and `videos/` and `playable/` as in the data folder.
    """

    folder: Path
    home: Path
    file: JournalFile
    _told: set[Name] = field(default_factory=set)  # videos and pairs that stand in the journal
    _names: dict[tuple[str, int], Name] = field(default_factory=dict)
    # Committed, and not in the file yet, since the disk was full.
    _late: list[Sequence[Record]] = field(default_factory=list)

    def before(self) -> None:
        """Write what an earlier transaction could not; nothing more is saved before that is.

        Raises:
            JournalError: it can't be written.
        """
        while self._late:
            self.file.append(self._late[0])
            del self._late[0]

    def changes(self, session: Session) -> Changes:
        """Return what a transaction has changed, and put copies of the videos that it names beside the file.

        Raises:
            JournalError: a video can't be copied.
        """
        session.flush()
        changed = session.execute(_CHANGED).tuples().all()
        if not changed:
            return Changes((), {})
        session.execute(_FORGET)
        rows = [row for row in dict.fromkeys(changed) if row[0] not in ON_DEMAND or self._is_told(row)]
        return self._changes(session, rows)

    def keep(self, changes: Changes) -> None:
        """Write what was committed.

        Raises:
            JournalError: it can't be written now; the next transaction tries again.
        """
        self._names.update(changes.names)
        self._told.update(as_name([record["in"], record["key"]]) for record in changes.records if record["in"] in ON_DEMAND)
        if changes.records:
            self._late.append(changes.records)
        self.before()

    def keep_all(self, database: Database, known: Mapping[Name, Record]) -> None:
        """Write every row of the store that the journal does not have as it is.

        Args:
            known: the records that were read back, by table and name.

        Raises:
            JournalError: it can't be written.
        """
        self._told.update(name for name, record in known.items() if record["in"] in ON_DEMAND)
        with database.read() as session:
            namer = Namer(session, self._names)
            missing = []
            for kept in KEPT.values():
                if kept.name in ON_DEMAND:
                    continue
                for row in session.execute(select(kept.table).order_by(kept.table.c.id)):
                    record = record_of(namer, kept, row)
                    before = known.get((kept.name, as_name(record["key"])))
                    if before is None or _differs(kept, before, record):
                        missing.append((kept.name, row.id))
            changes = [self._changes(session, missing[start : start + _CHUNK]) for start in range(0, len(missing), _CHUNK)]
        for part in changes:
            self.keep(part)

    def _is_told(self, row: tuple[str, int]) -> bool:
        name = self._names.get(row)
        return name is not None and (row[0], name) in self._told

    def _changes(self, session: Session, rows: Iterable[tuple[str, int]]) -> Changes:
        """Return the records of rows, each after those of the videos and pairs that it names."""
        namer = Namer(session, self._names)
        records: dict[tuple[str, int], Record] = {}

        def add(table: str, row_id: int) -> None:
            if (table, row_id) in records:
                return
            kept = KEPT[table]
            row = session.execute(select(kept.table).where(kept.table.c.id == row_id)).one_or_none()
            if row is None:  # made and removed in one transaction
                return
            for name in named_rows(kept, row):
                if (name[0], namer.name(KEPT[name[0]].table, name[1])) not in self._told:
                    add(*name)
            if table == VIDEOS:
                self._copy_video(row.file, row.sha256)
            records[table, row_id] = record_of(namer, kept, row)

        for row in rows:
            add(*row)
        return Changes(tuple(records.values()), namer.new)

    def _copy_video(self, file: str, sha256: str) -> None:
        try:
            original = video_path(file, self.home)
        except NotInStoreError as error:  # nobody can see it any more; what people said of it is kept all the same
            log.warning("the journal of labels has no copy of a video: %s", error)
            return
        try:
            _copy(original, self.folder / VIDEOS / file)
            playable = playable_path(sha256, self.home)
            if playable.is_file():
                _copy(playable, self.folder / PLAYABLE / playable.relative_to(self.home / PLAYABLE))
        except (OSError, StorageError) as error:
            raise JournalError(f"A video can't be copied beside the journal of labels: {error}") from error


def keep_journal(
    database: Database,
    folder: Path,
    known: Mapping[Name, Record] | None = None,
    at_rest: AbstractContextManager[Any] | None = None,
) -> Database:
    """Return the store with a journal in `folder`, into which everything goes that is there already.

    Args:
        database: a SQLite store that nobody else has in hand yet.
        known: the records that were read back into it, which need no line.
        at_rest: held while a line is written.

    Raises:
        JournalError: the store is on a database server, or the journal can't be written.
    """
    if database.engine.dialect.name != "sqlite":
        raise JournalError("a journal of labels is for a SQLite store: with DATABASE_URL the database keeps them")
    file = replace(JournalFile.new(folder / JOURNAL), at_rest=at_rest or nullcontext())
    journal = Journal(folder, database.home, file)

    @event.listens_for(database.engine, "connect")
    def watch(connection: sqlite3.Connection, _: Any) -> None:
        connection.execute("PRAGMA temp_store = MEMORY")
        connection.execute("CREATE TEMP TABLE changed_rows (kept TEXT NOT NULL, row_id INTEGER NOT NULL)")
        for kept in KEPT.values():
            for statement in _triggers(kept):
                connection.execute(statement)

    database.engine.dispose()  # connections that were made before have no triggers
    journal.keep_all(database, known or {})
    return replace(database, journal=journal)


def _triggers(kept: KeptTable) -> list[str]:
    """Return the statements that note each new row, and each change that is worth a line."""
    note = f"BEGIN INSERT INTO changed_rows VALUES ('{kept.name}', NEW.id); END"
    statements = [f"CREATE TEMP TRIGGER new_{kept.name} AFTER INSERT ON main.{kept.name} {note}"]
    if not kept.is_final:
        columns = [column.name for column in kept.columns if column.name not in kept.quiet]
        changes = " OR ".join(f"OLD.{name} IS NOT NEW.{name}" for name in columns)
        statements.append(f"CREATE TEMP TRIGGER changed_{kept.name} AFTER UPDATE ON main.{kept.name} WHEN {changes} {note}")
    return statements


def _differs(kept: KeptTable, before: Record, record: Record) -> bool:
    return not kept.is_final and any(before["row"].get(name) != value for name, value in _loud(kept, record).items())


def _loud(kept: KeptTable, record: Record) -> dict[str, Any]:
    """Return the values whose change is worth a line, as JSON has them."""
    return {name: _as_json(value) for name, value in record["row"].items() if name not in kept.quiet}


def _as_json(value: Any) -> Any:
    return [_as_json(part) for part in value] if isinstance(value, tuple) else value


def _copy(source: Path, target: Path) -> None:
    """Put a file of the data folder beside the journal: by a second name where the disk allows it, else as a copy."""
    if target.exists():
        return
    ensure_folder(target.parent)
    try:
        os.link(source, target)
    except OSError:
        partial = target.with_name(f".{target.name}.{os.getpid()}")
        shutil.copyfile(source, partial)
        sync(partial)
        partial.replace(target)
    sync(target.parent)
