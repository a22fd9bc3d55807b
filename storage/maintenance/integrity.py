"""The integrity check: every violated rule of the store is found and named.

    python -m storage check --videos
    for violation in check_store(database): print(violation)

It reads one consistent view, so it runs beside the app and holds up no writer.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from sqlalchemy import ForeignKeyConstraint, Select, and_, exists, select, text

from storage.errors import NotInStoreError, StorageError
from storage.labelling import totals
from storage.maintenance.integrity_rules import LEASES, REVISIONS, SQLITE_ROWS, TRAINING, VOTES, Rule
from storage.migrations.upgrade import table_versions
from storage.schema import Base, CampaignRow, Part, RunRow, VideoRow
from storage.training.model_registry import serving, usable_location
from storage.training.runs import snapshot_pairs
from storage.training.snapshots import snapshot_hash
from storage.video_files import file_sha256, video_path

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from storage.database import Database

SHOWN = 5


@dataclass(frozen=True)
class Violation:
    """What is wrong.

    Attributes:
        rule: file, tables, foreign keys, leases, gold, revisions, votes, labels, promotions, run_notes, checkpoints, runs,
            totals, videos.
    """

    rule: str
    message: str

    def __str__(self) -> str:
        return f"{self.rule}: {self.message}"


def check_store(database: Database, videos: bool = False) -> tuple[Violation, ...]:
    """All violations; of many of one kind the first few are named and the rest counted.

    Args:
        videos: read every video file too, and compare its content with its sha256.

    Raises:
        StorageError: the store can't be read at all.
    """
    with database.read() as session:
        violations = check_tables(session)
        if all(violation.rule != "tables" for violation in violations):
            violations += _files_of_serving(session, database)
        statement = select(VideoRow.file, VideoRow.sha256).order_by(VideoRow.id)
        files = session.execute(statement).tuples().all() if videos else ()
    for file, sha256 in files:
        violations += _video(database, file, sha256)
    return tuple(violations)


def check_tables(session: Session) -> list[Violation]:
    """As `check_store`, for what one session sees; without the video files."""
    violations = list(_version(session))
    if violations:  # the rules below speak of the newest tables
        return violations
    violations += _file(session)
    violations += _foreign_keys(session)
    rules = (*LEASES, *REVISIONS, *VOTES, *TRAINING)
    for rule in (*rules, *SQLITE_ROWS) if _dialect(session) == "sqlite" else rules:
        violations += _broken(session, rule)
    violations += _snapshots(session)
    violations += _totals(session)
    return violations


def _dialect(session: Session) -> str:
    return session.get_bind().dialect.name


def _version(session: Session) -> Iterator[Violation]:
    here, newest = table_versions(session.connection())
    if here != newest:
        yield Violation("tables", f"they are at version {here or 'none'}, this program's are {newest}: start the app once")


def _file(session: Session) -> Iterator[Violation]:
    if _dialect(session) == "sqlite":
        for (line,) in session.execute(text(f"PRAGMA integrity_check({SHOWN})")):
            if line != "ok":
                yield Violation("file", str(line))


def _foreign_keys(session: Session) -> Iterator[Violation]:
    """Rows that name others which are not there. Asked of the tables themselves: a constraint may have been off."""
    for table in Base.metadata.sorted_tables:
        for constraint in sorted(table.foreign_key_constraints, key=lambda key: str(key.name)):
            column = next(iter(constraint.columns))
            missing = session.execute(_orphans(constraint).limit(SHOWN + 1)).scalars().all()
            if missing:
                target = constraint.referred_table.name
                names = ", ".join(str(value) for value in missing[:SHOWN])
                more = " and more" if len(missing) > SHOWN else ""
                yield Violation("foreign keys", f"{table.name}.{column.name} names {target} that are gone: {names}{more}")


def _orphans(constraint: ForeignKeyConstraint) -> Select[Any]:
    target = constraint.referred_table.alias("target")
    (element,) = constraint.elements
    here, there = element.parent, target.c[element.column.name]
    return select(here).where(and_(here.is_not(None), ~exists(select(there).where(there == here)))).distinct()


def _broken(session: Session, rule: Rule) -> Iterator[Violation]:
    rows = session.execute(text(f"SELECT * FROM ({rule.query}) AS broken LIMIT {SHOWN}")).mappings().all()
    for row in rows:
        yield Violation(rule.name, rule.sentence.format(**row))
    if len(rows) == SHOWN:
        total = int(session.scalar(text(f"SELECT count(*) FROM ({rule.query}) AS broken")) or 0)
        if total > SHOWN:
            yield Violation(rule.name, f"and {total - SHOWN} more like the last one")


def _snapshots(session: Session) -> Iterator[Violation]:
    """Find runs whose pairs are no longer those that they were made with."""
    for run_id, kept, counts in session.execute(select(RunRow.id, RunRow.snapshot_hash, RunRow.counts).order_by(RunRow.id)):
        if kept is None:
            continue
        pairs = tuple(snapshot_pairs(session, run_id))
        there = {part: sum(pair.part == part for pair in pairs) for part in get_args(Part)}
        for part, number in there.items():
            if counts.get(part) != number:
                yield Violation("runs", f"run {run_id} has {number} pairs as {part}, its counts say {counts.get(part)}")
        if snapshot_hash(pairs) != kept:
            yield Violation("runs", f"the data of run {run_id} is not what was frozen: its sha256 is not {kept}")


def _totals(session: Session) -> Iterator[Violation]:
    for campaign_id in session.scalars(select(CampaignRow.id).order_by(CampaignRow.id)).all():
        lines = totals.differences(session, campaign_id)
        for line in lines[:SHOWN]:
            yield Violation("totals", f"campaign {campaign_id}: {line}")
        if len(lines) > SHOWN:
            yield Violation("totals", f"campaign {campaign_id}: and {len(lines) - SHOWN} more")


def _files_of_serving(session: Session, database: Database) -> Iterator[Violation]:
    now = serving(session)
    if now is not None and now.location.startswith(".") and not Path(usable_location(now, database.home)).is_dir():
        yield Violation("checkpoints", f"{now.name} serves, and its folder {now.location} is not in the data folder")


def _video(database: Database, file: str, sha256: str) -> Iterator[Violation]:
    try:
        actual = file_sha256(video_path(file, database.home))
    except NotInStoreError:
        yield Violation("videos", f"{file} is not in the folder of videos")
        return
    except StorageError as error:
        yield Violation("videos", str(error))
        return
    if actual != sha256:
        yield Violation("videos", f"{file} is no longer what was stored: its sha256 is {actual}")
