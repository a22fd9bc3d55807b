"""Links to shared pairs: made within limits, opened by their token alone, ended in time; the videos stay meanwhile."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import select

from storage import Database, StorageError
from storage.errors import ShareError
from storage.maintenance.integrity import check_store
from storage.pairs import sources_of
from storage.schema import ShareRow, utc_now
from storage.shares import (
    MOST_IN_A_DAY,
    REMEMBERED_FOR,
    SHARED_FOR,
    Share,
    SharedVerdict,
    end_shares,
    forget_shares,
    make_share,
    open_share,
    own_share,
)
from storage.uploads import delete_expired_uploads
from tests.helpers.stores import make_pair
from tests.storage.test_uploads import grow_old, is_here, upload_pair

BROWSER, OTHER = "a" * 32, "b" * 32
DAY = timedelta(days=1)
OUTCOME = {"checkpoint": "bundled v1", "p_first_preferred": 0.7, "verdict": "A", "scale": None}


def shared(database: Database, pair_id: int, browser: str = BROWSER, origin: str = "here", **more: object) -> str:
    shown = SharedVerdict(pair_id, "think", 0, "f" * 64, OUTCOME)
    with database.write() as session:
        return make_share(session, shown, maker=browser, origin=origin, **more)  # type: ignore[arg-type]


def opened(database: Database, token: str, **more: object) -> Share:
    with database.read() as session:
        return open_share(session, token, **more)  # type: ignore[arg-type]


@pytest.fixture
def pair_id(database: Database) -> int:
    with database.write() as session:
        return make_pair(session).id


def test_a_link_opens_its_pair_until_its_end(database: Database, pair_id: int) -> None:
    token = shared(database, pair_id)
    share = opened(database, token)
    assert (share.shown.pair_id, share.shown.mode, dict(share.shown.verdict)) == (pair_id, "think", OUTCOME)
    assert share.expires_at - share.created_at == SHARED_FOR
    end = share.expires_at
    assert opened(database, token, now=end - timedelta(seconds=1)).id == share.id
    with pytest.raises(ShareError, match=rf"This link ended on {end:%Y-%m-%d}\."):
        opened(database, token, now=end)
    assert check_store(database) == ()


def test_the_store_does_not_hold_the_token(database: Database, pair_id: int) -> None:
    token = shared(database, pair_id)
    with database.read() as session:
        row = session.scalars(select(ShareRow)).one()
        texts = [str(getattr(row, column.name)) for column in ShareRow.__table__.columns]
    assert len(token) >= 43, "256 bits"
    assert not any(token in text or BROWSER in text for text in texts)


@pytest.mark.parametrize("token", ["", "made-up", "x" * 100_000, "a\0b", "\ud800"])
def test_an_unknown_token_opens_nothing(database: Database, pair_id: int, token: str) -> None:
    shared(database, pair_id)
    with pytest.raises(ShareError, match="This link is unknown"):
        opened(database, token)


def test_only_the_browser_that_made_it_ends_it(database: Database, pair_id: int) -> None:
    tokens = [shared(database, pair_id), shared(database, pair_id), shared(database, pair_id, OTHER)]
    assert opened(database, tokens[0]).is_made_by(BROWSER)
    assert not opened(database, tokens[0]).is_made_by(OTHER)
    assert not opened(database, tokens[0]).is_made_by("")
    with database.write() as session:
        assert end_shares(session, pair_id, "c" * 32) == 0
        assert own_share(session, pair_id, BROWSER) is not None
        assert end_shares(session, pair_id, BROWSER) == 2
        assert own_share(session, pair_id, BROWSER) is None
    for token in tokens[:2]:
        with pytest.raises(ShareError, match="This link ended on"):
            opened(database, token)
    assert opened(database, tokens[2])


def test_an_origin_makes_a_few_links_a_day_ended_ones_too(
    database: Database, pair_id: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = utc_now()
    for _ in range(MOST_IN_A_DAY):
        shared(database, pair_id, now=now)
    with database.write() as session:
        end_shares(session, pair_id, BROWSER)
    with pytest.raises(ShareError, match=f"{MOST_IN_A_DAY} links were made from here within a day"):
        shared(database, pair_id, OTHER)
    assert shared(database, pair_id, origin="elsewhere")
    assert shared(database, pair_id, now=now + DAY)
    monkeypatch.setattr("storage.shares.MOST_OPEN", 2)
    with pytest.raises(ShareError, match="as many open links"):
        shared(database, pair_id, origin="a third place")


def test_a_link_to_no_pair_is_refused(database: Database) -> None:
    with pytest.raises(StorageError):
        shared(database, 99)


def test_shared_uploads_stay_until_the_last_link_ends(database: Database, tmp_path: Path) -> None:
    kept, gone = upload_pair(database, tmp_path, "kept"), upload_pair(database, tmp_path, "gone")
    token = shared(database, kept.id)
    grow_old(database)
    assert delete_expired_uploads(database) == 2
    assert is_here(database, kept.video_a)
    assert not is_here(database, gone.video_a)
    assert opened(database, token)
    with database.write() as session:
        end_shares(session, kept.id, BROWSER)
    assert delete_expired_uploads(database) == 2
    assert not is_here(database, kept.video_b)
    with pytest.raises(ShareError, match="unknown"):
        opened(database, token)
    assert check_store(database, videos=True) == ()


def test_links_that_ended_long_ago_are_forgotten(database: Database, pair_id: int) -> None:
    old, young = shared(database, pair_id), shared(database, pair_id, OTHER)
    with database.write() as session:
        end_shares(session, pair_id, BROWSER)
    assert forget_shares(database) == 0
    assert forget_shares(database, now=utc_now() + REMEMBERED_FOR + timedelta(minutes=1)) == 1
    with pytest.raises(ShareError, match="unknown"):
        opened(database, old)
    assert opened(database, young)


def test_sources_of_videos_are_those_of_all_their_pairs(database: Database) -> None:
    with database.write() as session:
        pair = make_pair(session)
        make_pair(session, "a", "c", "Another prompt.")
        assert sources_of(session, [pair.video_a.id]) == {"test"}
        assert sources_of(session, []) == set()
