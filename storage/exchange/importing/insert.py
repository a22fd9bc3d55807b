"""Insertion of parsed pairs and labels: all or nothing, and nothing that is in the store already.

    with database.write() as session:
        taken = insert_import(session, resolved, new_videos, created_by=lead.id)

The labels go into a campaign of the origin "import" that is named after the source; people whom a file names and whom the
store does not know become annotators without a password. Totals are computed again at the end, in the same transaction.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, cast

from sqlalchemy import Table, bindparam, insert, select, text, update
from sqlalchemy.dialects import postgresql, sqlite

from descore.answer import AnswerError, parse_strict, parse_tolerant
from storage.accounts.users import add_user, find_user
from storage.errors import StorageError
from storage.exchange.importing.dry_run import Changes, Thought, chunks, compare, fingerprint, stored_pairs, video_ids
from storage.exchange.importing.insert_labels import add_labels
from storage.exchange.importing.resolve import PREFIX, ResolvedImport
from storage.exchange.parsed import ImportRefusedError, Problem
from storage.judgements import JudgementRecord
from storage.schema import ImportRow, JudgementRow, PairRow, VideoRow, text_hash, utc_now

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from storage.pairs import NewVideo

_VIDEOS = cast("Table", VideoRow.__table__)
_PAIRS = cast("Table", PairRow.__table__)
_JUDGEMENTS = cast("Table", JudgementRow.__table__)


@dataclass(frozen=True)
class ImportCounts:
    """What was added.

    Attributes:
        labels: revisions.
        notes: what was left as it is, and why.
    """

    pairs: int
    labels: int
    thoughts: int
    videos: int
    notes: tuple[Problem, ...]


def insert_import(
    session: Session,
    resolved: ResolvedImport,
    new_videos: Mapping[str, NewVideo],
    *,
    created_by: int | None,
    now: datetime | None = None,
) -> ImportCounts:
    """Add the pairs and labels that the store does not have, within the caller's transaction.

    Args:
        new_videos: by sha256; each video that the store lacks.
        now: when labels were made of which the file does not say it; the present by default.

    Raises:
        ImportRefusedError: the file has problems; nothing was added.
        StorageError: a video is missing in `new_videos`, or the database refuses.
    """
    _one_import_at_a_time(session)
    changes = compare(session, resolved)
    if changes.problems:
        raise ImportRefusedError(changes.problems)
    now = now or utc_now()
    _add_videos(session, changes.new_videos, new_videos, now)
    _add_pairs(session, resolved, changes, now)
    _add_thoughts(session, resolved, changes.thoughts, now)
    add_labels(session, changes.assignments, _pair_ids(session, changes), _people(session, changes), created_by, now)
    taken = ImportCounts(
        pairs=len(changes.new_pairs),
        labels=changes.labels_new,
        thoughts=len(changes.thoughts),
        videos=len(changes.new_videos),
        notes=tuple(changes.notes),
    )
    if taken.pairs or taken.labels or taken.thoughts or changes.better_known:
        _remember(session, resolved, taken, created_by, now)
    return taken


def _one_import_at_a_time(session: Session) -> None:
    """Two imports of one file must not both find it new. On SQLite the writing transaction sees to that."""
    if session.get_bind().dialect.name == "postgresql":
        session.execute(text("LOCK TABLE imports IN SHARE ROW EXCLUSIVE MODE"))


def _add_videos(session: Session, hashes: Sequence[str], videos: Mapping[str, NewVideo], now: datetime) -> None:
    missing = [sha256 for sha256 in hashes if sha256 not in videos]
    if missing:
        raise StorageError(f"the video with the sha256 {missing[0]} was not prepared for the import")
    rows = [
        {**asdict(videos[sha256]), "public_id": secrets.token_urlsafe(16), "created_at": now, "sha256": sha256}
        for sha256 in hashes
    ]
    _insert_missing(session, _VIDEOS, rows)


def _add_pairs(session: Session, resolved: ResolvedImport, changes: Changes, now: datetime) -> None:
    ids = video_ids(session, {sha256 for key in changes.new_pairs for sha256 in key[:2]})
    rows = [
        {
            "video_a_id": ids[key[0]],
            "video_b_id": ids[key[1]],
            "prompt": pair.prompt,
            "prompt_hash": key[2],
            "source": resolved.source,
            "created_at": now,
            "generator_a": pair.generator_a,
            "generator_b": pair.generator_b,
            "facts": dict(pair.extra_columns),
        }
        for key, pair in changes.new_pairs.items()
    ]
    _insert_missing(session, _PAIRS, rows)
    for pair_id, values in changes.better_known.items():
        session.execute(update(_PAIRS).where(_PAIRS.c.id == bindparam("pair")).values(values), {"pair": pair_id})


def _pair_ids(session: Session, changes: Changes) -> dict[tuple[str, str, str], int]:
    hashes = {new.assignment.key[1][0] for new in changes.assignments}
    return {key: pair.id for key, pair in stored_pairs(session, hashes).items()}


def _people(session: Session, changes: Changes) -> dict[str, int]:
    """Name key -> id of everybody whose labels come in; who is not known yet is added."""
    ids: dict[str, int] = {}
    for new in changes.assignments:
        key, name = new.assignment.key[2], new.assignment.name
        if key not in ids:
            user = find_user(session, name)
            ids[key] = (user or add_user(session, name, "annotator")).id
    return ids


def _add_thoughts(session: Session, resolved: ResolvedImport, thoughts: Sequence[Thought], now: datetime) -> None:
    ids = video_ids(session, {thought.sha256 for thought in thoughts})
    rows = [
        {
            **asdict(_record(resolved, thought.text)),
            "video_id": ids[thought.sha256],
            "prompt": thought.prompt,
            "prompt_hash": text_hash(thought.prompt),
            "fingerprint": fingerprint(resolved.source),
            "mode": "think",
            "k": 0,
            "seed": 0,
            "created_at": now,
        }
        for thought in thoughts
    ]
    _insert_missing(session, _JUDGEMENTS, rows)


def _record(resolved: ResolvedImport, thought: str) -> JudgementRecord:
    """Make the judgement that can be read out of a thought; it has no reward."""
    strict, note, scores, overall = True, None, None, None
    try:
        parse_strict(thought)
    except AnswerError:
        strict = False
    try:
        answer = parse_tolerant(thought)
        scores, overall, note = answer.sub_scores, answer.overall_score, "; ".join(answer.notes) or None
    except AnswerError as error:
        note = str(error)
    return JudgementRecord(
        checkpoint=PREFIX + resolved.source,
        thought=thought,
        sub_scores=scores,
        overall_score=overall,
        parse_note=note,
        strict_format=strict,
        reward=None,
        standardised_reward=None,
        reward_spread=None,
        sub_score_votes=None,
        truncated=False,
        seconds=0.0,
    )


def _insert_missing(session: Session, table: Table, rows: Sequence[dict[str, Any]]) -> None:
    """Insert rows; where somebody else's transaction came first with the same one, theirs stays."""
    dialect = postgresql if session.get_bind().dialect.name == "postgresql" else sqlite
    for chunk in chunks(rows):
        session.execute(dialect.insert(table).on_conflict_do_nothing(), chunk)


def _remember(
    session: Session, resolved: ResolvedImport, taken: ImportCounts, created_by: int | None, now: datetime
) -> None:
    row = {
        "source": resolved.source,
        "format": resolved.format,
        "file_name": resolved.parsed.file,
        "sha256": resolved.sha256,
        "pairs_added": taken.pairs,
        "labels_added": taken.labels,
        "created_by_id": created_by,
        "created_at": now,
    }
    session.execute(insert(ImportRow), [row])


def imports(session: Session) -> tuple[ImportRecord, ...]:
    """List the imports so far, newest first."""
    rows = session.scalars(select(ImportRow).order_by(ImportRow.id.desc()))
    return tuple(
        ImportRecord(row.source, row.format, row.file_name, row.pairs_added, row.labels_added, row.created_at)
        for row in rows
    )


@dataclass(frozen=True)
class ImportRecord:
    """A file that was taken in."""

    source: str
    format: str
    file_name: str
    pairs_added: int
    labels_added: int
    created_at: datetime
