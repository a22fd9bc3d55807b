"""Videos that people without an account uploaded: how much room they may take, and when they are deleted.

    with database.write() as session:
        video = add_upload(session, new_video, origin, size)     # UploadQuotaError: there is no room
    delete_expired_uploads(database)                             # those that nobody used for anything

Such a video is deleted after a set time, unless one of its pairs has a vote, a label, a campaign, an open link or anything
else that refers to it. A video that somebody with an account uploads or imports too is kept like any other.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sqlalchemy import Column, Select, delete, func, or_, select

from storage.data_home import data_home_id
from storage.errors import StorageError, UploadQuotaError
from storage.pairs import NewVideo, Video, add_new_video, find_video
from storage.schema import Base, JudgementRow, PairRow, ShareRow, UploadRow, VideoRow, VideoStatsRow, utc_now
from storage.shares import has_open_share
from storage.video_files import remove_files, stored_bytes

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from storage.database import Database

log = logging.getLogger(__name__)

KEPT_FOR = timedelta(days=7)
# An upload that is younger is not written again when it comes once more.
BEGINS_AGAIN = timedelta(hours=1)
# These go with their video or pair; any other row that refers to one keeps it.
_PARTS = (PairRow, JudgementRow, VideoStatsRow, UploadRow)
_PARTS_OF_PAIR = (ShareRow,)  # once the link has ended


@dataclass(frozen=True)
class UploadQuota:
    """Bytes of videos that people without an account may have in the store.

    Attributes:
        each: of one origin: two videos of the largest size that is taken.
        all: of everybody; a fifth of the 50 GB disk of a free Space.
    """

    each: int = 1 << 30
    all: int = 10 << 30


QUOTA = UploadQuota()


def origin_key(origin: str, home: Path) -> str:
    """Return what the store keeps of an origin: a hash of this data folder alone, since addresses are personal data."""
    return hashlib.sha256(f"{data_home_id(home)} {origin}".encode()).hexdigest()


def require_room(session: Session, origin: str, size: int, quota: UploadQuota = QUOTA) -> None:
    """Ask whether one more upload has room.

    Args:
        origin: as `origin_key` returns it.
        size: bytes of the new video.

    Raises:
        UploadQuotaError: it has none; the message says why, and what to do.
    """
    own = _bytes(session, origin)
    after = f"Sign in, or come back when older ones have been deleted, {KEPT_FOR.days} days after their upload."
    if own + size > quota.each:
        room = f"{own / 1e6:.0f} of {quota.each / 1e6:.0f} MB are taken"
        raise UploadQuotaError(f"Your uploads have no more room without an account: {room}. {after}")
    if _bytes(session) + size > quota.all:
        raise UploadQuotaError(f"There is no more room for uploads of people without an account. {after}")


def add_upload(session: Session, video: NewVideo, origin: str, size: int, quota: UploadQuota = QUOTA) -> Video:
    """Add a video that somebody without an account uploaded; one that is there already stays what it is.

    Raises:
        UploadQuotaError: there is no room for it.
    """
    if find_video(session, video.sha256) is None:
        require_room(session, origin, size, quota)
        added = add_new_video(session, video)
        session.add(UploadRow(video_id=added.id, sha256=video.sha256, file=video.file, origin=origin, bytes=size))
        return added
    return add_new_video(session, video)


def use_again(database: Database, sha256: str, has_account: bool) -> Video | None:
    """Find a video that is uploaded once more; its time begins again, or has no end if the person has an account.

    Most are found without writing, so that many who upload what is there don't stand before those who save labels.

    Raises:
        StorageError: the store can't be read or written.
    """
    with database.read() as session:
        video = find_video(session, sha256)
        upload = None if video is None else session.scalars(_upload_of(video)).one_or_none()
        if upload is None or (not has_account and upload.created_at > utc_now() - BEGINS_AGAIN):
            return video
    with database.write() as session:
        video = find_video(session, sha256)  # it may have been deleted in between
        upload = None if video is None else session.scalars(_upload_of(video)).one_or_none()
        if upload is not None and has_account:
            session.delete(upload)
        elif upload is not None:
            upload.created_at = utc_now()
        return video


def _upload_of(video: Video) -> Select[Any]:
    return select(UploadRow).where(UploadRow.video_id == video.id)


def keep_for_good(session: Session, sha256s: Iterable[str]) -> None:
    """Keep videos that an import names, by content, like any others."""
    named = set(sha256s)
    rows = session.execute(select(UploadRow.id, UploadRow.sha256).where(UploadRow.video_id.is_not(None)))
    for row_id in [row_id for row_id, sha256 in rows.all() if sha256 in named]:
        session.execute(delete(UploadRow).where(UploadRow.id == row_id))


def delete_expired_uploads(database: Database, before: datetime | None = None) -> int:
    """Delete the uploads that nobody used for anything, with their pairs, judgements and files; return how many.

    Rows go first, one video a transaction, and leave a note of the file, which is deleted next: a process that ends in
    between leaves no row without its file, and the next call goes on.

    Args:
        before: those that were uploaded before; by default `KEPT_FOR` ago.

    Raises:
        StorageError: the store can't be read.
    """
    before = utc_now() - KEPT_FOR if before is None else before
    with database.read() as session:
        expired = select(UploadRow.id).where(UploadRow.video_id.is_not(None), UploadRow.created_at < before)
        uploads = session.scalars(expired.order_by(UploadRow.id)).all()
    deleted = 0
    for upload in uploads:
        try:
            with database.write() as session:
                deleted += _delete_rows(session, upload, before)
        except StorageError as error:  # somebody votes on it at this moment, say; the next call tries again
            log.warning("upload %d was not deleted: %s", upload, error)
    _delete_files(database)
    return deleted


def _delete_rows(session: Session, upload_id: int, before: datetime) -> bool:
    upload = session.get(UploadRow, upload_id)
    if upload is None or upload.video_id is None or upload.created_at >= before:
        return False
    video = upload.video_id
    of_video = or_(PairRow.video_a_id == video, PairRow.video_b_id == video)
    pairs = list(session.scalars(select(PairRow.id).where(of_video)))
    if _has_references(session, VideoRow, [video], _PARTS) or _has_references(session, PairRow, pairs, _PARTS_OF_PAIR):
        return False
    if has_open_share(session, pairs):
        return False
    upload.video_id = None
    session.flush()
    session.execute(delete(ShareRow).where(ShareRow.pair_id.in_(pairs)))
    session.execute(delete(PairRow).where(PairRow.id.in_(pairs)))
    for part in (JudgementRow, VideoStatsRow):
        session.execute(delete(part).where(part.video_id == video))
    session.execute(delete(VideoRow).where(VideoRow.id == video))
    return True


def _delete_files(database: Database) -> None:
    """Delete the files of videos that are gone, unless the same content has come again."""
    with database.write() as session:
        for upload in session.scalars(select(UploadRow).where(UploadRow.video_id.is_(None))).all():
            if find_video(session, upload.sha256) is None:
                remove_files(upload.file, upload.sha256, database.home)
            session.delete(upload)


def discard_files(database: Database, video: NewVideo) -> None:
    """Delete the files of a video that was copied into the managed folder and was not added after all."""
    with database.write() as session:
        if find_video(session, video.sha256) is None:
            remove_files(video.file, video.sha256, database.home)


def upload_bytes(video: NewVideo, home: Path) -> int:
    """Return the bytes that a video takes in the managed folder, with its copy for the browser."""
    return stored_bytes(video.file, video.sha256, home)


def _bytes(session: Session, origin: str | None = None) -> int:
    total = select(func.coalesce(func.sum(UploadRow.bytes), 0))
    return int(session.scalar(total if origin is None else total.where(UploadRow.origin == origin)) or 0)


def _has_references(session: Session, target: type[Base], ids: Iterable[int], without: tuple[type[Base], ...]) -> bool:
    """Tell whether a row of any table, those of `without` excepted, refers to one of `ids`."""
    ids, left_out = list(ids), {table.__tablename__ for table in without}
    columns = [column for column in _referring(target) if column.table.name not in left_out]
    return any(session.scalar(select(column).where(column.in_(ids)).limit(1)) is not None for column in columns)


def _referring(target: type[Base]) -> Iterator[Column[Any]]:
    for table in Base.metadata.sorted_tables:
        for key in table.foreign_keys:
            if key.column.table.name == target.__tablename__:
                yield key.parent
