"""Visitors of the Judge page: who voted in a browser in which nobody was signed in.

A visitor is a row among the people, since labels name one, and never an account: nobody can sign in as a visitor, and a name
that an account has is not theirs. The id of the browser is its secret, so only a hash of it is kept here.
"""

from __future__ import annotations

import hashlib
from datetime import datetime
from typing import TYPE_CHECKING

from sqlalchemy import select

from storage.accounts.users import VISITORS, User, as_user, name_key
from storage.schema import UserRow
from storage.sql import insert_or_get

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

_DIGITS = 10


def visitor_of(session: Session, voter: str, now: datetime) -> User:
    """Find or make the visitor of a browser.

    Args:
        voter: the random id of the browser.
        now: when they came first, if they did not come before.
    """
    subject = hashlib.sha256(f"visitor {voter}".encode()).hexdigest()
    same = select(UserRow).where(UserRow.issuer == VISITORS, UserRow.subject == subject)
    row = session.scalars(same).one_or_none()
    if row is not None:
        return as_user(row)
    name = _free_name(session, subject)
    row = UserRow(
        name=name, name_key=name_key(name), role="annotator", issuer=VISITORS, subject=subject, active=True, created_at=now
    )
    row = insert_or_get(session, row, same)
    session.flush()
    return as_user(row)


def _free_name(session: Session, subject: str) -> str:
    """Return a name that no account has taken: as many digits as that needs."""
    for digits in range(_DIGITS, len(subject) + 1):
        name = f"visitor {subject[:digits]}"
        if session.scalar(select(UserRow.id).where(UserRow.name_key == name_key(name))) is None:
            return name
    raise AssertionError("somebody took all names of a visitor")
