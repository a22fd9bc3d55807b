"""The limit on failed sign-ins: who has to wait, for how long, and which accounts are attacked.

Failures count for an account and an address together, so nobody can lock another person out from elsewhere, and for an
address over all accounts. After some free ones each failure doubles the wait. A browser that was signed in to the account
before (`known_browsers.py`) counts by itself and does not wait for what others do, even behind the same address.
"""

from __future__ import annotations

import ipaddress
import math
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, TypeAlias

from sqlalchemy import ColumnElement, delete, func, select, text

from storage.errors import SignInRefusedError
from storage.schema import SignInAttemptRow, UserRow, utc_now

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

KEPT_FOR = timedelta(days=1)
FIRST_WAIT, LONGEST_WAIT = timedelta(seconds=15), timedelta(minutes=15)
# Of a known browser in a day; then it is taken for any other, so that a stolen cookie is not worth endless guesses.
BROWSER_FAILURES = 50
ATTACKING_ADDRESSES = 3
_BROWSER = "known browser "
Which: TypeAlias = tuple[ColumnElement[bool], ...]


@dataclass(frozen=True)
class Limit:
    """Failures within `window` after which each further one doubles the wait.

    Attributes:
        free: failures without a wait.
    """

    free: int
    window: timedelta

    def wait_after(self, failures: int) -> timedelta:
        """Return how long after the last of these failures the next attempt may come."""
        if failures < self.free:
            return timedelta(0)
        doublings = min(failures - self.free, 10)  # the longest wait is reached long before, the number stays small
        return min(FIRST_WAIT * (1 << doublings), LONGEST_WAIT)


BY_ACCOUNT_AND_ADDRESS = Limit(5, KEPT_FOR)
BY_ADDRESS = Limit(20, timedelta(hours=1))


@dataclass(frozen=True)
class Attack:
    """Failed sign-ins of the last day for one account from many addresses.

    Attributes:
        name: of the account.
    """

    name: str
    failures: int
    addresses: int


def source_of(address: str) -> str:
    """Return what an address counts as: the network for IPv6, of which everybody has a whole one (/64) to themselves."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return address[:64]
    if isinstance(parsed, ipaddress.IPv6Address):
        if parsed.ipv4_mapped:
            return str(parsed.ipv4_mapped)
        return str(ipaddress.ip_network((int(parsed), 64), strict=False))
    return str(parsed)


def admit(session: Session, name_key: str, address: str, browser: str | None, now: datetime) -> str:
    """Return the source under which an attempt counts.

    Args:
        browser: the fingerprint of a browser that was signed in to this account before.

    Raises:
        SignInRefusedError: too many failures; with the seconds to wait.
    """
    if browser is not None:
        source = _BROWSER + browser
        if _failures(session, _of(name_key, source), now - KEPT_FOR)[0] < BROWSER_FAILURES:
            return source
    source = source_of(address)
    limits = ((BY_ACCOUNT_AND_ADDRESS, _of(name_key, source)), (BY_ADDRESS, (SignInAttemptRow.address == source,)))
    wait = max(_seconds_to_wait(session, limit, which, now) for limit, which in limits)
    if wait:
        raise SignInRefusedError(f"Too many failed attempts. Try again in {_duration(wait)}.", retry_seconds=wait)
    return source


def count_attempt(session: Session, name_key: str, address: str, browser: str | None, now: datetime) -> str:
    """Enter an attempt, unless it is refused as by `admit`; returns its source. What is older than a day is forgotten."""
    if session.get_bind().dialect.name == "postgresql":
        # Two that count at the same moment must see each other. SQLite lets one writer in at a time anyway.
        session.execute(text("LOCK TABLE sign_in_attempts IN SHARE ROW EXCLUSIVE MODE"))
    source = admit(session, name_key, address, browser, now)
    session.execute(delete(SignInAttemptRow).where(SignInAttemptRow.created_at <= now - KEPT_FOR))
    session.add(SignInAttemptRow(name_key=name_key, address=source, created_at=now))
    return source


def forgive(session: Session, name_key: str, source: str) -> None:
    """Strike out the failures of one source on one account, whose password it has just shown to know."""
    session.execute(delete(SignInAttemptRow).where(*_of(name_key, source)))


def attacked_accounts(session: Session, now: datetime | None = None) -> tuple[Attack, ...]:
    """Accounts for which sign-ins failed from many addresses in the last day, the most attacked first."""
    addresses = func.count(SignInAttemptRow.address.distinct())
    failures = func.count()
    statement = (
        select(UserRow.name, failures, addresses)
        .join(SignInAttemptRow, SignInAttemptRow.name_key == UserRow.name_key)
        .where(SignInAttemptRow.created_at > (now or utc_now()) - KEPT_FOR)
        .where(SignInAttemptRow.address.not_like(f"{_BROWSER}%"))
        .group_by(UserRow.id, UserRow.name)
        .having(addresses >= ATTACKING_ADDRESSES)
        .order_by(failures.desc(), UserRow.id)
    )
    return tuple(Attack(*row) for row in session.execute(statement))


def _of(name_key: str, source: str) -> Which:
    return SignInAttemptRow.name_key == name_key, SignInAttemptRow.address == source


def _failures(session: Session, which: Which, since: datetime) -> tuple[int, datetime | None]:
    """Count failures since a moment, and find the last one."""
    statement = select(func.count(), func.max(SignInAttemptRow.created_at))
    count, last = session.execute(statement.where(*which, SignInAttemptRow.created_at > since)).one()
    return count, last


def _seconds_to_wait(session: Session, limit: Limit, which: Which, now: datetime) -> int:
    count, last = _failures(session, which, now - limit.window)
    return 0 if last is None else max(0, math.ceil((last + limit.wait_after(count) - now).total_seconds()))


def _duration(seconds: int) -> str:
    number, unit = (seconds, "second") if seconds < 60 else (math.ceil(seconds / 60), "minute")
    return f"{number} {unit}{'' if number == 1 else 's'}"
