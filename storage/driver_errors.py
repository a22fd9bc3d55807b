"""What a database refused, in a sentence for people.

The drivers' own words name hosts, sockets and files, so they go into the log.
"""

from __future__ import annotations

import logging
import sqlite3

from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

log = logging.getLogger(__name__)

# Of SQLSTATE: connection exceptions, and a server that is shut down or starting up.
_AWAY = ("08", "57P01", "57P02", "57P03")
_TELL = "Tell the person who runs this app."
# By the beginning of SQLSTATE, or by SQLite's words.
_SENTENCES = (
    (("53100", "database or disk is full"), f"The disk of the store is full, so nothing can be saved. {_TELL}"),
    (("25006", "readonly database"), f"The store is read-only, so nothing can be saved. {_TELL}"),
    (("unable to open database file",), f"The store can't be opened: was its file moved or deleted? {_TELL}"),
    (("55P03", "database is locked"), "The store is busy with another write. Try again in a moment."),
)


def reason(error: Exception) -> str:
    """Return the database's own words, without the statement and its parameters: those hold what people wrote."""
    return " ".join(str(getattr(error, "orig", None) or error).split()).rstrip(".")


def sentence(error: SQLAlchemyError) -> str:
    """Say what the database refused, and what to do."""
    log.warning("the store refused: %s", reason(error))
    if isinstance(error, PoolTimeoutError):
        return "The store is too busy. Try again in a moment."
    if not isinstance(error, DBAPIError):  # a value that our own columns refuse, before any driver sees it
        return f"the store refused: {reason(error)}"
    code = str(getattr(error.orig, "sqlstate", None) or "")
    if _is_away(error, code):
        return f"The database can't be reached at the moment. Try again; if it stays so: {_TELL[0].lower()}{_TELL[1:]}"
    for signs, text in _SENTENCES:
        if any(code.startswith(sign) if sign[0].isdigit() else sign in reason(error) for sign in signs):
            return text
    return f"the store refused: {reason(error)}"


def _is_away(error: DBAPIError, code: str) -> bool:
    """Tell whether there was no connection: it was lost, or never made, and then the server gave no code."""
    if isinstance(error.orig, sqlite3.Error):
        return False
    never_made = not code and type(error.orig).__name__ in ("OperationalError", "ConnectionTimeout")
    return error.connection_invalidated or code.startswith(_AWAY) or never_made
