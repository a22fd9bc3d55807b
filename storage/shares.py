"""Links by which somebody shares a pair of their own videos: made, opened, ended.

    token = make_share(session, shown, maker=browser_id, origin=origin_key(origin, database.home))
    share = open_share(session, token)             # ShareError once it has ended
    end_shares(session, pair_id, maker=browser_id)

A link is good for one pair and for `SHARED_FOR`; until its end the videos are kept. Anybody who has it may look, so the
token is random and the table holds only its hash.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from sqlalchemy import ColumnElement, and_, delete, func, select, update

from storage.accounts.credentials import new_token, token_hash
from storage.errors import ShareError
from storage.schema import Mode, ShareRow, utc_now

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from storage.database import Database

SHARED_FOR = timedelta(days=30)
# Links that one origin may make in a day, ended ones too, and links of everybody that are open at a time.
MOST_IN_A_DAY, MOST_OPEN = 20, 5_000
# How long an ended link is still called ended; then it is unknown.
REMEMBERED_FOR = timedelta(days=30)
UNKNOWN = "This link is unknown, or ended long ago. Check that it was copied whole."


@dataclass(frozen=True)
class SharedVerdict:
    """What a link shows of a pair.

    Attributes:
        mode, k, fingerprint: of the judgements, as in `storage.judgements.Question`.
        verdict: P(A preferred), the outcome and the scale, in a form for JSON.
    """

    pair_id: int
    mode: Mode
    k: int
    fingerprint: str
    verdict: Mapping[str, Any]


@dataclass(frozen=True)
class Share:
    """A link that is open.

    Attributes:
        maker: a hash of the id of the browser that made it.
    """

    id: int
    shown: SharedVerdict
    maker: str
    created_at: datetime
    expires_at: datetime

    def is_made_by(self, browser: str) -> bool:
        """Tell whether the browser with this id made the link."""
        return bool(browser) and self.maker == token_hash(browser)


def make_share(session: Session, shown: SharedVerdict, *, maker: str, origin: str, now: datetime | None = None) -> str:
    """Make a link and return its token, which is nowhere kept and can't be read again.

    Args:
        maker: the random id of the browser.
        origin: as `storage.uploads.origin_key` returns it.

    Raises:
        ShareError: too many links of this origin today, or of everybody.
        StorageError: there is no such pair.
    """
    now = now or utc_now()
    today = (ShareRow.origin == origin, ShareRow.created_at > now - timedelta(days=1))
    if _count(session, *today) >= MOST_IN_A_DAY:
        raise ShareError(f"{MOST_IN_A_DAY} links were made from here within a day, the most. Make this one tomorrow.")
    if _count(session, _is_open(now)) >= MOST_OPEN:
        raise ShareError("This app has as many open links as it may have. Try again in a few days.")
    token = new_token()
    session.add(
        ShareRow(
            token_hash=token_hash(token),
            pair_id=shown.pair_id,
            mode=shown.mode,
            k=shown.k,
            fingerprint=shown.fingerprint,
            verdict=dict(shown.verdict),
            maker=token_hash(maker),
            origin=origin,
            created_at=now,
            expires_at=now + SHARED_FOR,
        )
    )
    session.flush()
    return token


def open_share(session: Session, token: str, now: datetime | None = None) -> Share:
    """Return the open link with this token.

    Raises:
        ShareError: it is unknown or has ended.
    """
    row = session.scalars(select(ShareRow).where(ShareRow.token_hash == token_hash(token))).one_or_none()
    if row is None:
        raise ShareError(UNKNOWN)
    end = min(filter(None, (row.ended_at, row.expires_at)))
    if end <= (now or utc_now()):
        raise ShareError(f"This link ended on {end:%Y-%m-%d}. Ask the person who sent it for a new one.")
    return _share(row)


def own_share(session: Session, pair_id: int, maker: str, now: datetime | None = None) -> Share | None:
    """Return the open link to a pair that a browser made; the one that ends last."""
    own = (ShareRow.pair_id == pair_id, ShareRow.maker == token_hash(maker), _is_open(now or utc_now()))
    row = session.scalars(select(ShareRow).where(*own).order_by(ShareRow.expires_at.desc()).limit(1)).one_or_none()
    return None if row is None else _share(row)


def end_shares(session: Session, pair_id: int, maker: str, now: datetime | None = None) -> int:
    """End all open links to a pair that a browser made; return how many."""
    now = now or utc_now()
    own = (ShareRow.pair_id == pair_id, ShareRow.maker == token_hash(maker), _is_open(now))
    ids = session.scalars(select(ShareRow.id).where(*own)).all()
    session.execute(update(ShareRow).where(ShareRow.id.in_(ids)).values(ended_at=now))
    return len(ids)


def has_open_share(session: Session, pair_ids: list[int], now: datetime | None = None) -> bool:
    """Tell whether a link to one of these pairs is open."""
    return _count(session, ShareRow.pair_id.in_(pair_ids), _is_open(now or utc_now())) > 0


def forget_shares(database: Database, now: datetime | None = None) -> int:
    """Delete the rows of links that ended `REMEMBERED_FOR` ago; return how many.

    Raises:
        StorageError: the store can't be written.
    """
    limit = (now or utc_now()) - REMEMBERED_FOR
    with database.write() as session:
        long_over = select(ShareRow.id).where((ShareRow.expires_at <= limit) | (ShareRow.ended_at <= limit))
        ids = session.scalars(long_over).all()
        session.execute(delete(ShareRow).where(ShareRow.id.in_(ids)))
        return len(ids)


def _is_open(now: datetime) -> ColumnElement[bool]:
    return and_(ShareRow.ended_at.is_(None), ShareRow.expires_at > now)


def _count(session: Session, *where: ColumnElement[bool]) -> int:
    return session.scalar(select(func.count()).select_from(ShareRow).where(*where)) or 0


def _share(row: ShareRow) -> Share:
    shown = SharedVerdict(row.pair_id, row.mode, row.k, row.fingerprint, row.verdict)
    return Share(row.id, shown, row.maker, row.created_at, row.expires_at)
