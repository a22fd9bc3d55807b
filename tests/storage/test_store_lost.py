"""The store goes away under the running app, or can't be opened: nothing is acknowledged that is not kept."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import create_engine, make_url, text

from storage import Database, StorageError, open_database
from storage.database import DATABASE_FILE
from storage.votes import all_votes, save_vote
from tests.helpers.paths import ROOT
from tests.helpers.stores import make_pair

if TYPE_CHECKING:
    from tests.helpers.postgresql import Server


def vote(database: Database, token: str) -> None:
    with database.write() as session:
        save_vote(session, pair_id=1, choice="A", voter="v", token=token)


def tokens(database: Database) -> int:
    with database.read() as session:
        return len(all_votes(session, 1))


@pytest.fixture
def store(sqlite_database: Database) -> Database:
    with sqlite_database.write() as session:
        make_pair(session)
    vote(sqlite_database, "first")
    return sqlite_database


def test_a_file_that_was_moved_is_noticed_at_the_next_write_and_found_when_put_back(store: Database) -> None:
    path = store.home / DATABASE_FILE
    path.rename(path.with_suffix(".moved"))
    for _ in range(2):
        with pytest.raises(StorageError, match="moved, deleted or replaced") as caught:
            vote(store, "second")
        assert str(store.home) not in str(caught.value)
    assert not path.exists(), "no empty store takes its place"
    path.with_suffix(".moved").rename(path)
    vote(store, "second")
    assert tokens(store) == 2


@pytest.mark.parametrize("when", ["before", "in between"])
def test_a_file_that_was_deleted_or_replaced_takes_no_writes(store: Database, when: str) -> None:
    path = store.home / DATABASE_FILE
    copy = path.read_bytes()
    if when == "before":
        path.unlink()
        path.write_bytes(copy)
        with pytest.raises(StorageError, match="replaced"):
            vote(store, "second")
        return
    with pytest.raises(StorageError, match="deleted"), store.write() as session:
        save_vote(session, pair_id=1, choice="A", voter="v", token="second")
        path.unlink()


def test_a_new_connection_makes_no_empty_store(store: Database) -> None:
    (store.home / DATABASE_FILE).unlink()
    store.engine.dispose()
    with pytest.raises(StorageError, match="was its file moved or deleted"), store.read() as session:
        all_votes(session, 1)
    assert not (store.home / DATABASE_FILE).exists()


def test_a_full_disk_and_a_read_only_store_are_said_in_a_sentence(store: Database) -> None:
    with pytest.raises(StorageError, match="disk of the store is full"), store.write() as session:
        session.execute(text("PRAGMA max_page_count = 1"))
        session.execute(text("CREATE TABLE big AS SELECT zeroblob(10000000) AS b"))
    store.engine.dispose()
    with pytest.raises(StorageError, match="read-only"), store.read() as session:
        save_vote(session, pair_id=1, choice="A", voter="v", token="second")
    vote(store, "second")
    assert tokens(store) == 2


def test_a_number_or_text_that_no_column_holds_is_a_sentence(store: Database) -> None:
    for values in ({"pair_id": 10**30, "voter": "v"}, {"pair_id": 1, "voter": "\ud800"}):
        with pytest.raises(StorageError), store.write() as session:
            save_vote(session, choice="A", token="second", **values)  # type: ignore[arg-type]
    assert tokens(store) == 1


def test_postgresql_gone_and_back(postgresql: Server, tmp_path: Path) -> None:
    """Its clients are cut off and its socket is out of reach, as while a server is restarted."""
    name = "comes_back"
    address = make_url(postgresql.create(name))
    sockets = tempfile.mkdtemp(prefix="pg-link-", dir="/tmp")  # the path of a socket has to be short
    link = Path(sockets) / "s"
    link.symlink_to(str(address.query["host"]))
    reached = address.update_query_dict({"host": str(link)}).render_as_string(hide_password=False)
    with closing(open_database(reached, home=tmp_path)) as database:
        with database.write() as session:
            make_pair(session)
        vote(database, "first")
        link.rename(link.with_name("gone"))
        cut_off = create_engine(postgresql.admin_url)
        with cut_off.connect() as connection:
            connection.execute(text(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'"))
        cut_off.dispose()
        for _ in range(2):
            with pytest.raises(StorageError, match="can't be reached") as caught:
                vote(database, "second")
            assert "socket" not in str(caught.value)
            assert "/" not in str(caught.value)
        link.with_name("gone").rename(link)
        vote(database, "second")
        assert tokens(database) == 2
    shutil.rmtree(sockets)
    postgresql.drop(name)


# ---- opening -----------------------------------------------------------------------------------------------------


def version(value: str) -> str:
    return f"UPDATE alembic_version SET version_num = '{value}'"


def break_store(home: Path, name: str) -> dict[str, str]:
    """Make a store that can't be opened; returns the environment in which it is looked for."""
    environment = {"DESCORE_HOME": str(home)}
    if name == "unparsable address":
        return {**environment, "DATABASE_URL": "postgresql://me:hunter2@host:port/db"}
    if name == "another database":
        return {**environment, "DATABASE_URL": "mysql://me:hunter2@host/db"}
    if name == "no server":
        return {**environment, "DATABASE_URL": "postgresql://me:hunter2@127.0.0.1:1/db"}
    if name == "no folder can be made":
        return {"DESCORE_HOME": "/proc/descore"}
    if name == "not a database":
        (home / DATABASE_FILE).write_bytes(b"dear diary, " * 1000)
        return environment
    with sqlite3.connect(home / DATABASE_FILE) as connection:
        connection.execute({"newer": version("9999"), "half known": "DROP TABLE alembic_version"}[name])
        if name == "newer":
            connection.execute("INSERT INTO alembic_version VALUES ('0003')")
    return environment


BROKEN = {
    "newer": "newer version of this program",
    "half known": "already exists. Its tables are those of another program",
    "unparsable address": "DATABASE_URL is not a database address",
    "another database": "has to begin with postgresql:// or sqlite:///",
    "no server": "can't open the store",
    "no folder can be made": "Set DESCORE_HOME to another one",
    "not a database": "not a database",
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_store_that_can_not_be_opened_says_what_to_do(
    sqlite_database: Database, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    sqlite_database.close()
    for key, value in break_store(sqlite_database.home, name).items():
        monkeypatch.setenv(key, value)
    with pytest.raises(StorageError, match=BROKEN[name]) as caught:
        open_database()
    assert "\n" not in str(caught.value)
    assert "hunter2" not in str(caught.value)


COMMANDS = {
    "storage": ["-m", "storage", "check"],
    "import": ["-m", "app", "import", "pairs.csv", "--source", "s"],
    "run": ["-m", "trainer", "run", "1"],
    "app": ["app.py", "--port", "0"],
}


@pytest.mark.slow
@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("name", ["newer", "unparsable address"])
def test_each_command_ends_with_one_line_and_a_code(sqlite_database: Database, command: str, name: str) -> None:
    sqlite_database.close()
    environment = {**os.environ, **break_store(sqlite_database.home, name)}
    line = [sys.executable, *COMMANDS[command]]
    done = subprocess.run(line, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300)
    said = [row for row in done.stderr.splitlines() if "Warning" not in row]
    assert "Traceback" not in done.stderr
    assert "hunter2" not in done.stderr
    if (command, name) == ("storage", "newer"):  # it looks at a store as it is, and finds the version wrong
        assert done.returncode in (1, 2)
        return
    assert done.returncode == 2, done.stderr
    assert BROKEN[name] in said[-1]
