"""Signing in with name and password, with a limit on failures, and the browsers that are signed in.

An attempt is counted before the password is looked at and struck out if it was right: guesses that arrive together
can't slip through the limit (`attempts.py`). Hashing happens between the two transactions, so nobody waits for it. The
counts are in the store: they hold over processes and restarts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from sqlalchemy import select, update

from storage.accounts.attempts import admit, count_attempt, forgive
from storage.accounts.credentials import is_outdated, is_password, new_token, renew_hash, token_hash
from storage.accounts.invitations import Invitation, accept_invitation, invite, invite_first_lead, read_invitation
from storage.accounts.known_browsers import known_mark, mark_fingerprint, new_mark
from storage.accounts.users import User, as_user, name_key, user_row
from storage.errors import SignInRefusedError, StorageError
from storage.schema import SignInRow, UserRow, utc_now

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from storage.database import Database

SIGNED_IN_FOR = timedelta(days=30)
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
        mark: by which this browser is known to the account from now on (`known_browsers.py`); "" without a password.
    """

    user: User
    token: str
    expires_at: datetime
    mark: str = ""


def sign_in(
    database: Database, name: str, password: str, address: str, now: datetime | None = None, *, marks: Sequence[str] = ()
) -> SignedIn:
    """Check name and password, and open a sign-in.

    Args:
        address: where the attempt comes from, for the limit.
        marks: what this browser got at earlier sign-ins; one of this account spares it the waits that others cause.

    Raises:
        SignInRefusedError: wrong (name and password are not told apart), or too many failures on this name from this
            address, or from this address: then with the seconds to wait, and the password was not looked at.
    """
    now = now or utc_now()
    key = name_key(name)[:160]
    with database.read() as session:  # what is refused anyway need not write
        admit(session, key, address, _known_browser(_account(session, key), marks), now)
    with database.write() as session:
        row = _account(session, key)
        source = count_attempt(session, key, address, _known_browser(row, marks), now)
        user_id, stored = (None, None) if row is None or not row.active else (row.id, row.password_hash)
    if not is_password(stored, password) or user_id is None or stored is None:
        raise SignInRefusedError(WRONG)
    renewed = renew_hash(password) if is_outdated(stored) else stored
    with database.write() as session:
        row = user_row(session, user_id)
        if row.password_hash != stored or not row.active:  # changed in between
            raise SignInRefusedError(WRONG)
        row.password_hash = renewed
        forgive(session, key, source)  # what others tried on this name from elsewhere still counts
        return open_sign_in(session, user_id, now, marks=marks)


def open_sign_in(session: Session, user_id: int, now: datetime | None = None, *, marks: Sequence[str] = ()) -> SignedIn:
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
    stored = row.password_hash
    mark = "" if stored is None else known_mark(marks, user_id, stored) or new_mark(user_id, stored)
    return SignedIn(as_user(row), token, expires_at, mark)


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


def _account(session: Session, key: str) -> UserRow | None:
    return session.scalars(select(UserRow).where(UserRow.name_key == key)).one_or_none()


def _known_browser(row: UserRow | None, marks: Sequence[str]) -> str | None:
    """Return the fingerprint of a browser that was signed in to this account before, None for any other."""
    if row is None or row.password_hash is None:
        return None
    mark = known_mark(marks, row.id, row.password_hash)
    return None if mark is None else mark_fingerprint(mark)
