"""Lengths of the texts that are stored, checked at every statement that writes.

SQLite ignores the length in `String(64)`, and neither database bounds Text and JSON. So each column says how long its texts
may be (a `String` by its length, Text and JSON by `storage.schema.base.at_most`), and one place refuses longer ones,
wherever they are written. What an older store holds is only read, never checked.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from typing import Any, cast
from weakref import WeakKeyDictionary

from sqlalchemy import JSON, Column, Engine, String, Table, event

from descore.prompt import text_problem
from storage.errors import TextError
from storage.schema import Base
from storage.schema.base import LIMIT


@dataclass(frozen=True)
class _Bounded:
    """A parameter of a statement that goes into a column of bounded length."""

    parameter: str
    column: Column[Any]
    limit: int

    def check(self, value: Any) -> None:
        if value is None:
            return
        if isinstance(self.column.type, JSON):
            text, what = json.dumps(value, default=str), "as JSON"
        else:
            text, what = str(value), ""
        problem = text_problem(text, self.limit)
        if problem is not None:
            raise TextError(" ".join(filter(None, (f"{self.column.name} of {self.column.table.name}", what, problem))))


def text_limit(column: Any) -> int | None:
    """Return how many characters a column holds at most; None for a column that holds no text.

    Raises:
        TypeError: a column of text without a limit.
    """
    if not isinstance(column.type, (String, JSON)):
        return None
    limit = column.info.get(LIMIT) or getattr(column.type, "length", None)
    if limit is None:
        raise TypeError(f"{column} has no limit: give it info=at_most(...)")
    return int(limit)


def check_texts(row: type[Base], **texts: Any) -> None:
    """Refuse texts that these columns of a table can't hold, before anything is done with them.

    Raises:
        TextError: one is too long, or holds a character that can't be stored.
    """
    for name, text in texts.items():
        column = cast("Table", row.__table__).c[name]
        _Bounded(name, column, text_limit(column) or 0).check(text)


def check_text_lengths(engine: Engine) -> None:
    """Let the engine refuse, with a `TextError`, each INSERT and UPDATE with a text that its column can't hold."""
    by_statement: WeakKeyDictionary[Any, tuple[_Bounded, ...]] = WeakKeyDictionary()

    @event.listens_for(engine, "before_cursor_execute")
    def check(_connection: Any, _cursor: Any, _statement: str, _parameters: Any, context: Any, _many: bool) -> None:
        compiled = context.compiled
        if compiled is None or not (context.isinsert or context.isupdate):
            return
        bounded = by_statement.get(compiled)
        if bounded is None:
            bounded = by_statement[compiled] = _bounded_parameters(compiled)
        # A large INSERT runs in batches; the parameters of all are there at the first.
        if not bounded or getattr(context, "texts_are_checked", False):
            return
        context.texts_are_checked = True
        for values in context.compiled_parameters:
            for parameter in bounded:
                parameter.check(values.get(parameter.parameter))


def _bounded_parameters(compiled: Any) -> tuple[_Bounded, ...]:
    """Find the parameters that go into bounded columns: by their type, which is the column's own object."""
    by_type = _columns_by_type()
    columns = ((name, by_type.get(id(bind.type))) for name, bind in compiled.binds.items())
    return tuple(_Bounded(name, column, text_limit(column) or 0) for name, column in columns if column is not None)


@cache
def _columns_by_type() -> dict[int, Column[Any]]:
    tables: tuple[Table, ...] = tuple(Base.metadata.tables.values())
    columns = [column for table in tables for column in table.columns if text_limit(column) is not None]
    by_type = {id(column.type): column for column in columns}
    if len(by_type) != len(columns):
        raise TypeError("two columns share one type object, so texts can't be told apart; give each its own")
    return by_type
