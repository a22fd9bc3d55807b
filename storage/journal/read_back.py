"""Reading journals back into a store: once or again, empty or not, every label is there exactly once.

    outcome = read_back(database, read_records([path]))
    outcome.notes                        # sentences about what was cut off

Rows are found by their names. A row that is never changed (a label, a vote) is added if it is not there; of any other the
last record counts. What follows from assignments and labels (totals, cursors, which revision replaces which) is computed
again.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sqlalchemy import Row, func, insert, select, update
from sqlalchemy.orm import Session

from storage.errors import JournalConflictError, JournalError
from storage.journal.journal_file import Line, read_journal
from storage.journal.kept_rows import KEPT, KeptTable, Name, Namer, Record, as_name, as_stored, before_it_was_there, referred
from storage.labelling import totals
from storage.labelling.vote_labels import label_votes
from storage.sql import ASSIGNMENTS, CAMPAIGNS, LABELS, MEMBERS, VOTES

if TYPE_CHECKING:
    from storage.database import Database
    from storage.schema import Action, AssignmentState, Side

_BATCH = 1000
# Of columns that are computed afterwards and have no default.
_UNTIL_COMPUTED: Mapping[str, Mapping[str, Any]] = {"campaign_pairs": {"open_slots": 0}}
_STATES: Mapping[Action, AssignmentState] = {"label": "labelled", "skip": "skipped", "flag": "flagged"}


@dataclass(frozen=True)
class ReadBack:
    """What was read back.

    Attributes:
        records: the last record of each row, by table and name.
        labels, votes: how many were new to the store.
        notes: sentences for the person who runs the app.
    """

    records: Mapping[Name, Record]
    labels: int = 0
    votes: int = 0
    notes: tuple[str, ...] = ()


def read_records(paths: Iterable[Path]) -> ReadBack:
    """Read journals without a store.

    Args:
        paths: in any order; their names are those of the starts.

    Raises:
        JournalError: a file is damaged or of a newer version.
        JournalConflictError: two lines give one label, vote or guideline differently.
    """
    records: dict[Name, Record] = {}
    notes = []
    for path in sorted(paths, key=lambda path: path.name):
        journal = read_journal(path)
        notes += [journal.cut] if journal.cut else []
        for line in journal.lines:
            _take(records, line)
    return ReadBack(records, notes=tuple(notes))


def read_back(database: Database, read: ReadBack) -> ReadBack:
    """Bring what journals hold into a store, all of it or nothing.

    Args:
        read: as of `read_records`.

    Raises:
        JournalError: a record names a row that no file holds.
        JournalConflictError: it contradicts itself or the store.
        StorageError: the store can't be written.
    """
    by_table: dict[str, list[Record]] = {name: [] for name in KEPT}
    for record in read.records.values():
        by_table[record["in"]].append(record)
    new: dict[str, int] = {}
    if read.records:
        with database.write() as session:
            stock = _Stock(session)
            for kept in KEPT.values():
                new[kept.name] = _bring(stock, kept, by_table[kept.name])
            _repair_assignments(session)
            label_votes(session)
            for campaign_id in session.scalars(select(CAMPAIGNS.c.id)).all():
                totals.rebuild(session, campaign_id)
                _restart_cursors(session, campaign_id)
    return ReadBack(read.records, new.get("labels", 0), new.get("votes", 0), read.notes)


def _take(records: dict[Name, Record], line: Line) -> None:
    for record in line.records:
        kept = KEPT.get(record["in"])
        if kept is None:
            raise JournalError(
                f"{line.where}: it holds {record['in']}, which this version does not know: update the program"
            )
        unknown = set(record["row"]) - {column.name for column in kept.columns}
        if unknown:
            raise JournalError(
                f"{line.where}: {kept.name} with {', '.join(sorted(unknown))}, which this version does not know: update the "
                "program"
            )
        try:
            at = (kept.name, as_name(record["key"]))
        except JournalError as error:
            raise JournalError(f"{line.where}: {error}") from error
        before = records.get(at)
        if before is not None and kept.is_final and before["row"] != record["row"]:
            raise _conflict(line.where, kept, record, "an earlier line")
        # The place of the first record is kept: labels stay in the order in which they were given.
        records[at] = {**record, "where": line.where}


def _conflict(where: str, kept: KeptTable, record: Record, other: str) -> JournalConflictError:
    return JournalConflictError(
        f"{where}: {kept.name} {record['key']} differs from {other}. Nothing was read back. Take one of the two out of "
        "the dataset, or start from an empty data folder."
    )


@dataclass
class _Stock:
    """The rows of the store, by name."""

    session: Session
    ids: dict[tuple[str, Name], int] = field(default_factory=dict)
    namer: Namer = field(init=False)

    def __post_init__(self) -> None:
        self.namer = Namer(self.session)

    def load(self, kept: KeptTable) -> dict[Name, Row[Any]]:
        """Return the rows of a table by name, and note their ids."""
        rows = {}
        for row in self.session.execute(select(kept.table).order_by(kept.table.c.id)):
            name = self.namer.name_of(kept, row)
            rows[name] = row
            self.ids[kept.name, name] = row.id
        return rows

    def values(self, kept: KeptTable, record: Record) -> dict[str, Any]:
        """Return a record as a row, without its id.

        Raises:
            JournalError: it names a row that is nowhere.
        """
        key = as_name(record["key"])
        parts = (key,) if len(kept.key) == 1 else key
        if not isinstance(parts, tuple) or len(parts) != len(kept.key):
            raise JournalError(f"{record['where']}: {record['key']} names no row of {kept.name}")
        given = {**record["row"], **dict(zip(kept.key, parts, strict=True))}
        values: dict[str, Any] = {}
        for name, value in given.items():
            column = kept.table.c[name]
            stored = as_stored(column, value)
            table = referred(column)
            if table is not None and stored is not None:
                if (table.name, stored) not in self.ids:
                    raise JournalError(
                        f"{record['where']}: {kept.name} {record['key']} belongs to {table.name} {value}, which no file of "
                        "the journal holds. Was a file taken out of the dataset?"
                    )
                stored = self.ids[table.name, stored]
            values[name] = stored
        for column in kept.columns:
            if column.name not in values:
                try:
                    values[column.name] = before_it_was_there(column)
                except JournalError as error:
                    raise JournalError(f"{record['where']}: {error}") from error
        return values


def _bring(stock: _Stock, kept: KeptTable, records: Sequence[Record]) -> int:
    """Add the rows of a table that are not there and bring the others up to date; return how many were added."""
    session, present = stock.session, stock.load(kept)
    others = {tuple(getattr(row, name) for name in kept.other_key): row.id for row in present.values()}
    revisions = _Revisions(session, kept)
    following = (session.scalar(select(func.max(kept.table.c.id))) or 0) + 1
    added: list[dict[str, Any]] = []
    changed: list[tuple[int, dict[str, Any]]] = []
    for record in records:
        values, name = stock.values(kept, record), as_name(record["key"])
        row = present.get(name)
        if row is not None:
            if kept.is_final and any(getattr(row, column) != value for column, value in values.items()):
                raise _conflict(record["where"], kept, record, "the one in the store")
            if not kept.is_final and kept.name != "videos":  # its public id is in people's browsers
                changed.append((row.id, values))
            continue
        other = tuple(values[column] for column in kept.other_key)
        has_other = bool(other) and None not in other
        if has_other and other in others:
            # Two apps gave the pair to the same person at the same time, under two tokens: the first counts.
            stock.ids[kept.name, name] = others[other]
            continue
        computed = {**_UNTIL_COMPUTED.get(kept.name, {}), **revisions.link(following, values)}
        added.append({"id": following, **values, **computed})
        stock.ids[kept.name, name] = following
        if has_other:
            others[other] = following
        following += 1
    for start in range(0, len(added), _BATCH):
        session.execute(insert(kept.table), added[start : start + _BATCH])
    for row_id, values in changed:
        session.execute(update(kept.table).where(kept.table.c.id == row_id).values(values))
    return len(added)


class _Revisions:
    """A new label replaces the last one of its assignment, a new vote the one of its person on the pair that counts."""

    def __init__(self, session: Session, kept: KeptTable) -> None:
        self._table = kept.table
        self._last: dict[tuple[Any, ...], int] = {}
        self._left_videos: dict[int, Side] = {}
        if kept.table is LABELS:
            newest = select(LABELS.c.assignment_id, func.max(LABELS.c.id)).group_by(LABELS.c.assignment_id)
            self._last = {("assignment", assignment): last for assignment, last in session.execute(newest)}
            self._left_videos = dict(session.execute(select(ASSIGNMENTS.c.id, ASSIGNMENTS.c.left_video)).tuples().all())
        elif kept.table is VOTES:
            replaced = select(VOTES.c.replaces_id).where(VOTES.c.replaces_id.is_not(None))
            for row in session.execute(select(VOTES).where(VOTES.c.id.not_in(replaced))):
                self._last[_voter(row.pair_id, row.voter, row.user_id)] = row.id

    def link(self, row_id: int, values: Mapping[str, Any]) -> dict[str, Any]:
        """Return the columns that come from the assignment and from the revision before, and remember this one."""
        if self._table is LABELS:
            assignment = values["assignment_id"]
            before = self._replace(("assignment", assignment), row_id)
            return {"replaces_id": before, "left_video": self._left_videos[assignment]}
        if self._table is VOTES:
            pair, voter, user = values["pair_id"], values["voter"], values["user_id"]
            before = self._replace(_voter(pair, voter, user), row_id)
            if before is None and user is not None:  # as in `storage.votes.save_vote`
                before = self._last.pop(_voter(pair, voter, None), None)
            return {"replaces_id": before}
        return {}

    def _replace(self, whose: tuple[Any, ...], row_id: int) -> int | None:
        before = self._last.get(whose)
        self._last[whose] = row_id
        return before


def _voter(pair_id: int, voter: str, user_id: int | None) -> tuple[Any, ...]:
    return ("browser", pair_id, voter) if user_id is None else ("account", pair_id, user_id)


def _repair_assignments(session: Session) -> None:
    """Let each assignment say what its last label says: its own record may be older."""
    newest = select(func.max(LABELS.c.id)).group_by(LABELS.c.assignment_id)
    columns = (ASSIGNMENTS.c.id, ASSIGNMENTS.c.state, ASSIGNMENTS.c.kind, ASSIGNMENTS.c.seconds, ASSIGNMENTS.c.finished_at)
    rows = session.execute(
        select(*columns, LABELS.c.action, LABELS.c.seconds.label("label_seconds"), LABELS.c.created_at)
        .join(LABELS, LABELS.c.assignment_id == ASSIGNMENTS.c.id)
        .where(LABELS.c.id.in_(newest))
    )
    for row in rows.all():
        state = _STATES.get(row.action, row.state if row.state in ("leased", "returned") else "returned")
        counts = state == "labelled" and row.kind != "adjudication"
        values = {
            "state": state,
            "seconds": row.label_seconds if counts else None,
            "finished_at": row.finished_at or row.created_at,
        }
        if any(getattr(row, name) != value for name, value in values.items()):
            session.execute(update(ASSIGNMENTS).where(ASSIGNMENTS.c.id == row.id).values(values))


def _restart_cursors(session: Session, campaign_id: int) -> None:
    """Send everybody to the front of the queue, to be led past what they had, and note up to where they got repeats."""
    repeats = ASSIGNMENTS.alias("repeats")
    repeated = (
        select(func.coalesce(func.max(ASSIGNMENTS.c.id), 0))
        .join(repeats, repeats.c.campaign_pair_id == ASSIGNMENTS.c.campaign_pair_id)
        .where(
            ASSIGNMENTS.c.campaign_id == MEMBERS.c.campaign_id,
            ASSIGNMENTS.c.annotator_id == MEMBERS.c.annotator_id,
            repeats.c.annotator_id == MEMBERS.c.annotator_id,
            ASSIGNMENTS.c.round == 0,
            repeats.c.round == 1,
        )
        .correlate(MEMBERS)
        .scalar_subquery()
    )
    front = {"cursor_position": -1, "cursor_id": 0, "gold_cursor_position": -1, "gold_cursor_id": 0}
    session.execute(update(MEMBERS).where(MEMBERS.c.campaign_id == campaign_id).values(**front, repeat_cursor=repeated))
