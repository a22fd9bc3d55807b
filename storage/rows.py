"""Saving what may be there already."""

from __future__ import annotations

from typing import Any, TypeVar

from sqlalchemy import Select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

Row = TypeVar("Row")


def insert_or_get(session: Session, row: Row, same: Select[Any]) -> Row:
    """Insert `row`, unless `same` finds one already; the stored row is returned, the first one wins.

    On SQLite the write lock makes the look-up reliable. On PostgreSQL another transaction may insert in
    between: then the unique constraint refuses ours, and theirs is returned.
    """
    found: Row | None = session.scalars(same).one_or_none()
    if found is not None:
        return found
    try:
        with session.begin_nested():
            session.add(row)
    except IntegrityError:
        first: Row | None = session.scalars(same).one_or_none()
        if first is None:
            raise
        return first
    return row
