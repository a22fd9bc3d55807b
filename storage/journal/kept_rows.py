"""Which rows the journal keeps, and a row as a record that names everything by content.

    namer = Namer(session)
    record = record_of(namer, KEPT["labels"], row)     # {"in": "labels", "key": ["anna", "9f..."], "row": {...}}

Ids mean nothing outside of one store, so a record names a video by the sha256 of its file, a pair by its videos and prompt,
a person and a campaign by name, an assignment, a label and a vote by their token.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, TypeAlias, cast

from sqlalchemy import Column, Row, Table, select
from sqlalchemy.orm import Session

from storage.errors import JournalError
from storage.labelling.pair_totals import COUNTS
from storage.schema import InvitationRow, UserRow, UtcDateTime
from storage.sql import ASSIGNMENTS, CAMPAIGN_PAIRS, CAMPAIGNS, GUIDELINES, LABELS, MEMBERS, PAIRS, VIDEOS, VOTES

# A text, or a tuple of texts, numbers and further names; in a file the tuples are lists.
Name: TypeAlias = "str | int | tuple[Name, ...]"
Record: TypeAlias = dict[str, Any]

_CURSORS = ("cursor_position", "cursor_id", "gold_cursor_position", "gold_cursor_id", "repeat_cursor")


@dataclass(frozen=True)
class KeptTable:
    """A table of which the journal keeps rows.

    Attributes:
        key: the columns that name a row in every store.
        other_key: columns that no two rows share either, where they are filled: a row of another name with the same ones
            is the same row.
        derived: columns that are computed when rows are read back.
        quiet: columns whose change alone is not worth a line.
        is_final: rows are never changed.
    """

    table: Table
    key: tuple[str, ...]
    other_key: tuple[str, ...] = ()
    derived: frozenset[str] = frozenset()
    quiet: frozenset[str] = frozenset()
    is_final: bool = False

    @property
    def name(self) -> str:
        """Of the table."""
        return self.table.name

    @property
    def columns(self) -> tuple[Column[Any], ...]:
        """The columns of a record's row, without those of its key."""
        left_out = {"id", *self.key, *self.derived}
        return tuple(column for column in self.table.columns if column.name not in left_out)


def referred(column: Column[Any]) -> Table | None:
    """Return the table whose rows a column names; None for any other column."""
    return next((key.column.table for key in column.foreign_keys), None)


# In the order in which rows are read back: each table after those that its rows name.
KEPT: Mapping[str, KeptTable] = {
    kept.name: kept
    for kept in (
        KeptTable(cast("Table", UserRow.__table__), ("name_key",), other_key=("issuer", "subject")),
        KeptTable(cast("Table", InvitationRow.__table__), ("token_hash",)),
        KeptTable(CAMPAIGNS, ("name",)),
        KeptTable(GUIDELINES, ("campaign_id", "version"), is_final=True),
        KeptTable(VIDEOS, ("sha256",)),
        KeptTable(PAIRS, ("video_a_id", "video_b_id", "prompt_hash")),
        KeptTable(
            CAMPAIGN_PAIRS,
            ("campaign_id", "pair_id"),
            derived=frozenset({"open_slots", "labelled", "consensus", "disputed"}),
        ),
        KeptTable(MEMBERS, ("campaign_id", "annotator_id"), derived=frozenset({*COUNTS, *_CURSORS})),
        KeptTable(
            ASSIGNMENTS,
            ("token",),
            other_key=("campaign_pair_id", "annotator_id", "round"),
            quiet=frozenset({"expires_at"}),  # drafts renew it all the time
        ),
        KeptTable(LABELS, ("annotator_id", "token"), derived=frozenset({"replaces_id", "left_video"}), is_final=True),
        KeptTable(VOTES, ("token",), derived=frozenset({"replaces_id"}), is_final=True),
    )
}
# Kept where a kept row names them, since most of what is uploaded to be judged is deleted after some days.
ON_DEMAND = frozenset({"videos", "pairs"})


@dataclass
class Namer:
    """The names of rows by their ids, within one transaction.

    Attributes:
        known: names of rows that were committed before; they never change.
        new: names that were looked up now.
    """

    session: Session
    known: Mapping[tuple[str, int], Name] = field(default_factory=dict)
    new: dict[tuple[str, int], Name] = field(default_factory=dict)

    def name(self, table: Table, row_id: int) -> Name:
        """Return the name of a row."""
        at = (table.name, row_id)
        name = self.known.get(at) or self.new.get(at)
        if name is None:
            row = self.session.execute(select(table).where(table.c.id == row_id)).one()
            name = self.new[at] = self.name_of(KEPT[table.name], row)
        return name

    def name_of(self, kept: KeptTable, row: Row[Any]) -> Name:
        """Return the name of a row that was loaded."""
        parts = tuple(self.value(kept.table.c[name], getattr(row, name)) for name in kept.key)
        return cast("Name", parts[0] if len(parts) == 1 else parts)

    def value(self, column: Column[Any], value: Any) -> Any:
        """Return a column's value as a record holds it: a name in place of an id, a moment as text."""
        table = referred(column)
        if table is not None and value is not None:
            return self.name(table, value)
        return value.isoformat() if isinstance(value, datetime) else value


def record_of(namer: Namer, kept: KeptTable, row: Row[Any]) -> Record:
    """Return the record of a row."""
    values = {column.name: namer.value(column, getattr(row, column.name)) for column in kept.columns}
    return {"in": kept.name, "key": namer.name_of(kept, row), "row": values}


def named_rows(kept: KeptTable, row: Row[Any]) -> Iterable[tuple[str, int]]:
    """Yield table and id of the videos and pairs that a row names."""
    for column in kept.table.columns:
        table = referred(column)
        value = getattr(row, column.name)
        if table is not None and table.name in ON_DEMAND and value is not None:
            yield table.name, value


def as_name(value: Any) -> Name:
    """Return a name as it was before it became JSON.

    Raises:
        JournalError: it is none.
    """
    if isinstance(value, (list, tuple)):
        return tuple(as_name(part) for part in value)
    if isinstance(value, (str, int)):
        return value
    raise JournalError(f"{value!r} names no row")


def before_it_was_there(column: Column[Any]) -> Any:
    """Return what a column holds in rows of a journal that is older than the column.

    Raises:
        JournalError: nothing says so.
    """
    if column.nullable:
        return None
    if column.default is not None and column.default.is_scalar:
        return cast("Any", column.default).arg
    raise JournalError(f"it has no {column.name} of {column.table.name}")


def as_stored(column: Column[Any], value: Any) -> Any:
    """Return a value of a record as its column takes it; names stay names.

    Raises:
        JournalError: it is not a value of this column.
    """
    if value is None:
        return None
    if referred(column) is not None:
        return as_name(value)
    if isinstance(column.type, UtcDateTime):
        try:
            return datetime.fromisoformat(value)
        except (TypeError, ValueError) as error:
            raise JournalError(f"{column.name} of {column.table.name} is {value!r}, which is no moment") from error
    return value
