"""What all tables share: the declarative base, moments in UTC, the names of constraints."""

from __future__ import annotations

import hashlib
from datetime import datetime, timezone
from typing import Any, Literal

from sqlalchemy import DateTime, Dialect, MetaData
from sqlalchemy.orm import DeclarativeBase
from sqlalchemy.types import TypeDecorator

Choice = Literal["A", "B", "tie", "both_bad"]
Side = Literal["A", "B"]
LIMIT = "characters"

NAMING = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_name)s",
    "pk": "pk_%(table_name)s",
}


def utc_now() -> datetime:
    """Return the present moment, with its time zone."""
    return datetime.now(timezone.utc)


def text_hash(text: str) -> str:
    """sha256 (hex) of a prompt without surrounding blanks, since the judge's instruction strips them too."""
    return hashlib.sha256(text.strip().encode()).hexdigest()


def at_most(characters: int) -> dict[str, Any]:
    """Return the `info` of a Text or JSON column that holds so many characters at most; see `storage.text_limits`."""
    return {LIMIT: characters}


class UtcDateTime(TypeDecorator[datetime]):
    """A moment in UTC, the same on databases with time zones (PostgreSQL) and without (SQLite).

    Naive datetimes are refused: nobody could say later which moment they meant.
    """

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Convert a moment to what the database stores; SQLite gets it in UTC without a time zone."""
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError(f"{value} has no time zone")
        moment = value.astimezone(timezone.utc)
        return moment.replace(tzinfo=None) if dialect.name == "sqlite" else moment

    def process_result_value(self, value: datetime | None, _dialect: Dialect) -> datetime | None:
        """Convert the answer of the database to a moment in UTC."""
        if value is None:
            return None
        if value.tzinfo is None:
            return value.replace(tzinfo=timezone.utc)
        return value.astimezone(timezone.utc)


class Base(DeclarativeBase):
    """Typed declarative base; constraints are named, so that later migrations can alter them."""

    metadata = MetaData(naming_convention=NAMING)
