"""Opening, migrating and sharing the store."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import Engine, create_engine, inspect, text
from stores import make_pair

from storage import StorageError, open_database
from storage.database import DATABASE_FILE
from storage.schema import Base
from storage.votes import all_votes, current_votes, save_vote

VOTERS, VOTES = 8, 20
ROOT = Path(__file__).parents[2]


def readable(index: Any) -> dict[str, Any]:
    """An index with the condition of a partial one as text, so that two can be compared."""
    return {**index, "dialect_options": {name: str(value) for name, value in index.get("dialect_options", {}).items()}}


def tables_of(engine: Engine) -> dict[str, Any]:
    """All that the database knows of its tables, in an order of its own."""
    look = inspect(engine)
    found: dict[str, Any] = {}
    for table in sorted(set(look.get_table_names()) - {"alembic_version"}):
        columns = [(c["name"], str(c["type"]), c["nullable"], c["default"]) for c in look.get_columns(table)]
        parts = [
            look.get_pk_constraint(table),
            *look.get_unique_constraints(table),
            *look.get_foreign_keys(table),
            *look.get_check_constraints(table),
            *map(readable, look.get_indexes(table)),
        ]
        found[table] = (columns, sorted(map(str, parts)))
    return found


def test_the_migrations_make_the_tables_of_the_models(tmp_path: Path) -> None:
    database = open_database(home=tmp_path)
    with database.engine.connect() as connection:
        options = {"compare_type": True, "compare_server_default": True}
        context = MigrationContext.configure(connection, opts=options)
        assert compare_metadata(context, Base.metadata) == []
    direct = create_engine(f"sqlite:///{tmp_path / 'direct.db'}")
    Base.metadata.create_all(direct)
    assert tables_of(database.engine) == tables_of(direct)


def test_opening_again_changes_nothing(tmp_path: Path) -> None:
    first = open_database(home=tmp_path)
    with first.write() as session:
        pair = make_pair(session)
        save_vote(session, pair_id=pair.id, choice="A", voter="v", token="t")
    before = tables_of(first.engine)
    first.close()
    second = open_database(home=tmp_path)
    assert tables_of(second.engine) == before
    with second.read() as session:
        assert len(all_votes(session, pair.id)) == 1
        assert session.scalar(text("SELECT count(*) FROM alembic_version")) == 1


def test_a_store_of_a_newer_version_is_refused_and_left_alone(tmp_path: Path) -> None:
    open_database(home=tmp_path).close()
    with sqlite3.connect(tmp_path / DATABASE_FILE) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(StorageError, match=r"newer version.*9999.*update the program"):
        open_database(home=tmp_path)
    with sqlite3.connect(tmp_path / DATABASE_FILE) as connection:
        assert connection.execute("SELECT version_num FROM alembic_version").fetchall() == [("9999",)]


def test_a_migration_that_fails_leaves_no_half_of_it(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / DATABASE_FILE) as connection:
        connection.execute("CREATE TABLE votes (id INTEGER)")
    with pytest.raises(StorageError, match="votes already exists"):
        open_database(home=tmp_path)
    with sqlite3.connect(tmp_path / DATABASE_FILE) as connection:
        names = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
    assert names == [("votes",)]


def test_what_is_no_database_is_refused_in_words(tmp_path: Path) -> None:
    (tmp_path / DATABASE_FILE).write_text("dear diary, " * 100)
    with pytest.raises(StorageError, match="not a database"):
        open_database(home=tmp_path)
    for url in ("sqlite://", "sqlite:///:memory:", "nonsense", "nosuch://host/db"):
        with pytest.raises(StorageError):
            open_database(url, home=tmp_path / "other")
    with pytest.raises(StorageError, match="can't create the data folder"):
        open_database(home=tmp_path / DATABASE_FILE / "inside")


def test_a_password_in_the_address_is_not_repeated(tmp_path: Path) -> None:
    for url in ("nosuch://me:hunter2@host/db", "postgresql://me:hunter2@127.0.0.1:1/db"):
        with pytest.raises(StorageError, match="can't open the store") as caught:
            open_database(url, home=tmp_path)
        assert "hunter2" not in str(caught.value)


def test_the_environment_says_where_the_store_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DATABASE_URL", raising=False)
    monkeypatch.setenv("DESCORE_HOME", str(tmp_path / "home"))
    assert open_database().home == tmp_path / "home"
    assert (tmp_path / "home" / DATABASE_FILE).is_file()
    assert (tmp_path / "home").stat().st_mode & 0o077 == 0
    monkeypatch.setenv("DATABASE_URL", f"sqlite:///{tmp_path / 'elsewhere.db'}")
    open_database()
    assert (tmp_path / "elsewhere.db").is_file()
    monkeypatch.delenv("DATABASE_URL")
    monkeypatch.delenv("DESCORE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path / "user"))
    assert open_database().home == tmp_path / "user/.local/share/descore-studio"


def test_connections_are_set_up_for_many_writers(tmp_path: Path) -> None:
    database = open_database(home=tmp_path)
    with database.read() as session:
        settings = {name: session.scalar(text(f"PRAGMA {name}")) for name in ("journal_mode", "foreign_keys")}
        assert settings == {"journal_mode": "wal", "foreign_keys": 1}
        assert int(session.scalar(text("PRAGMA busy_timeout")) or 0) >= 10_000


def test_a_block_that_raises_saves_nothing(tmp_path: Path) -> None:
    database = open_database(home=tmp_path)
    with pytest.raises(KeyError), database.write() as session:
        make_pair(session)
        raise KeyError("on the way")
    with database.read() as session:
        assert session.scalar(text("SELECT count(*) FROM videos")) == 0


def test_a_reading_block_can_not_write_and_sees_one_moment(tmp_path: Path) -> None:
    database = open_database(home=tmp_path)
    with pytest.raises(StorageError, match="readonly"), database.read() as session:
        make_pair(session)
    with database.read() as reader:
        assert reader.scalar(text("SELECT count(*) FROM pairs")) == 0
        with database.write() as session:
            make_pair(session)
        assert reader.scalar(text("SELECT count(*) FROM pairs")) == 0
    with database.read() as reader:
        assert reader.scalar(text("SELECT count(*) FROM pairs")) == 1


def test_a_second_writer_waits_from_its_begin(tmp_path: Path) -> None:
    database = open_database(home=tmp_path)
    order: list[str] = []

    def second() -> None:
        with database.write() as session:
            order.append(f"second sees {session.scalar(text('SELECT count(*) FROM pairs'))}")

    with database.write() as session:
        thread = threading.Thread(target=second)
        thread.start()
        thread.join(0.3)
        order.append("first goes on")
        make_pair(session)
    thread.join(30)
    assert order == ["first goes on", "second sees 1"]


VOTING_PROCESS = f"""
import pathlib, sys
from storage import open_database
from storage.votes import save_vote
from stores import make_pair
home, number = pathlib.Path(sys.argv[1]), sys.argv[2]
print("ready", flush=True)
sys.stdin.readline()
database = open_database(home=home)
with database.write() as session:
    pair = make_pair(session)
for i in range({VOTES}):
    for voter in ("voter-" + number, "shared"):
        with database.write() as session:
            save_vote(session, pair_id=pair.id, choice="A", voter=voter, token=f"{{number}}-{{voter}}-{{i}}")
"""


def test_votes_of_many_processes_that_start_together_are_all_there(tmp_path: Path) -> None:
    paths = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(Path(__file__).parent)])}
    workers = [
        subprocess.Popen(
            [sys.executable, "-c", VOTING_PROCESS, str(tmp_path), str(number)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=paths,
        )
        for number in range(VOTERS)
    ]
    for worker in workers:
        assert worker.stdout is not None and worker.stdout.readline() == "ready\n"
    for worker in workers:
        assert worker.stdin is not None
        worker.stdin.write("go\n")
        worker.stdin.close()
    assert [worker.wait(400) for worker in workers] == [0] * VOTERS
    with open_database(home=tmp_path).read() as session:
        votes = all_votes(session, 1)
        current = current_votes(session, 1)
    assert len(votes) == 2 * VOTERS * VOTES
    replaced = [vote.replaces_id for vote in votes if vote.replaces_id is not None]
    assert len(replaced) == len(set(replaced)) == len(votes) - len(current)
    assert sorted(vote.voter for vote in current) == sorted(["shared", *(f"voter-{n}" for n in range(VOTERS))])


def test_an_answered_vote_survives_a_kill(tmp_path: Path) -> None:
    script = (
        "import sys, pathlib; from storage import open_database; from storage.votes import save_vote\n"
        "database = open_database(home=pathlib.Path(sys.argv[1]))\n"
        "for i in range(100_000):\n"
        "    with database.write() as session:\n"
        "        save_vote(session, pair_id=1, choice='B', voter=f'v{i}', token=f't{i}')\n"
        "    print(f'v{i}', flush=True)\n"
    )
    database = open_database(home=tmp_path)
    with database.write() as session:
        make_pair(session)
    child = subprocess.Popen([sys.executable, "-c", script, str(tmp_path)], stdout=subprocess.PIPE, text=True, cwd=ROOT)
    assert child.stdout is not None
    answered = [child.stdout.readline().strip() for _ in range(40)]
    child.send_signal(signal.SIGKILL)
    answered += child.stdout.read().split()
    child.wait()
    with database.read() as session:
        stored = {vote.voter for vote in all_votes(session, 1)}
    assert len(answered) >= 40
    assert set(answered) <= stored
