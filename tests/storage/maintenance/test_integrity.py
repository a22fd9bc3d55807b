"""Damage done to the store on purpose is found, and named by the rule that it breaks."""

from __future__ import annotations

import re
import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import text

from benchmarks.helpers.big_store import fill
from descore.answer import DIMENSIONS
from storage import Database, open_database
from storage.campaigns.label_schema import Answer
from storage.labelling.assignments import Assignment
from storage.labelling.next_assignment import next_assignment
from storage.labelling.submit import submit, undo
from storage.maintenance.integrity import check_store, check_tables
from storage.pairs import add_video
from storage.video_files import store_video
from storage.votes import save_vote
from tests.helpers.stores import make_pair

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from tests.helpers.postgresql import Server

PEOPLE = 11


class UndoError(Exception):
    """Ends a transaction without saving."""


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def worked(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Database]:
    """A store after some work: labels, an edited and a withdrawn one, a skip, open leases, votes."""
    url = None
    if request.param == "postgresql":
        server: Server = request.getfixturevalue("postgresql")
        url = server.create("checked")
    database = open_database(url, home=tmp_path_factory.mktemp("checked"))
    filled = fill(database, pairs=30, labels=120, people=PEOPLE)
    with database.write() as session:
        for number, person in enumerate(filled.people[:6]):
            assignment = next_assignment(session, filled.campaign_id, person.id)
            assert isinstance(assignment, Assignment)
            if number == 5:
                continue
            action = "skip" if number == 4 else "label"
            answer = Answer(action=action, choice=None if number == 4 else "A", reason="dark" if number == 4 else "")
            saved = submit(session, assignment.token, person.id, f"first {number}", complete(answer)).label
            if number == 0:
                submit(session, assignment.token, person.id, "edited", complete(Answer(choice="B")), edits=saved.id)
            if number == 1:
                undo(session, filled.campaign_id, person.id, "taken back")
        pair = make_pair(session)
        for token, choice in (("1", "A"), ("2", "B")):
            save_vote(session, pair_id=pair.id, choice=choice, voter="v", token=token)  # type: ignore[arg-type]
    yield database
    database.close()
    if url:
        server.drop("checked")


def complete(answer: Answer) -> Answer:
    """With all that the campaign asks."""
    if answer.action != "label":
        return answer
    scores = {side: dict.fromkeys(DIMENSIONS, "2") for side in "AB"}
    return Answer(choice=answer.choice, strength="clearly", sub_scores=scores, seconds=7.5)


def test_a_store_in_use_passes(worked: Database) -> None:
    assert check_store(worked) == ()


def allow_anything(session: Session) -> None:
    """Switch off, for this transaction, what keeps the tables in order: only damage gets past it."""
    if session.get_bind().dialect.name == "postgresql":
        session.execute(text("SET LOCAL session_replication_role = replica"))
        return
    session.execute(text("PRAGMA defer_foreign_keys = ON"))
    for name in session.scalars(text("SELECT name FROM sqlite_master WHERE type = 'trigger'")).all():
        session.execute(text(f"DROP TRIGGER {name}"))


def drop_unique(session: Session, table: str, constraint: str) -> None:
    """Rows that a unique constraint would refuse can come in."""
    if session.get_bind().dialect.name == "postgresql":
        session.execute(text(f"ALTER TABLE {table} DROP CONSTRAINT {constraint}"))
        return
    session.execute(text("PRAGMA legacy_alter_table = ON"))
    session.execute(text(f"CREATE TABLE copied AS SELECT * FROM {table}"))
    session.execute(text(f"DROP TABLE {table}"))
    session.execute(text(f"ALTER TABLE copied RENAME TO {table}"))


WORK = "(SELECT min(id) FROM assignments WHERE kind = 'work')"
REPEAT = "(SELECT min(id) FROM assignments WHERE kind = 'repeat')"
LAST_OF_EDITED = "(SELECT max(id) FROM labels WHERE token = 'edited')"
DAMAGES = [
    ("leases", "has 3 open slots, where", "UPDATE campaign_pairs SET open_slots = 3 WHERE id = 9"),
    ("leases", "without an end", "UPDATE assignments SET expires_at = leased_at WHERE state = 'leased'"),
    ("leases", "of kind work stands in round 2", f"UPDATE assignments SET round = 2 WHERE id = {WORK}"),
    ("leases", "repeats a pair that user", f"UPDATE assignments SET kind = 'repeat', round = 1 WHERE id = {WORK}"),
    ("leases", "names pair", f"UPDATE assignments SET pair_id = pair_id % 30 + 1 WHERE id = {WORK}"),
    ("leases", "without being a member", "DELETE FROM members WHERE annotator_id = 3"),
    ("gold", "is gold without an answer", "UPDATE campaign_pairs SET gold = NULL WHERE is_gold"),
    ("revisions", "belongs to assignment", f"UPDATE labels SET replaces_id = 1 WHERE id = {LAST_OF_EDITED}"),
    ("revisions", "which is not older", "UPDATE labels SET replaces_id = id WHERE id = 7"),
    ("revisions", "have 2 beginnings", f"UPDATE labels SET replaces_id = NULL WHERE id = {LAST_OF_EDITED}"),
    ("revisions", "another campaign, pair, person", "UPDATE labels SET annotator_id = annotator_id % 11 + 1 WHERE id = 7"),
    ("revisions", "is labelled, its last revision says nothing", "DELETE FROM labels WHERE id = 7"),
    ("revisions", "its label 1007", "UPDATE labels SET seconds = 1007 WHERE id = 7"),
    ("revisions", "is leased, its last revision says label", "UPDATE assignments SET state = 'leased' WHERE id = 7"),
    ("foreign keys", "pairs.video_b_id names videos that are gone: 999", "UPDATE pairs SET video_b_id = 999 WHERE id = 2"),
    ("foreign keys", "assignments.annotator_id names users that are gone: 4", "DELETE FROM users WHERE id = 4"),
    ("foreign keys", "labels.replaces_id names labels", "DELETE FROM labels WHERE token = 'first 0'"),
    ("totals", "labels is", "UPDATE members SET labels = labels + 1 WHERE annotator_id = 2"),
    ("totals", "agreement overall", "DELETE FROM agreement_patterns WHERE item = 'overall'"),
    ("totals", "consensus is", "UPDATE campaign_pairs SET consensus = 'both_bad', disputed = true WHERE id = 8"),
    ("totals", "should be tie", "UPDATE labels SET choice = 'tie', strength = NULL WHERE choice = 'A'"),
    ("votes", "of another pair or voter", "UPDATE votes SET voter = 'w' WHERE replaces_id IS NOT NULL"),
    ("votes", "has 2 current votes", "UPDATE votes SET replaces_id = NULL WHERE replaces_id IS NOT NULL"),
    ("votes", "vote 2 counts and is no label", "UPDATE labels SET token = 'another' WHERE token = '2'"),
    ("votes", "user 1 has 2 current votes", "UPDATE votes SET user_id = 1, replaces_id = NULL"),
    ("tables", "they are at version 0001", "UPDATE alembic_version SET version_num = '0001'"),
]


@pytest.mark.parametrize(("rule", "words", "damage"), DAMAGES, ids=[words for _, words, _ in DAMAGES])
def test_damage_is_found_and_named(worked: Database, rule: str, words: str, damage: str) -> None:
    with pytest.raises(UndoError), worked.write() as session:
        allow_anything(session)
        changed = session.execute(text(damage)).rowcount  # type: ignore[attr-defined]
        assert changed > 0
        found = check_tables(session)
        assert [one for one in found if one.rule == rule and re.search(words, one.message)], found
        raise UndoError
    assert check_store(worked) == ()


DUPLICATES = [
    (
        "leases",
        "2 times in round 0",
        "assignments",
        "uq_assignments_campaign_pair_id_annotator_id_round",
        f"UPDATE assignments SET round = 0, kind = 'work' WHERE id = {REPEAT}",
    ),
    (
        "revisions",
        "label 5 is replaced 2 times",
        "labels",
        "uq_labels_replaces_id",
        "UPDATE labels SET replaces_id = 5 WHERE id IN (7, 8)",
    ),
]


@pytest.mark.parametrize(("rule", "words", "table", "constraint", "damage"), DUPLICATES)
def test_what_a_constraint_should_have_refused_is_found(
    worked: Database, rule: str, words: str, table: str, constraint: str, damage: str
) -> None:
    with pytest.raises(UndoError), worked.write() as session:
        allow_anything(session)
        drop_unique(session, table, constraint)
        session.execute(text(damage))
        found = check_tables(session)
        assert [one for one in found if one.rule == rule and words in one.message], found
        raise UndoError


def test_a_row_that_is_gone_without_a_trace_leaves_a_hole(tmp_path: Path) -> None:
    database = open_database(home=tmp_path)
    with database.write() as session:
        pair = make_pair(session)
        for number in range(5):
            save_vote(session, pair_id=pair.id, choice="A", voter=f"v{number}", token=f"{number}")
    database.close()
    with sqlite3.connect(tmp_path / "descore.db") as connection:
        connection.execute("DROP TRIGGER votes_no_delete")
        connection.execute("DELETE FROM votes WHERE id = 3")
    database = open_database(home=tmp_path)
    assert [str(one) for one in check_store(database)] == ["votes: 1 votes below number 5 are gone"]
    database.close()


def test_an_index_that_lost_a_row_is_found(tmp_path: Path) -> None:
    database = open_database(home=tmp_path)
    database.close()
    with sqlite3.connect(tmp_path / "descore.db") as connection:
        index = "type = 'index' AND name = 'ix_sign_in_attempts_name_key_created_at'"
        kept = connection.execute(f"SELECT * FROM sqlite_master WHERE {index}").fetchone()
        connection.execute("PRAGMA writable_schema = ON")
        connection.execute(f"DELETE FROM sqlite_master WHERE {index}")
    with sqlite3.connect(tmp_path / "descore.db") as connection:
        connection.execute("INSERT INTO sign_in_attempts VALUES (1, 'x', 'y', '2026-01-01 00:00:00.000000')")
        connection.execute("PRAGMA writable_schema = ON")
        connection.execute("INSERT INTO sqlite_master VALUES (?, ?, ?, ?, ?)", kept)
    database = open_database(home=tmp_path)
    assert {one.rule for one in check_store(database)} == {"file"}
    database.close()


def test_videos_are_read_and_compared(database: Database, tmp_path: Path) -> None:
    for number in range(3):
        source = tmp_path / f"{number}.mp4"
        source.write_bytes(bytes([number]) * 100)
        stored = store_video(source, database.home)
        with database.write() as session:
            facts = {"original_name": source.name, "width": 1, "height": 1, "fps": 1.0, "duration": 1.0}
            add_video(session, sha256=stored.sha256, file=stored.file, **facts)
        if number == 1:
            stored.path.write_bytes(b"changed")
        elif number == 2:
            stored.path.unlink()
    assert check_store(database) == ()
    changed, gone = check_store(database, videos=True)
    assert "is no longer what was stored" in changed.message
    assert "is not in the folder of videos" in gone.message


def test_of_many_violations_a_few_are_named_and_the_rest_counted(worked: Database) -> None:
    with pytest.raises(UndoError), worked.write() as session:
        allow_anything(session)
        session.execute(text("UPDATE labels SET seconds = seconds + 1"))
        found = [one.message for one in check_tables(session) if "s on task" in one.message or "more like" in one.message]
        raise UndoError
    assert len(found) == 6
    assert re.fullmatch(r"and 1\d\d more like the last one", found[-1])


def test_writers_go_on_during_a_check(worked: Database) -> None:
    with worked.read() as reading:
        assert check_tables(reading) == []
        done = threading.Event()

        def write() -> None:
            with worked.write() as session:
                save_vote(session, pair_id=1, choice="A", voter="meanwhile", token="meanwhile")
            done.set()

        writer = threading.Thread(target=write)
        writer.start()
        assert done.wait(20)
        writer.join()
        assert check_tables(reading) == []
    assert check_store(worked) == ()
