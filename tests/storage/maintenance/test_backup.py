"""Backups of a store that is in use, and stores made from them."""

from __future__ import annotations

import os
import re
import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from storage import Database, StorageError, open_database
from storage.maintenance.backup import back_up, restore
from storage.maintenance.integrity import check_store
from storage.pairs import add_pair, add_video
from storage.video_files import store_video
from storage.votes import all_votes, save_vote
from tests.helpers.stores import make_pair, url_of

if TYPE_CHECKING:
    from tests.helpers.postgresql import Server

WRITERS = 4


@pytest.fixture
def pg_dump(request: pytest.FixtureRequest, database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """The server's own programs are found, as where its client package is installed."""
    if database.engine.dialect.name == "postgresql":
        server: Server = request.getfixturevalue("postgresql")
        monkeypatch.setenv("PATH", f"{server.programs}{os.pathsep}{os.environ['PATH']}")


@pytest.fixture
def new_url(request: pytest.FixtureRequest, database: Database, tmp_path: Path) -> Iterator[str]:
    """An address of the same kind without a store."""
    if database.engine.dialect.name == "sqlite":
        yield f"sqlite:///{tmp_path / 'new' / 'descore.db'}"
        return
    server: Server = request.getfixturevalue("postgresql")
    yield server.create("restored")
    server.drop("restored")


def write_until(database: Database, stop: threading.Event, number: int, answered: list[str]) -> None:
    """Vote again and again, as one of many visitors."""
    count = 0
    while not stop.is_set():
        count += 1
        with database.write() as session:
            save_vote(session, pair_id=1, choice="A", voter=f"v{number}-{count}", token=f"{number}-{count}")
        answered.append(f"v{number}-{count}")


@pytest.mark.usefixtures("pg_dump")
def test_a_copy_made_under_writes_holds_all_that_was_answered_before(
    database: Database, new_url: str, tmp_path: Path
) -> None:
    with database.write() as session:
        make_pair(session)
    stop = threading.Event()
    answered: list[list[str]] = [[] for _ in range(WRITERS)]
    writers = [
        threading.Thread(target=write_until, args=(database, stop, number, answered[number])) for number in range(WRITERS)
    ]
    for writer in writers:
        writer.start()
    while min(map(len, answered)) < 10:
        stop.wait(0.01)
    before = {voter for one in answered for voter in list(one)}
    copy = back_up(database, tmp_path / "backups")
    stop.set()
    for writer in writers:
        writer.join(30)
    written = sum(map(len, answered))
    assert list((tmp_path / "backups").iterdir()) == [copy.path]
    assert copy.path.stat().st_mode & 0o077 == 0
    assert copy.size == copy.path.stat().st_size > 0

    again, problems = restore(copy.path, new_url, tmp_path / "new")
    with again.read() as session:
        voters = {vote.voter for vote in all_votes(session, 1)}
    assert before <= voters
    assert len(voters) <= written
    assert len(problems) == 2  # the two videos of the pair have no files in this test
    assert check_store(again) == ()
    if copy.rows:
        assert copy.rows["votes"] == len(voters)
    with again.write() as session:
        save_vote(session, pair_id=1, choice="B", voter="later", token="later")
    again.close()


@pytest.mark.usefixtures("pg_dump")
def test_a_backup_replaces_nothing_and_leaves_nothing_half(database: Database, tmp_path: Path) -> None:
    taken = tmp_path / "taken.db"
    taken.write_text("mine")
    with pytest.raises(StorageError, match="exists already"):
        back_up(database, taken)
    assert taken.read_text() == "mine"
    blocked = tmp_path / "file"
    blocked.write_text("no folder")
    with pytest.raises(StorageError):
        back_up(database, blocked / "copy.db")
    named = back_up(database, tmp_path / "new folder" / "copy.db")
    assert named.path == tmp_path / "new folder" / "copy.db"
    assert [path.name for path in named.path.parent.iterdir()] == ["copy.db"]
    first, second = (back_up(database, tmp_path / "many") for _ in range(2))
    assert first.path != second.path


@pytest.mark.slow
def test_a_damaged_store_is_not_passed_off_as_a_backup(tmp_path: Path) -> None:
    database = open_database(home=tmp_path / "home")
    with database.write() as session:
        for number in range(300):
            make_pair(session, f"a{number}", f"b{number}")
    database.close()
    file = tmp_path / "home" / "descore.db"
    with sqlite3.connect(file) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        pages = connection.execute("PRAGMA page_count").fetchone()[0]
    content = bytearray(file.read_bytes())
    content[4096 * (pages - 12) : 4096 * (pages - 9)] = bytes(4096 * 3)  # of the rows, not of the schema
    file.write_bytes(content)
    damaged = open_database(home=tmp_path / "home", as_is=True)
    with pytest.raises(StorageError, match=r"damaged|malformed"):
        back_up(damaged, tmp_path / "backups")
    assert list((tmp_path / "backups").iterdir()) == []
    damaged.close()


def stored_clip(database: Database, name: str, content: bytes) -> str:
    """A video with a file; returns its name in the table."""
    source = database.home / name
    source.write_bytes(content)
    stored = store_video(source, database.home)
    with database.write() as session:
        facts = {"original_name": name, "width": 1, "height": 1, "fps": 1.0, "duration": 1.0}
        video = add_video(session, sha256=stored.sha256, file=stored.file, **facts)
        add_pair(session, video, video, "a prompt", "test")
    return stored.file


@pytest.mark.usefixtures("pg_dump")
def test_videos_come_along_and_each_is_read_back(database: Database, new_url: str, tmp_path: Path) -> None:
    files = [stored_clip(database, f"{number}.mp4", bytes([number]) * 5000) for number in range(3)]
    folder = tmp_path / "backups"
    copy = back_up(database, folder, videos=True)
    assert (copy.videos, copy.problems) == (3, ())
    (folder / "videos" / files[0]).write_bytes(b"rotten")
    (folder / "videos" / files[1]).unlink()
    assert back_up(database, folder, videos=True).videos == 3
    for file in files:
        assert (folder / "videos" / file).read_bytes() == (database.home / "videos" / file).read_bytes()

    again, problems = restore(copy.path, new_url, tmp_path / "new")
    assert problems == ()
    assert check_store(again, videos=True) == ()
    again.close()


@pytest.mark.usefixtures("pg_dump")
def test_a_video_that_is_damaged_here_is_named_and_not_copied(database: Database, tmp_path: Path) -> None:
    good, rotten, gone = (stored_clip(database, f"{number}.mp4", bytes([number]) * 5000) for number in range(3))
    (database.home / "videos" / rotten).write_bytes(b"rotten")
    (database.home / "videos" / gone).unlink()
    copy = back_up(database, tmp_path / "backups", videos=True)
    assert copy.videos == 1
    assert [problem.split(":")[0] for problem in copy.problems] == [rotten, gone]
    files = [path for path in (tmp_path / "backups" / "videos").rglob("*") if path.is_file()]
    assert files == [tmp_path / "backups" / "videos" / good]


@pytest.mark.usefixtures("pg_dump")
def test_a_backup_never_goes_over_a_store(database: Database, tmp_path: Path) -> None:
    copy = back_up(database, tmp_path / "backups")
    with pytest.raises(StorageError, match="already"):
        restore(copy.path, url_of(database), database.home)
    with pytest.raises(StorageError, match="can't read the backup"):
        restore(tmp_path / "nothing.db", url_of(database), database.home)


def test_a_backup_goes_into_a_database_of_its_own_kind(tmp_path: Path, postgresql: Server) -> None:
    database = open_database(home=tmp_path / "home")
    copy = back_up(database, tmp_path / "copy.db")
    database.close()
    with pytest.raises(StorageError, match="SQLite file"):
        restore(copy.path, postgresql.url("postgres"), tmp_path / "new")


def test_an_old_pg_dump_is_refused_in_words(
    tmp_path: Path, postgresql: Server, migrated: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = tmp_path / "bin" / "pg_dump"
    old.parent.mkdir()
    old.write_text("#!/bin/sh\necho 'pg_dump (PostgreSQL) 9.6.1'\n")
    old.chmod(0o755)
    monkeypatch.setattr("storage.maintenance.postgresql_tools._candidates", lambda: [old, tmp_path / "nothing"])
    database = open_database(postgresql.url(migrated), home=tmp_path / "home")
    with pytest.raises(StorageError, match=rf"version \d+ or newer; found: {re.escape(str(old))} \(9\)"):
        back_up(database, tmp_path / "backups")
    database.close()
    assert list((tmp_path / "backups").iterdir()) == []


def test_copying_an_older_store_leaves_it_as_it_is(tmp_path: Path) -> None:
    database = open_database(home=tmp_path / "home")
    with database.write() as session:
        session.connection().exec_driver_sql("UPDATE alembic_version SET version_num = '0001'")
    database.close()
    older = open_database(home=tmp_path / "home", as_is=True)
    copy = back_up(older, tmp_path / "backups")
    assert [violation.rule for violation in check_store(older)] == ["tables"]
    older.close()
    for file in (tmp_path / "home" / "descore.db", copy.path):
        with sqlite3.connect(file) as connection:
            assert connection.execute("SELECT version_num FROM alembic_version").fetchall() == [("0001",)]
    with pytest.raises(StorageError, match="there is no store"):
        open_database(home=tmp_path / "nowhere", as_is=True)
    assert not (tmp_path / "nowhere").exists()
