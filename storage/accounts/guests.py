"""Guests of a demo: accounts of an annotator that a visitor gets with one click, for a day.

    signed_in = admit_guest(database, origin)      # GuestLimitError: there are enough of them
    end_guests(database)                           # switches off those whose day is over

Nobody can sign in as a guest again: the account is the browser's cookie. It is never removed, since labels name it.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from sqlalchemy import func, select

from storage.accounts.sessions import SignedIn, open_sign_in
from storage.accounts.users import GUESTS, name_key, set_active
from storage.errors import GuestLimitError
from storage.schema import UserRow, utc_now

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from storage.database import Database


@dataclass(frozen=True)
class GuestLimits:
    """How many guests there may be at a time.

    Attributes:
        lasts: how long an account is good for.
    """

    each_origin: int = 20  # a class behind one address
    all: int = 500
    lasts: timedelta = timedelta(days=1)


LIMITS = GuestLimits()


def admit_guest(database: Database, origin: str, limits: GuestLimits = LIMITS, now: datetime | None = None) -> SignedIn:
    """Make an account for a visitor and sign it in.

    Args:
        origin: where they come from, as of `storage.uploads.origin_key`.

    Raises:
        GuestLimitError: this origin, or everybody together, has as many as there may be.
    """
    now = now or utc_now()
    with database.write() as session:
        if _count(session, now - limits.lasts, origin) >= limits.each_origin:
            raise GuestLimitError(
                f"This is a demo: your address has had its {limits.each_origin} guests of today. Go on with the one you "
                "have, or come back tomorrow."
            )
        if _count(session, now - limits.lasts) >= limits.all:
            raise GuestLimitError("This is a demo: it has as many guests as it takes in a day. Come back tomorrow.")
        name = f"Guest {secrets.token_hex(4)}"
        row = UserRow(
            name=name,
            name_key=name_key(name),
            role="annotator",
            issuer=GUESTS,
            subject=f"{origin} {secrets.token_hex(8)}",
            active=True,
            created_at=now,
        )
        session.add(row)
        session.flush()
        return open_sign_in(session, row.id, now)


def end_guests(database: Database, limits: GuestLimits = LIMITS, now: datetime | None = None) -> int:
    """Switch off the guests whose time is over; return how many."""
    with database.write() as session:
        over = (UserRow.issuer == GUESTS, UserRow.active.is_(True), UserRow.created_at <= (now or utc_now()) - limits.lasts)
        ids = session.scalars(select(UserRow.id).where(*over)).all()
        for user_id in ids:
            set_active(session, user_id, False)
    return len(ids)


def _count(session: Session, since: datetime, origin: str | None = None) -> int:
    """Count the guests of some time, also those who were switched off since."""
    conditions = [UserRow.issuer == GUESTS, UserRow.created_at > since]
    if origin is not None:
        conditions.append(UserRow.subject.startswith(f"{origin} ", autoescape=True))
    return session.scalar(select(func.count()).select_from(UserRow).where(*conditions)) or 0
