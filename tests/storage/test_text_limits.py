"""Lengths of everything that is stored: each column of text has a limit, and every way of writing keeps it."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import JSON, Column, String, Text, insert, update
from sqlalchemy.dialects import sqlite

from storage import Database, StorageError
from storage.errors import TextError
from storage.pairs import add_pair, add_video, get_pair, video_by_public_id
from storage.schema import Base, PairRow, UserRow, VoteRow
from storage.sql import upsert
from storage.text_limits import text_limit
from storage.votes import save_vote
from tests.helpers.stores import make_pair

COLUMNS = {
    f"{table.name}.{column.name}": column
    for table in Base.metadata.tables.values()
    for column in table.columns
    if text_limit(column) is not None
}
TOO_LONG = 20_000_000


def text_of(column: Column[Any], length: int) -> Any:
    """A value of that length, as JSON for a column of JSON."""
    return {"a": "x" * (length - len('{"a": ""}'))} if isinstance(column.type, JSON) else "x" * length


@pytest.mark.parametrize("name", COLUMNS)
def test_no_column_takes_a_longer_text_than_its_limit(sqlite_database: Database, name: str) -> None:
    column = COLUMNS[name]
    limit = text_limit(column)
    assert limit is not None
    # The check comes before the database, so nothing else of the row matters.
    keys = {key.name: "a" if isinstance(key.type, String) else 1 for key in column.table.primary_key}
    row = {**keys, column.name: text_of(column, limit + 1)}
    statements = (
        insert(column.table).values(row),
        update(column.table).values(row),
        sqlite.insert(column.table).values(row).on_conflict_do_nothing(),
    )
    for statement in statements:
        with (
            pytest.raises(TextError, match=rf"{column.name} of {column.table.name} .*has {limit + 1:,} characters; at most"),
            sqlite_database.write() as session,
        ):
            session.execute(statement)
    with sqlite_database.write() as session:  # one that just fits; no row is there, so nothing else can be wrong with it
        session.execute(update(column.table).values({column.name: text_of(column, limit)}))


def test_the_columns_are_all_there() -> None:
    assert {"pairs.prompt", "votes.token", "votes.note", "drafts.content", "runs.overrides", "pairs.source"} <= set(COLUMNS)
    without = [str(column) for column in COLUMNS.values() if not text_limit(column)]
    assert without == []


def test_a_column_of_text_without_a_limit_is_a_mistake() -> None:
    for kind in (Text, JSON):
        with pytest.raises(TypeError, match="has no limit"):
            text_limit(Column("note", kind))


def test_large_inserts_and_upserts_are_checked_too(sqlite_database: Database) -> None:
    people = [{"name": f"person {n}", "name_key": f"person {n}", "role": "viewer"} for n in range(3000)]
    people[2999]["name"] = "x" * 81
    with pytest.raises(TextError, match="name of users has 81 characters; at most 80"), sqlite_database.write() as session:
        session.execute(insert(UserRow), people)
    table = Base.metadata.tables["drafts"]
    statement = upsert(table, ("content",))["sqlite"]
    with pytest.raises(TextError, match="content of drafts as JSON has"), sqlite_database.write() as session:
        session.execute(statement, {"assignment_id": 1, "content": {"note": "x" * 50_000}, "updated_at": None})
    with sqlite_database.read() as session:
        assert session.query(UserRow).count() == 0


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"token": "x" * TOO_LONG}, "token of votes has 20,000,000 characters; at most 64 are allowed"),
        ({"note": "x" * TOO_LONG}, "note of votes has 20,000,000 characters; at most 1,000 are allowed"),
        ({"voter": "x" * 65}, "voter of votes has 65 characters; at most 64 are allowed"),
        ({"note": "a\0b"}, r"note of votes holds the character U\+0000 at position 2"),
        ({"token": "\ud800"}, r"token of votes holds the character U\+D800 at position 1"),
        ({"note": "\ud800"}, r"note of votes holds the character U\+D800 at position 1"),
    ],
)
def test_a_vote_that_can_not_be_kept_is_refused(database: Database, fields: dict[str, str], message: str) -> None:
    with database.write() as session:
        pair = make_pair(session)
    vote: dict[str, Any] = {"voter": "ada", "token": "t", "note": "", **fields}
    with pytest.raises(TextError, match=message), database.write() as session:
        save_vote(session, pair_id=pair.id, choice="A", **vote)
    with database.read() as session:
        assert session.query(VoteRow).count() == 0


@pytest.mark.parametrize("prompt", ["", "  ", "x" * 4001, "x" * 1_000_000, "a\0b", "\ud800", "a\x1bb"])
def test_no_pair_has_a_prompt_that_can_not_be_judged(database: Database, prompt: str) -> None:
    with database.write() as session:
        pair = make_pair(session)
    with pytest.raises(TextError, match="the prompt "), database.write() as session:
        add_pair(session, pair.video_a, pair.video_b, prompt, "test")


def test_names_from_outside_are_checked(database: Database) -> None:
    with database.write() as session:
        pair = make_pair(session)
    for fields in ({"generator_a": "x" * 201}, {"extra_columns": {"note": "x" * 1_000_000}}):
        with pytest.raises(TextError), database.write() as session:
            add_pair(session, pair.video_b, pair.video_a, "p", "test", **fields)
    with pytest.raises(TextError, match="original_name of videos"), database.write() as session:
        add_video(session, sha256="f" * 64, file="f", original_name="x" * 1001, width=1, height=1, fps=1.0, duration=1.0)


def test_what_an_older_store_holds_stays_readable_and_can_be_changed_elsewhere(database: Database) -> None:
    with database.write() as session:
        pair = make_pair(session)
        long = "x" * 5000
        # As an older version wrote it: without the check, which only knows statements of the tables.
        session.connection().exec_driver_sql(f"UPDATE pairs SET prompt = '{long}' WHERE id = {pair.id}")
    with database.write() as session:
        row = session.get(PairRow, pair.id)
        assert row is not None
        row.source = "another"
    with database.read() as session:
        stored = get_pair(session, pair.id)
        assert (stored.prompt, stored.source) == (long, "another")


def test_what_is_no_text_can_not_be_looked_for(sqlite_database: Database) -> None:
    with pytest.raises(StorageError, match="a character that can't be stored"), sqlite_database.read() as session:
        video_by_public_id(session, "\ud800")
