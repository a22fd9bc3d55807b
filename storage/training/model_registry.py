"""Checkpoints that serve or were trained here, where each comes from, and which one serves.

    location = kept_location(folder, database.home)
    known = register_checkpoint(session, name="winter 2", location=location, fingerprint=folder_fingerprint(folder))
    promote(session, known.id, "promote", by=lead.id)
    serving(session).name

A checkpoint is known by its content: the same files under another name are the one that is there already. What served when
is a record that only grows; to go back is one more row in it.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sqlalchemy import or_, select

from storage.errors import NotInStoreError, StorageError
from storage.schema import CheckpointRow, PromotionAction, PromotionRow, RunRow, utc_now

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

BASE = "bundled"
FOLDER = "checkpoints"
_INSIDE = "./"  # no id on the Hub begins like this
_LONGEST_NAME = 200


@dataclass(frozen=True)
class Checkpoint:
    """A registered checkpoint.

    Attributes:
        location: "bundled", a Hub id or a folder, see `usable_location`.
        fingerprint: `descore.checkpoints.folder.fingerprint`.
        parent_id: what it was trained from.
        run_id, stage, snapshot_hash, settings, code_version, metrics: how it was made, empty for one that came from
            elsewhere.
        gate: the comparison with the one that served.
        disk_bytes: what deleting it would free.
    """

    id: int
    name: str
    location: str
    fingerprint: str
    parent_id: int | None
    run_id: int | None
    stage: str | None
    snapshot_hash: str | None
    settings: Mapping[str, Any] = field(hash=False)
    code_version: str
    metrics: Mapping[str, Any] = field(hash=False)
    gate: Mapping[str, Any] | None = field(hash=False)
    disk_bytes: int
    created_at: datetime
    deleted_at: datetime | None


@dataclass(frozen=True)
class Promotion:
    """From when on a checkpoint served, why, and who wanted it (a user's id, None for the program)."""

    id: int
    checkpoint_id: int
    action: PromotionAction
    by: int | None
    created_at: datetime


def kept_location(checkpoint: str | Path, home: Path) -> str:
    """How the store names a checkpoint. One inside the data folder is named from there on: that may be moved as a whole."""
    if checkpoint == BASE:
        return BASE
    if isinstance(checkpoint, Path) or Path(checkpoint).is_dir():
        folder = Path(checkpoint).resolve()
        if folder.is_relative_to(home.resolve()):
            return _INSIDE + folder.relative_to(home.resolve()).as_posix()
        return str(folder)
    return checkpoint


def usable_location(checkpoint: Checkpoint, home: Path) -> str:
    """Return the location in the form that `DeScore.from_pretrained` and `--checkpoint` take."""
    return str(home / checkpoint.location) if checkpoint.location.startswith(_INSIDE) else checkpoint.location


def register_checkpoint(
    session: Session,
    *,
    name: str,
    location: str,
    fingerprint: str,
    parent_id: int | None = None,
    run_id: int | None = None,
    stage: str | None = None,
    snapshot_hash: str | None = None,
    settings: Mapping[str, Any] | None = None,
    code_version: str = "",
    metrics: Mapping[str, Any] | None = None,
    disk_bytes: int = 0,
) -> Checkpoint:
    """Enter a checkpoint, or find the one with this content; a deleted one that is back is entered at its new location.

    Args:
        name: where another has it already, a number is added. location: as of `kept_location`.

    Raises:
        StorageError: a name or location is missing.
    """
    name = " ".join(name.split())[:_LONGEST_NAME]
    if not name or not location or not fingerprint:
        raise StorageError("a checkpoint needs a name, a location and the fingerprint of its content")
    stored = session.scalars(select(CheckpointRow).where(CheckpointRow.fingerprint == fingerprint)).one_or_none()
    if stored is not None:
        if stored.deleted_at is not None:
            stored.location, stored.disk_bytes, stored.deleted_at = location, disk_bytes, None
            session.flush()
        return _checkpoint(stored)
    row = CheckpointRow(
        name=_free_name(session, name),
        location=location,
        fingerprint=fingerprint,
        parent_id=parent_id,
        run_id=run_id,
        stage=stage,
        snapshot_hash=snapshot_hash,
        settings=dict(settings or {}),
        code_version=code_version,
        metrics=dict(metrics or {}),
        disk_bytes=disk_bytes,
    )
    session.add(row)
    session.flush()
    return _checkpoint(row)


def get_checkpoint(session: Session, checkpoint_id: int) -> Checkpoint:
    """Return a checkpoint by its id, deleted ones too.

    Raises:
        NotInStoreError: there is none.
    """
    return _checkpoint(_row(session, checkpoint_id))


def list_checkpoints(session: Session, deleted: bool = False) -> tuple[Checkpoint, ...]:
    """All checkpoints, oldest first. deleted: those whose files are gone too."""
    statement = select(CheckpointRow).order_by(CheckpointRow.id)
    if not deleted:
        statement = statement.where(CheckpointRow.deleted_at.is_(None))
    return tuple(_checkpoint(row) for row in session.scalars(statement))


def lineage(session: Session, checkpoint_id: int) -> tuple[Checkpoint, ...]:
    """List a checkpoint, the one it was trained from, and so on to the first."""
    ancestors: list[Checkpoint] = []
    following: int | None = checkpoint_id
    while following is not None and all(checkpoint.id != following for checkpoint in ancestors):
        ancestors.append(get_checkpoint(session, following))
        following = ancestors[-1].parent_id
    return tuple(ancestors)


def serving(session: Session) -> Checkpoint | None:
    """Return the checkpoint that was promoted last; None before the first."""
    last = select(PromotionRow.checkpoint_id).order_by(PromotionRow.id.desc()).limit(1)
    checkpoint_id = session.scalar(last)
    return None if checkpoint_id is None else get_checkpoint(session, checkpoint_id)


def promote(session: Session, checkpoint_id: int, action: PromotionAction, by: int | None = None) -> Promotion:
    """Let a checkpoint serve from now on. Of one that serves already nothing new is entered.

    Raises:
        NotInStoreError: there is no such checkpoint.
        StorageError: its files were deleted.
    """
    row = _row(session, checkpoint_id, lock=True)
    if row.deleted_at is not None:
        raise StorageError(f"the checkpoint {row.name} was deleted; choose another one")
    last = session.scalars(select(PromotionRow).order_by(PromotionRow.id.desc()).limit(1)).one_or_none()
    if last is not None and last.checkpoint_id == checkpoint_id:
        return _promotion(last)
    added = PromotionRow(checkpoint_id=checkpoint_id, action=action, by_id=by)
    session.add(added)
    session.flush()
    return _promotion(added)


def promotions(session: Session, limit: int = 100) -> tuple[Promotion, ...]:
    """List the promotions, the present one first."""
    rows = session.scalars(select(PromotionRow).order_by(PromotionRow.id.desc()).limit(limit))
    return tuple(_promotion(row) for row in rows)


def set_gate(session: Session, checkpoint_id: int, gate: Mapping[str, Any]) -> None:
    """Keep the comparison of a checkpoint with the one that served (plain numbers, lists and texts).

    Raises:
        NotInStoreError: there is no such checkpoint.
    """
    _row(session, checkpoint_id).gate = dict(gate)
    session.flush()


def lock_gate(session: Session, checkpoint_id: int) -> Mapping[str, Any]:
    """Return the comparison of a checkpoint, empty without one; nobody else changes it until the end of the transaction.

    Raises:
        NotInStoreError: there is no such checkpoint.
    """
    return _row(session, checkpoint_id, lock=True).gate or {}


def mark_deleted(session: Session, checkpoint_id: int) -> Checkpoint:
    """Take a checkpoint out of use; its row stays, since others descend from it. Then `remove_files`.

    Raises:
        NotInStoreError: there is no such checkpoint.
        StorageError: it serves, is the base, or a run that waits or goes on needs it.
    """
    row = _row(session, checkpoint_id, lock=True)
    now_serving = serving(session)
    if now_serving is not None and now_serving.id == checkpoint_id:
        raise StorageError(f"{row.name} serves now; promote another checkpoint first")
    if row.location == BASE:
        raise StorageError(f"{row.name} is the base, which comes with the program and can't be deleted")
    needs = or_(RunRow.parent_id == checkpoint_id, RunRow.rival_id == checkpoint_id, RunRow.candidate_id == checkpoint_id)
    run = session.scalar(select(RunRow.id).where(needs, RunRow.state.in_(("queued", "running"))).limit(1))
    if run is not None:
        raise StorageError(f"run {run} needs {row.name}; wait for its end or cancel it first")
    row.deleted_at = row.deleted_at or utc_now()
    session.flush()
    return _checkpoint(row)


def remove_files(checkpoint: Checkpoint, home: Path) -> int:
    """Delete the folder of a checkpoint that was marked as deleted, if it is one of ours; returns the bytes that it had.

    Raises:
        StorageError: it was not marked, or the folder can't be removed.
    """
    if checkpoint.deleted_at is None:
        raise StorageError(f"the checkpoint {checkpoint.name} is in use")
    folder, ours = (home / checkpoint.location).resolve(), (home / FOLDER).resolve()
    if not checkpoint.location.startswith(_INSIDE) or ours not in folder.parents or not folder.is_dir():
        return 0
    try:
        shutil.rmtree(folder)
    except OSError as error:
        raise StorageError(f"can't remove {folder.name}: {error.strerror or error}") from error
    return checkpoint.disk_bytes


def _free_name(session: Session, name: str) -> str:
    candidate, number = name, 1
    while session.scalar(select(CheckpointRow.id).where(CheckpointRow.name == candidate)) is not None:
        number += 1
        candidate = f"{name[: _LONGEST_NAME - 8]} {number}"
    return candidate


def _row(session: Session, checkpoint_id: int, lock: bool = False) -> CheckpointRow:
    row = session.get(CheckpointRow, checkpoint_id, with_for_update={"key_share": True} if lock else None)
    if row is None:
        raise NotInStoreError(f"there is no checkpoint {checkpoint_id}")
    return row


def _checkpoint(row: CheckpointRow) -> Checkpoint:
    return Checkpoint(
        id=row.id,
        name=row.name,
        location=row.location,
        fingerprint=row.fingerprint,
        parent_id=row.parent_id,
        run_id=row.run_id,
        stage=row.stage,
        snapshot_hash=row.snapshot_hash,
        settings=row.settings,
        code_version=row.code_version,
        metrics=row.metrics,
        gate=row.gate,
        disk_bytes=row.disk_bytes,
        created_at=row.created_at,
        deleted_at=row.deleted_at,
    )


def _promotion(row: PromotionRow) -> Promotion:
    return Promotion(id=row.id, checkpoint_id=row.checkpoint_id, action=row.action, by=row.by_id, created_at=row.created_at)
