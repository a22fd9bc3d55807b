"""Uploads of people without an account: their quota, and what becomes of them."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import select, update

from storage import Database, NotInStoreError
from storage.campaigns.campaign import CampaignConfig, create_campaign
from storage.campaigns.guidelines import DEFAULT_GUIDELINES
from storage.errors import UploadQuotaError
from storage.judgements import Question, find_judgement, save_judgement
from storage.maintenance.integrity import check_store
from storage.pairs import NewVideo, Pair, Video, add_pair, find_video, get_pair
from storage.schema import Base, PairRow, UploadRow, VideoRow, VideoStatsRow, utc_now
from storage.uploads import (
    KEPT_FOR,
    QUOTA,
    UploadQuota,
    _referring,
    add_upload,
    delete_expired_uploads,
    discard_files,
    keep_for_good,
    origin_key,
    upload_bytes,
    use_again,
)
from storage.video_files import playable_path, store_video, video_path
from storage.votes import save_vote
from tests.helpers.stores import PROMPT, RECORD

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy.orm import Session

HERE, THERE = "192.0.2.1", "192.0.2.2"


def new_video(database: Database, folder: Path, name: str, size: int = 100) -> NewVideo:
    source = folder / f"{name}.mp4"
    source.write_bytes(name.encode().ljust(size, b"."))
    stored = store_video(source, database.home)
    return NewVideo(stored.sha256, stored.file, source.name, 64, 64, 12.0, 2.0)


def upload(database: Database, folder: Path, name: str, origin: str = HERE, quota: UploadQuota = QUOTA) -> Video:
    video = new_video(database, folder, name)
    with database.write() as session:
        return add_upload(session, video, origin_key(origin, database.home), upload_bytes(video, database.home), quota)


def upload_pair(database: Database, folder: Path, name: str) -> Pair:
    a, b = upload(database, folder, f"{name} a"), upload(database, folder, f"{name} b")
    with database.write() as session:
        return add_pair(session, a, b, PROMPT, source="judge page")


def grow_old(database: Database) -> None:
    """Let all uploads so far be older than they are kept."""
    with database.write() as session:
        session.execute(update(UploadRow).values(created_at=utc_now() - KEPT_FOR - timedelta(hours=1)))


def is_here(database: Database, video: Video) -> bool:
    with database.read() as session:
        row = find_video(session, video.sha256)
    try:
        video_path(video.file, database.home)
    except NotInStoreError:
        assert row is None, "a row without its file"
        return False
    assert row is not None, "a file without its row"
    return True


def test_each_origin_and_all_together_have_a_quota(database: Database, tmp_path: Path) -> None:
    quota = UploadQuota(each=250, all=450)
    for name in ("a", "b"):
        upload(database, tmp_path, name, HERE, quota)
    with pytest.raises(UploadQuotaError, match=r"no more room without an account.*Sign in.*7 days"):
        upload(database, tmp_path, "c", HERE, quota)
    for name in ("c", "d"):
        upload(database, tmp_path, name, THERE, quota)
    with pytest.raises(UploadQuotaError, match="no more room for uploads of people"):
        upload(database, tmp_path, "e", "192.0.2.3", quota)
    assert upload(database, tmp_path, "a", HERE, quota).id, "what is there already takes no more room"


def test_the_copy_for_the_browser_counts(sqlite_database: Database, tmp_path: Path) -> None:
    video = new_video(sqlite_database, tmp_path, "a")
    assert upload_bytes(video, sqlite_database.home) == 100
    playable_path(video.sha256, sqlite_database.home).write_bytes(b"." * 70)
    assert upload_bytes(video, sqlite_database.home) == 170


def test_addresses_are_not_kept(sqlite_database: Database, other: Database, tmp_path: Path) -> None:
    upload(sqlite_database, tmp_path, "a")
    with sqlite_database.read() as session:
        [origin] = session.scalars(select(UploadRow.origin))
    assert HERE not in origin
    assert origin != origin_key(HERE, other.home), "one store's hashes say nothing about another one's"


def test_what_nobody_used_is_deleted_with_all_that_belongs_to_it(database: Database, tmp_path: Path) -> None:
    pair = upload_pair(database, tmp_path, "old")
    playable = playable_path(pair.video_a.sha256, database.home)
    playable.write_bytes(b"copy")
    question = Question(pair.video_a.id, PROMPT, "f" * 64, "think", 0)
    with database.write() as session:
        save_judgement(session, question, RECORD)
        session.add(VideoStatsRow(video_id=pair.video_a.id, sharpness=1, brightness=1, motion=1, frames=1, file_bytes=1))
    grow_old(database)
    young = upload_pair(database, tmp_path, "young")
    assert delete_expired_uploads(database) == 2
    assert not is_here(database, pair.video_a)
    assert not is_here(database, pair.video_b)
    assert not playable.exists()
    assert is_here(database, young.video_a)
    with database.read() as session:
        assert find_judgement(session, question) is None
        assert session.get(PairRow, pair.id) is None
        assert get_pair(session, young.id).video_a == young.video_a
        assert len(session.scalars(select(UploadRow)).all()) == 2, "what is deleted takes no room any more"
    assert check_store(database, videos=True) == ()
    assert delete_expired_uploads(database) == 0


def vote(session: Session, pair: Pair) -> None:
    save_vote(session, pair_id=pair.id, choice="A", voter="a" * 32, token="t" * 32, note="")


def put_into_campaign(session: Session, pair: Pair) -> None:
    create_campaign(session, CampaignConfig(name="spring"), [pair.id], DEFAULT_GUIDELINES, created_by=None)


@pytest.mark.parametrize("use", [vote, put_into_campaign])
def test_what_was_voted_on_or_put_into_a_campaign_stays(
    database: Database, tmp_path: Path, use: Callable[[Session, Pair], None]
) -> None:
    used, unused = upload_pair(database, tmp_path, "used"), upload_pair(database, tmp_path, "unused")
    with database.write() as session:
        use(session, used)
        shared = add_pair(session, used.video_a, unused.video_b, PROMPT, source="judge page")
    grow_old(database)
    assert delete_expired_uploads(database) == 2
    assert is_here(database, used.video_a)
    assert is_here(database, used.video_b)
    assert not is_here(database, unused.video_a)
    with database.read() as session:
        assert get_pair(session, used.id) == used
        assert session.get(PairRow, shared.id) is None
    assert check_store(database, videos=True) == ()


def test_whatever_refers_to_a_pair_or_a_video_keeps_it() -> None:
    """Tables that come later are found by themselves."""
    assert {column.table.name for column in _referring(PairRow)} >= {"votes", "labels", "campaign_pairs", "run_pairs"}
    by_hand = {table.name for table in Base.metadata.sorted_tables if "pair_id" in table.columns}
    assert {column.table.name for column in _referring(PairRow)} == by_hand
    assert {column.table.name for column in _referring(VideoRow)} == {"pairs", "judgements", "video_facts", "uploads"}


def test_a_video_that_somebody_with_an_account_brings_too_is_kept(database: Database, tmp_path: Path) -> None:
    uploaded, imported, again, forgotten = (upload(database, tmp_path, name) for name in "abcd")
    grow_old(database)
    assert use_again(database, uploaded.sha256, has_account=True) == uploaded
    with database.write() as session:
        keep_for_good(session, [imported.sha256, "0" * 64])
    assert use_again(database, again.sha256, has_account=False) == again
    assert use_again(database, "0" * 64, has_account=False) is None
    assert delete_expired_uploads(database) == 1
    assert [is_here(database, video) for video in (uploaded, imported, again, forgotten)] == [True, True, True, False]
    grow_old(database)
    assert delete_expired_uploads(database) == 1
    assert not is_here(database, again)


def test_what_is_there_is_found_without_writing(sqlite_database: Database, tmp_path: Path) -> None:
    """Many who bring the same file must not stand before those who save labels."""
    video = upload(sqlite_database, tmp_path, "a")
    with sqlite_database.write():
        assert use_again(sqlite_database, video.sha256, has_account=False) == video


def test_a_deletion_that_was_broken_off_goes_on(database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    video = upload(database, tmp_path, "a")
    returned = upload(database, tmp_path, "b")
    grow_old(database)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("storage.uploads._delete_files", lambda _: (_ for _ in ()).throw(KeyboardInterrupt))
        delete_expired_uploads(database)
    assert video_path(video.file, database.home).is_file()
    assert check_store(database, videos=True) == ()
    upload(database, tmp_path, "b")
    assert delete_expired_uploads(database) == 0
    assert not is_here(database, video)
    assert is_here(database, returned), "the same content has come again meanwhile"


def test_files_that_were_not_added_are_removed_unless_somebody_else_added_them(
    sqlite_database: Database, tmp_path: Path
) -> None:
    unwanted = new_video(sqlite_database, tmp_path, "a")
    discard_files(sqlite_database, unwanted)
    with pytest.raises(NotInStoreError):
        video_path(unwanted.file, sqlite_database.home)
    kept = upload(sqlite_database, tmp_path, "b")
    discard_files(sqlite_database, new_video(sqlite_database, tmp_path, "b"))
    assert is_here(sqlite_database, kept)
