"""Signing in with name and password, with a limit on failures, and the browsers that are signed in.

An attempt is counted before the password is looked at and struck out if it was right: guesses that arrive together
can't slip through the limit. Hashing happens between the two transactions, so nobody waits for it. The counts are in
the store: they hold over processes and restarts.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from sqlalchemy import ColumnElement, delete, select, text, update

from storage.accounts.credentials import hash_password, is_outdated, is_password, new_token, token_hash
from storage.accounts.invitations import Invitation, accept_invitation, invite, invite_first_lead, read_invitation
from storage.accounts.users import User, as_user, name_key, user_row
from storage.errors import SignInRefusedError, StorageError
from storage.schema import SignInAttemptRow, SignInRow, UserRow, utc_now

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from storage.database import Database

SIGNED_IN_FOR = timedelta(days=30)
LIMIT_WINDOW = timedelta(minutes=15)
FAILURES_BY_NAME, FAILURES_BY_ADDRESS = 5, 20
WRONG = "Wrong name or password."

__all__ = [
    "Invitation",
    "SignedIn",
    "accept_invitation",
    "invite",
    "invite_first_lead",
    "open_sign_in",
    "read_invitation",
    "sign_in",
    "sign_out",
    "user_of",
]


@dataclass(frozen=True)
class SignedIn:
    """A browser that is signed in.

    Attributes:
        token: for its cookie; it can't be read from the store again.
    """

    user: User
    token: str
    expires_at: datetime


def sign_in(database: Database, name: str, password: str, address: str, now: datetime | None = None) -> SignedIn:
    """Check name and password, and open a sign-in.

    Args:
        address: where the attempt comes from, for the limit.

    Raises:
        SignInRefusedError: wrong (name and password are not told apart), or too many failures by this name or address: then
            with the seconds to wait, and the password was not looked at.
    """
    now = now or utc_now()
    key, address = name_key(name)[:160], address[:64]
    with database.read() as session:  # what is refused anyway need not write
        _refuse_too_many(session, key, address, now)
    with database.write() as session:
        _count(session, key, address, now)
        row = session.scalars(select(UserRow).where(UserRow.name_key == key)).one_or_none()
        user_id, stored = (None, None) if row is None or not row.active else (row.id, row.password_hash)
    if not is_password(stored, password) or user_id is None or stored is None:
        raise SignInRefusedError(WRONG)
    renewed = hash_password(password) if is_outdated(stored) else stored
    with database.write() as session:
        row = user_row(session, user_id)
        if row.password_hash != stored or not row.active:  # changed in between
            raise SignInRefusedError(WRONG)
        row.password_hash = renewed
        # Their own slips are forgiven; what others tried on this name from elsewhere still counts.
        session.execute(
            delete(SignInAttemptRow).where(SignInAttemptRow.name_key == key, SignInAttemptRow.address == address)
        )
        return open_sign_in(session, user_id, now)


def open_sign_in(session: Session, user_id: int, now: datetime | None = None) -> SignedIn:
    """Sign a person in whose identity is known already, for example from the invitation just accepted.

    Raises:
        NotInStoreError: no such person.
        StorageError: the account is switched off.
    """
    row = user_row(session, user_id)
    if not row.active:
        raise StorageError(f"the account of {row.name} is switched off")
    now = now or utc_now()
    token, expires_at = new_token(), now + SIGNED_IN_FOR
    session.add(SignInRow(token_hash=token_hash(token), user_id=user_id, created_at=now, expires_at=expires_at))
    session.flush()
    return SignedIn(as_user(row), token, expires_at)


def user_of(session: Session, token: str, now: datetime | None = None) -> User | None:
    """Return the person whose cookie this is; None if it is unknown, ended or expired, or the account is switched off."""
    signed_in = (
        SignInRow.token_hash == token_hash(token),
        SignInRow.ended_at.is_(None),
        SignInRow.expires_at > (now or utc_now()),
        UserRow.active.is_(True),
    )
    row = session.scalars(select(UserRow).join(SignInRow, SignInRow.user_id == UserRow.id).where(*signed_in)).one_or_none()
    return None if row is None else as_user(row)


def sign_out(session: Session, token: str) -> None:
    """End the sign-in of this cookie; an unknown one is no error."""
    this = (SignInRow.token_hash == token_hash(token), SignInRow.ended_at.is_(None))
    session.execute(update(SignInRow).where(*this).values(ended_at=utc_now()))


def _count(session: Session, key: str, address: str, now: datetime) -> None:
    """Enter an attempt, unless there were too many; what is past the window is forgotten."""
    if session.get_bind().dialect.name == "postgresql":
        # Two that count at the same moment must see each other. SQLite lets one writer in at a time anyway.
        session.execute(text("LOCK TABLE sign_in_attempts IN SHARE ROW EXCLUSIVE MODE"))
    _refuse_too_many(session, key, address, now)
    session.execute(delete(SignInAttemptRow).where(SignInAttemptRow.created_at <= now - LIMIT_WINDOW))
    session.add(SignInAttemptRow(name_key=key, address=address, created_at=now))


def _refuse_too_many(session: Session, key: str, address: str, now: datetime) -> None:
    limits = (
        (SignInAttemptRow.name_key == key, FAILURES_BY_NAME),
        (SignInAttemptRow.address == address, FAILURES_BY_ADDRESS),
    )
    wait = max(_seconds_to_wait(session, which, most, now) for which, most in limits)
    if wait:
        minutes = math.ceil(wait / 60)
        plural = "" if minutes == 1 else "s"
        raise SignInRefusedError(f"Too many failed attempts. Try again in {minutes} minute{plural}.", retry_seconds=wait)


def _seconds_to_wait(session: Session, which: ColumnElement[bool], most: int, now: datetime) -> int:
    """Until fewer than `most` failures lie in the window; 0 if that is so now."""
    recent = (which, SignInAttemptRow.created_at > now - LIMIT_WINDOW)
    newest_first = select(SignInAttemptRow.created_at).where(*recent).order_by(SignInAttemptRow.created_at.desc())
    blocking = session.scalars(newest_first.offset(most - 1).limit(1)).one_or_none()
    return 0 if blocking is None else max(1, math.ceil((blocking + LIMIT_WINDOW - now).total_seconds()))
