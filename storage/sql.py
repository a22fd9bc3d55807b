"""The tables as SQL knows them, for statements that run at every label.

Those are written once, at the top of their modules, with named parameters: building a statement for each request
takes several times as long as running it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar, cast

from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import IntegrityError

from storage.schema import (
    AgreementPatternRow,
    AssignmentRow,
    Base,
    CampaignPairRow,
    CampaignRow,
    DraftRow,
    ExternalScoreRow,
    GuidelineRow,
    LabelRow,
    MemberRow,
    PairRow,
    RunPairRow,
    VideoRow,
    VideoStatsRow,
    VoteRow,
)

if TYPE_CHECKING:
    from sqlalchemy import Select, Table
    from sqlalchemy.orm import Session


def _table(row: type[Base]) -> Table:
    return cast("Table", row.__table__)


CAMPAIGNS = _table(CampaignRow)
GUIDELINES = _table(GuidelineRow)
CAMPAIGN_PAIRS = _table(CampaignPairRow)
MEMBERS = _table(MemberRow)
PATTERNS = _table(AgreementPatternRow)
ASSIGNMENTS = _table(AssignmentRow)
DRAFTS = _table(DraftRow)
LABELS = _table(LabelRow)
PAIRS = _table(PairRow)
VIDEOS = _table(VideoRow)
VOTES = _table(VoteRow)
VIDEO_STATS = _table(VideoStatsRow)
RUN_PAIRS = _table(RunPairRow)
EXTERNAL_SCORES = _table(ExternalScoreRow)


def upsert(table: Table, columns: tuple[str, ...], add: bool = False) -> dict[str, Any]:
    """For each dialect the statement that inserts a row, or sets these columns of the one with its primary key.

    add: the new values are added to the stored ones instead.
    """
    statements = {}
    for name, dialect in (("sqlite", sqlite), ("postgresql", postgresql)):
        statement = dialect.insert(table)
        new = {column: statement.excluded[column] for column in columns}
        sums = {column: table.c[column] + value for column, value in new.items()} if add else new
        statements[name] = statement.on_conflict_do_update(index_elements=list(table.primary_key), set_=sums)
    return statements


def for_dialect(session: Session, statements: dict[str, Any]) -> Any:
    """Pick the statement of `upsert` for the database of this session."""
    return statements[session.get_bind().dialect.name]


Row = TypeVar("Row")


def insert_or_get(session: Session, row: Row, same: Select[Any]) -> Row:
    """Insert a row, or return the one that `same` selects; the first one wins.

    On SQLite the write lock makes the look-up reliable. On PostgreSQL another transaction may insert in
    between: then the unique constraint refuses ours, and theirs is returned.
    """
    stored: Row | None = session.scalars(same).one_or_none()
    if stored is not None:
        return stored
    try:
        with session.begin_nested():
            session.add(row)
    except IntegrityError:
        first: Row | None = session.scalars(same).one_or_none()
        if first is None:
            raise
        return first
    return row
