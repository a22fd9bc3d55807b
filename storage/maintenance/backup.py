"""Copies of the store, made while the app runs.

    python -m storage backup backups/ --videos
    copy = back_up(database, Path("backups"), videos=True)

A copy holds one moment: everything committed before it began, and nothing half. It appears under its name only when it
is complete, checked and on the disk. SQLite: one file, as good as the original. PostgreSQL: an archive of `pg_dump`.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import select

from storage.atomic import sync
from storage.data_home import data_home, ensure_folder
from storage.database import Database, open_database, store_address
from storage.errors import StorageError
from storage.maintenance.postgresql_tools import dump, load
from storage.schema import VideoRow, utc_now
from storage.video_files import file_sha256, store_video, video_path

_COUNTED = ("labels", "votes", "assignments", "pairs")


@dataclass(frozen=True)
class Backup:
    """A finished copy.

    Attributes:
        rows: how many labels, votes, assignments and pairs it holds (SQLite only).
        videos: files copied or found right in the copy.
        problems: videos that could not be copied, because the store's own file is gone or damaged.
    """

    path: Path
    size: int
    seconds: float
    rows: dict[str, int]
    videos: int = 0
    problems: tuple[str, ...] = ()


def back_up(database: Database, target: Path, videos: bool = False) -> Backup:
    """Copy the store; writers are not held up.

    Args:
        target: a folder, in which the copy gets a name with the time (UTC), or the name of a new file with a suffix.
        videos: copy the video files too, into `videos/` beside the copy; those already there and undamaged stay.

    Raises:
        StorageError: the target exists, can't be written, or the copy does not pass its checks. Then no file is left.
    """
    begun = time.monotonic()
    sqlite = database.engine.dialect.name == "sqlite"
    path = _target(target, ".db" if sqlite else ".dump")
    with complete_or_nothing(path) as incoming:
        if sqlite:
            _copy_sqlite(Path(str(database.engine.url.database)), incoming)
            rows = rows_of_sound_copy(incoming)
        else:
            dump(database, incoming)
            rows = {}
    copied, problems = _copy_videos(database, path.parent) if videos else (0, ())
    return Backup(
        path=path,
        size=path.stat().st_size,
        seconds=time.monotonic() - begun,
        rows=rows,
        videos=copied,
        problems=problems,
    )


def _target(target: Path, suffix: str) -> Path:
    if target.is_dir() or not target.suffix:
        ensure_folder(target)
        return target / f"descore-{utc_now():%Y%m%dT%H%M%S.%fZ}{suffix}"
    ensure_folder(target.parent)
    return target


@contextmanager
def complete_or_nothing(path: Path) -> Iterator[Path]:
    """Open a name beside `path` to write to; the file moves to `path` at the end, or disappears with the error."""
    if path.exists():
        raise StorageError(f"{path} exists already; a backup never replaces another")
    try:
        handle, name = tempfile.mkstemp(prefix=".incoming-", dir=path.parent)
        os.close(handle)
        incoming = Path(name)
        try:
            yield incoming
            sync(incoming)
            incoming.replace(path)
            sync(path.parent)
        finally:
            incoming.unlink(missing_ok=True)
    except OSError as error:
        raise StorageError(f"can't write the backup {path}: {error.strerror or error}") from error
    except sqlite3.Error as error:
        raise StorageError(f"can't copy the store to {path}: {error}") from error


def _copy_sqlite(source: Path, incoming: Path) -> None:
    """Copy all pages of one moment.

    In steps the copy would begin again after each write of the running app; in one go it reads one snapshot, and in WAL
    mode a reader holds up no writer.
    """
    with (
        closing(sqlite3.connect(f"{source.absolute().as_uri()}?mode=ro", uri=True)) as original,
        closing(sqlite3.connect(incoming)) as copy,
    ):
        original.backup(copy)
        # The copy is one file that opens anywhere; the app switches it to WAL again when it uses it.
        copy.execute("PRAGMA journal_mode = DELETE")


def rows_of_sound_copy(path: Path) -> dict[str, int]:
    """Open the copy as it lies on the disk, check it through, and count what it holds."""
    with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as copy:
        verdict = [row[0] for row in copy.execute("PRAGMA integrity_check(5)")]
        if verdict != ["ok"]:
            raise StorageError(f"the copy is damaged, and so is the store, perhaps: {'; '.join(verdict)}")
        tables = {row[0] for row in copy.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        if "alembic_version" not in tables:
            raise StorageError("this is no store of the studio: it has no version of its tables")
        present = [table for table in _COUNTED if table in tables]
        return {table: copy.execute(f"SELECT count(*) FROM {table}").fetchone()[0] for table in present}


def _copy_videos(database: Database, folder: Path) -> tuple[int, tuple[str, ...]]:
    """Copy every stored video, reading each back by its hash; problems are collected, and do not stop the rest."""
    with database.read() as session:
        files = session.execute(select(VideoRow.file, VideoRow.sha256).order_by(VideoRow.id)).tuples().all()
    copied, problems = 0, []
    for file, sha256 in files:
        try:
            copy_video(video_path(file, database.home), folder / "videos" / file, sha256, folder)
            copied += 1
        except StorageError as error:
            problems.append(f"{file}: {error}")
    return copied, tuple(problems)


def copy_video(source: Path, target: Path, sha256: str, folder: Path) -> None:
    """Copy a stored video to `target`, a path in `folder`, unless it is there already and undamaged.

    Raises:
        StorageError: the source is damaged or can't be read, or the target can't be written.
    """
    if target.is_file() and file_sha256(target) == sha256:
        return
    if file_sha256(source) != sha256:
        raise StorageError("its content is no longer what was stored")
    target.unlink(missing_ok=True)
    store_video(source, folder)


_SQLITE = b"SQLite format 3\0"


def restore(copy: Path, url: str | None = None, home: Path | None = None) -> tuple[Database, tuple[str, ...]]:
    """Make a store from a backup, with the videos that lie beside it, and open it.

    Args:
        url, home: where the new store goes; as in `open_database`.

    Returns:
        The open store, and for each video that is neither beside the backup nor in the new store what is wrong.

    Raises:
        StorageError: there is a store already, or the backup is damaged or of the other kind of database.
    """
    folder = ensure_folder(home or data_home())
    address = store_address(url, folder)
    try:
        with copy.open("rb") as file:
            is_sqlite = file.read(len(_SQLITE)) == _SQLITE
    except OSError as error:
        raise StorageError(f"can't read the backup {copy}: {error.strerror or error}") from error
    if is_sqlite != (address.get_backend_name() == "sqlite"):
        kind = "a SQLite file" if is_sqlite else "an archive of PostgreSQL"
        raise StorageError(f"{copy} is {kind}; set DATABASE_URL to a database of that kind, or leave it out for SQLite")
    if is_sqlite:
        _place_file(copy, Path(str(address.database)))
    else:
        _fill_server(copy, url, folder)
    database = open_database(url, folder)
    return database, _bring_videos(copy.parent, database)


def _place_file(copy: Path, target: Path) -> None:
    ensure_folder(target.parent)
    # A forgotten log of changes would be applied to the restored file and ruin it.
    left = [f"{target}{suffix}" for suffix in ("", "-wal", "-journal") if Path(f"{target}{suffix}").exists()]
    if left:
        raise StorageError(f"there is a store already: {left[0]}. Move it away first")
    with complete_or_nothing(target) as incoming:
        shutil.copyfile(copy, incoming)
        rows_of_sound_copy(incoming)


def _fill_server(copy: Path, url: str | None, folder: Path) -> None:
    empty = open_database(url, folder, as_is=True)
    try:
        load(empty, copy)
    finally:
        empty.close()


def _bring_videos(beside: Path, database: Database) -> tuple[str, ...]:
    with database.read() as session:
        files = session.execute(select(VideoRow.file, VideoRow.sha256).order_by(VideoRow.id)).tuples().all()
    problems = []
    for file, sha256 in files:
        source, target = beside / "videos" / file, database.home / "videos" / file
        if not source.is_file() and not target.is_file():
            problems.append(f"{file} is not in videos/ beside the backup")
            continue
        try:
            copy_video(source, target, sha256, database.home)
        except StorageError as error:
            problems.append(f"{file}: {error}")
    return tuple(problems)
