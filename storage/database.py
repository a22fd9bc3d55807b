"""Opening the store, and the only two ways to talk to it.

    database = open_database()                     # DATABASE_URL, else a SQLite file in the data folder
    with database.write() as session:              # one transaction: all of it or nothing
        saved = votes.save_vote(session, pair_id=7, choice="A", voter="Ada", token=token)
    with database.read() as session:               # a consistent view; writing in here is refused
        pair = pairs.get_pair(session, 7)

SQLite runs in WAL mode, and a writing transaction takes the write lock when it begins (`BEGIN IMMEDIATE`):
one that starts as a reader and writes later would fail, or lose what another process wrote in between.
"""

from __future__ import annotations

import os
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import quote

from alembic.util import CommandError
from sqlalchemy import URL, Connection, Engine, create_engine, event, make_url
from sqlalchemy.exc import ArgumentError, SQLAlchemyError
from sqlalchemy.orm import Session

from storage.data_home import data_home, ensure_folder
from storage.driver_errors import reason, sentence
from storage.errors import StorageError
from storage.migrations.upgrade import upgrade
from storage.store_file import StoreFile
from storage.text_limits import check_text_lengths

__all__ = ["Database", "Session", "open_database", "store_address"]

DATABASE_FILE = "descore.db"
BUSY_SECONDS = 30.0
CONNECT_SECONDS = 10
# Kept open, and the last used one used next: it has its statements prepared and its pages at hand.
CONNECTIONS = 20
_WRITES = "storage_writes"
_REMEDY = "Check that it is there and writable, or set DESCORE_HOME or DATABASE_URL to another store."
_DRIVERS = ("sqlite", "sqlite+pysqlite", "postgresql+psycopg")
# PostgreSQL's own default would show each statement of a transaction another moment. (SQLite: see `_sqlite_engine`.)
_READS = {"postgresql": {"isolation_level": "REPEATABLE READ", "postgresql_readonly": True}}


class TransactionLog(Protocol):
    """What follows the writing transactions of a store, one after the other (`storage.journal`)."""

    def before(self) -> None:
        """Raise a `StorageError` where nothing may be written now."""

    def changes(self, session: Session) -> Any:
        """Return what the session is about to commit."""

    def keep(self, changes: Any) -> None:
        """Keep what was committed; nobody is told that it was saved before this returns."""


@dataclass(frozen=True)
class Database:
    """An open store, safe to share between threads. Another process opens its own.

    Attributes:
        home: the data folder that holds the video files of this store (and the SQLite file by default).
        journal: keeps what is committed once more, elsewhere.
    """

    engine: Engine
    home: Path
    journal: TransactionLog | None = field(default=None, repr=False, compare=False)
    # SQLite lets one writer in and makes the others sleep and try again, which starves some. Within this process they
    # wait here instead, and are woken at once. Other processes are still held off by SQLite itself.
    _turn: AbstractContextManager[Any] = field(default_factory=nullcontext, repr=False, compare=False)
    # The SQLite file as it was when it was opened; None for a server.
    _file: StoreFile | None = field(default=None, repr=False, compare=False)

    @contextmanager
    def read(self) -> Iterator[Session]:
        """Open a session with one consistent view of the store.

        Raises:
            StorageError: the database refuses, for example because the block tried to write.
        """
        with self._session(self.engine.execution_options(**_READS.get(self.engine.dialect.name, {}))) as session:
            yield session

    @contextmanager
    def write(self) -> Iterator[Session]:
        """Open a session whose changes are committed at the end of the block, and undone if the block raises.

        Raises:
            StorageError: the database refuses: locked for too long, disk full, a constraint broken; or its file is not where
                it was when it was opened, so that nobody would find again what is written.
        """
        with self._turn:
            self._check_file()
            if self.journal is not None:
                self.journal.before()
            with self._session(self.engine.execution_options(**{_WRITES: True})) as session:
                session.connection()  # begins now, and with it the lock, not only at the first statement
                yield session
                self._check_file()
                changes = None if self.journal is None else self.journal.changes(session)
            self._check_file()  # once more: what was committed into a file that has just gone is not kept either
            if self.journal is not None:
                self.journal.keep(changes)

    def close(self) -> None:
        """Give the connections back to the operating system."""
        self.engine.dispose()

    def _check_file(self) -> None:
        if self._file is not None:
            self._file.check()

    @contextmanager
    def _session(self, engine: Engine) -> Iterator[Session]:
        try:
            with Session(engine, expire_on_commit=False) as session, session.begin():
                yield session
        except SQLAlchemyError as error:
            raise StorageError(sentence(error)) from error
        except OverflowError as error:  # a number that SQLite has no room for, found by its driver
            raise StorageError("A number of this request is larger than any in the store.") from error
        except UnicodeEncodeError as error:
            raise StorageError("the store refused: a text with a character that can't be stored") from error


def open_database(url: str | None = None, home: Path | None = None, *, as_is: bool = False) -> Database:
    """Open the store and bring its tables up to date; safe when several processes do so at once.

    Args:
        url: an SQLAlchemy URL; without one `DATABASE_URL` counts, and without that a SQLite file in `home`.
        home: the data folder, `data_home()` by default.
        as_is: leave the tables at the version they have, and make no store where there is none (for a copy, say).

    Raises:
        StorageError: the address is no database that can be opened, the folder is not writable, or the store was
            written by a newer version of this program.
    """
    folder = home or data_home()
    address = store_address(url, folder)
    sqlite = address.get_backend_name() == "sqlite"
    if as_is and sqlite and not Path(str(address.database)).is_file():
        raise StorageError(f"there is no store {address.database}: set DESCORE_HOME or DATABASE_URL to where it is")
    try:
        ensure_folder(folder)
    except StorageError as error:
        raise StorageError(f"can't create the data folder {folder}: {error}. Set DESCORE_HOME to another one.") from error
    try:
        engine = _engine(address)
    except (ArgumentError, ImportError) as error:
        raise StorageError(f"can't open the store {address.render_as_string()}: {error}") from error
    try:
        if not as_is:
            upgrade(engine)
        check_text_lengths(engine)
        file = StoreFile.of(Path(str(address.database)).absolute()) if sqlite else None
    except (SQLAlchemyError, CommandError, OSError) as error:
        engine.dispose()
        raise StorageError(
            f"can't open the store {address.render_as_string()}: {reason(error)}. {_remedy(error)}"
        ) from error
    except StorageError:
        engine.dispose()
        raise
    turn = threading.RLock() if sqlite else nullcontext()
    return Database(engine=engine, home=folder, _turn=turn, _file=file)


def _remedy(error: Exception) -> str:
    if "already exists" in reason(error):
        return (
            "Its tables are those of another program, or of a store that is only half there: restore a backup, or set "
            "DESCORE_HOME or DATABASE_URL to another store."
        )
    return _REMEDY


def store_address(url: str | None, home: Path) -> URL:
    """Where the store is: `url`, else `DATABASE_URL`, else a SQLite file in `home`.

    Raises:
        StorageError: not an address that a store can have.
    """
    url = url or os.environ.get("DATABASE_URL", "").strip()
    if not url:
        return URL.create("sqlite", database=str(home / DATABASE_FILE))
    try:
        address = make_url(url)
    except (ArgumentError, ValueError) as error:
        raise StorageError("DATABASE_URL is not a database address, such as postgresql://user@host/name") from error
    if address.drivername in ("postgres", "postgresql"):
        return address.set(drivername="postgresql+psycopg")
    if address.drivername not in _DRIVERS:
        raise StorageError(
            f"can't open the store {address.render_as_string()}: DATABASE_URL has to begin with postgresql:// or sqlite:///"
        )
    if address.get_backend_name() == "sqlite" and address.database in (None, "", ":memory:"):
        raise StorageError("a store in memory would be a different one in each thread: give SQLite a file")
    return address


def _engine(address: URL) -> Engine:
    if address.get_backend_name() == "sqlite":
        return _sqlite_engine(address)
    # A server may be restarted while the app runs: look whether a connection is alive before it is used again.
    return create_engine(
        address,
        pool_pre_ping=True,
        pool_size=CONNECTIONS,
        pool_use_lifo=True,
        connect_args={"connect_timeout": CONNECT_SECONDS},
    )


def _sqlite_engine(address: URL) -> Engine:
    path = Path(str(address.database)).absolute()

    def connect() -> sqlite3.Connection:
        # An ordinary connection would make a new, empty file where the store was deleted.
        uri = f"file:{quote(str(path))}?mode=rw"
        return sqlite3.connect(uri, uri=True, timeout=BUSY_SECONDS, check_same_thread=False)

    engine = create_engine(address, pool_size=CONNECTIONS, pool_use_lifo=True, creator=connect)

    @event.listens_for(engine, "connect")
    def configure(connection: sqlite3.Connection, _: Any) -> None:
        # Python's own transaction handling would begin late and deferred; `begin` below replaces it.
        connection.isolation_level = None
        connection.execute("PRAGMA foreign_keys = ON")
        # Without this, REPLACE would delete rows past the triggers that keep votes and labels append-only.
        connection.execute("PRAGMA recursive_triggers = ON")

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        writes = connection.get_execution_options().get(_WRITES, False)
        connection.exec_driver_sql(f"PRAGMA query_only = {'OFF' if writes else 'ON'}")
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")

    _enable_wal(str(address.database))
    return engine


def _enable_wal(path: str) -> None:
    """Switch the file to WAL, once: the mode is kept in the file.

    SQLite does not wait for other connections here, however long the busy timeout, so processes that start
    together on a new file have to try again.
    """
    deadline = time.monotonic() + BUSY_SECONDS
    while True:
        try:
            connection = sqlite3.connect(path, timeout=BUSY_SECONDS, isolation_level=None)
            try:
                connection.execute("PRAGMA journal_mode = WAL")
            finally:
                connection.close()
            return
        except sqlite3.OperationalError as error:
            if "locked" not in str(error) or time.monotonic() > deadline:
                raise StorageError(f"can't open the store {path}: {error}. {_REMEDY}") from error
            time.sleep(0.02)
        except sqlite3.DatabaseError as error:
            raise StorageError(f"can't open the store {path}: {error}. {_REMEDY}") from error
