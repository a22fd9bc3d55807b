"""Making a store from a backup. Only where there is none yet: nothing is ever written over.

DESCORE_HOME=elsewhere python -m storage restore backups/descore-20270101T080000.000000Z.db
"""

from __future__ import annotations

import shutil
from pathlib import Path

from sqlalchemy import select

from storage.backup import complete_or_nothing, copy_video, rows_of_sound_copy
from storage.database import Database, open_database, store_address
from storage.errors import StorageError
from storage.home import data_home, ensure_folder
from storage.postgresql_tools import load
from storage.schema import VideoRow

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
    empty = open_database(url, folder, as_it_is=True)
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
