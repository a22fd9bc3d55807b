"""Opening, migrating and sharing the store."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import Engine, create_engine, inspect, make_url, text

from storage import Database, StorageError, open_database
from storage.database import DATABASE_FILE
from storage.schema import AssignmentRow, Base, CampaignPairRow, CampaignRow, LabelRow, UserRow, utc_now
from storage.votes import all_votes, current_votes, save_vote
from tests.helpers.paths import ROOT
from tests.helpers.stores import make_pair, url_of

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

VOTERS, VOTES = 8, 20


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


def test_the_migrations_make_the_tables_of_the_models(empty_url: str, tmp_path: Path) -> None:
    database = open_database(empty_url, home=tmp_path)
    with database.engine.connect() as connection:
        # Defaults are compared below: Alembic's own comparison of them fails on a JSON column of PostgreSQL.
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, Base.metadata) == []
    by_migrations = tables_of(database.engine)
    engine = create_engine(database.engine.url)
    Base.metadata.drop_all(engine)
    Base.metadata.create_all(engine)
    assert tables_of(engine) == by_migrations
    engine.dispose()
    database.close()


def test_opening_again_changes_nothing(empty_url: str, tmp_path: Path) -> None:
    first = open_database(empty_url, home=tmp_path)
    with first.write() as session:
        pair = make_pair(session)
        save_vote(session, pair_id=pair.id, choice="A", voter="v", token="t")
    before = tables_of(first.engine)
    first.close()
    second = open_database(empty_url, home=tmp_path)
    assert tables_of(second.engine) == before
    with second.read() as session:
        assert len(all_votes(session, pair.id)) == 1
        assert session.scalar(text("SELECT count(*) FROM alembic_version")) == 1
    second.close()


def test_a_store_of_a_newer_version_is_refused_and_left_alone(database: Database) -> None:
    with database.write() as session:
        session.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(StorageError, match=r"newer version.*9999.*update the program"):
        open_database(url_of(database), home=database.home)
    with database.read() as session:
        assert session.scalars(text("SELECT version_num FROM alembic_version")).all() == ["9999"]


def test_a_migration_that_fails_leaves_no_half_of_it(empty_url: str, tmp_path: Path) -> None:
    engine = create_engine(make_url(empty_url))
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE votes (id INTEGER)"))
    with pytest.raises(StorageError, match=r"votes\"? already exists"):
        open_database(empty_url, home=tmp_path)
    assert inspect(engine).get_table_names() == ["votes"]
    engine.dispose()


def add_bare_label(session: Session, pair_id: int) -> None:
    """A label with all that must stand behind it."""
    user = UserRow(name="Ann", name_key="ann", role="annotator")
    campaign = CampaignRow(
        name="c",
        dimensions=[],
        overlap=1,
        gold_share=0,
        repeat_share=0,
        ordering="random",
        visible=[],
        lease_seconds=60,
        qualification_pairs=0,
        qualification_pass=0,
        seed="s",
    )
    session.add_all([user, campaign])
    session.flush()
    place = CampaignPairRow(campaign_id=campaign.id, pair_id=pair_id, position=1, open_slots=0)
    session.add(place)
    session.flush()
    shared = {
        "campaign_id": campaign.id,
        "campaign_pair_id": place.id,
        "pair_id": pair_id,
        "annotator_id": user.id,
        "left_video": "A",
        "guideline_version": 1,
        "token": "t",
    }
    assignment = AssignmentRow(kind="work", round=0, state="labelled", expires_at=utc_now(), **shared)
    session.add(assignment)
    session.flush()
    empty = {"sub_scores": {}, "marks": [], "reason": "", "visible": [], "seconds": 1.0, "playback": {}}
    session.add(LabelRow(assignment_id=assignment.id, action="label", choice="A", note="good", **empty, **shared))
    session.flush()


@pytest.mark.parametrize("table", ["votes", "labels"])
@pytest.mark.parametrize("change", ["UPDATE {} SET note = 'better'", "DELETE FROM {}", "TRUNCATE {} CASCADE"])
def test_the_database_itself_refuses_to_change_votes_and_labels(database: Database, table: str, change: str) -> None:
    if change.startswith("TRUNCATE") and database.engine.dialect.name == "sqlite":
        change = "REPLACE INTO {0} SELECT * FROM {0}"
    with database.write() as session:
        pair = make_pair(session)
        save_vote(session, pair_id=pair.id, choice="A", voter="v", token="t", note="good")
        add_bare_label(session, pair.id)
    with pytest.raises(StorageError, match="append-only"), database.write() as session:
        session.execute(text(change.format(table)))
    with database.read() as session:
        # A vote is a label too.
        assert set(session.scalars(text(f"SELECT note FROM {table}"))) == {"good"}
        assert session.scalar(text(f"SELECT count(*) FROM {table}")) == {"votes": 1, "labels": 2}[table]


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
        settings = {name: session.scalar(text(f"PRAGMA {name}")) for name in ("journal_mode", "synchronous", "foreign_keys")}
        # 2 is FULL: a commit waits for the disk.
        assert settings == {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1}
        assert int(session.scalar(text("PRAGMA busy_timeout")) or 0) >= 10_000


def test_a_block_that_raises_saves_nothing(database: Database) -> None:
    with pytest.raises(KeyError), database.write() as session:
        make_pair(session)
        raise KeyError("on the way")
    with database.read() as session:
        assert session.scalar(text("SELECT count(*) FROM videos")) == 0


def test_a_reading_block_can_not_write_and_sees_one_moment(database: Database) -> None:
    with pytest.raises(StorageError, match=r"(?i)read-?only"), database.read() as session:
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
from tests.helpers.stores import make_pair
url, home, number = sys.argv[1], pathlib.Path(sys.argv[2]), sys.argv[3]
print("ready", flush=True)
sys.stdin.readline()
database = open_database(url, home=home)
with database.write() as session:
    pair = make_pair(session)
for i in range({VOTES}):
    for voter in ("voter-" + number, "shared"):
        with database.write() as session:
            save_vote(session, pair_id=pair.id, choice="A", voter=voter, token=f"{{number}}-{{voter}}-{{i}}")
"""


@pytest.mark.slow
@pytest.mark.endurance  # many processes
def test_votes_of_many_processes_that_start_together_are_all_there(empty_url: str, tmp_path: Path) -> None:
    paths = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(Path(__file__).parent)])}
    workers = [
        subprocess.Popen(
            [sys.executable, "-c", VOTING_PROCESS, empty_url, str(tmp_path), str(number)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=paths,
        )
        for number in range(VOTERS)
    ]
    for worker in workers:
        assert worker.stdout is not None
        assert worker.stdout.readline() == "ready\n"
    for worker in workers:
        assert worker.stdin is not None
        worker.stdin.write("go\n")
        worker.stdin.close()
    assert [worker.wait(400) for worker in workers] == [0] * VOTERS
    database = open_database(empty_url, home=tmp_path)
    with database.read() as session:
        votes = all_votes(session, 1)
        current = current_votes(session, 1)
    assert len(votes) == 2 * VOTERS * VOTES
    replaced = [vote.replaces_id for vote in votes if vote.replaces_id is not None]
    assert len(replaced) == len(set(replaced)) == len(votes) - len(current)
    assert sorted(vote.voter for vote in current) == sorted(["shared", *(f"voter-{n}" for n in range(VOTERS))])
    database.close()


@pytest.mark.slow
def test_an_answered_vote_survives_a_kill(database: Database) -> None:
    script = (
        "import sys, pathlib; from storage import open_database; from storage.votes import save_vote\n"
        "database = open_database(sys.argv[1], home=pathlib.Path(sys.argv[2]))\n"
        "for i in range(100_000):\n"
        "    with database.write() as session:\n"
        "        save_vote(session, pair_id=1, choice='B', voter=f'v{i}', token=f't{i}')\n"
        "    print(f'v{i}', flush=True)\n"
    )
    with database.write() as session:
        make_pair(session)
    command = [sys.executable, "-c", script, url_of(database), str(database.home)]
    child = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT)
    assert child.stdout is not None
    answered = [child.stdout.readline().strip() for _ in range(40)]
    child.send_signal(signal.SIGKILL)
    answered += child.stdout.read().split()
    child.wait()
    with database.read() as session:
        stored = {vote.voter for vote in all_votes(session, 1)}
    assert len(answered) >= 40
    assert set(answered) <= stored
