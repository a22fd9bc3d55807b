"""The studio's own table, in which nothing is lost: one record for each revision of a label, and for each pair without one.

Parquet, JSON Lines and the dataset folder hold the same records. A file from elsewhere needs `video_a`, `video_b` and
`prompt` only; a record with a `choice` is a label, all other fields are optional.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from storage.exchange.format_writer import json_text
from storage.exchange.formats.studio_record_labels import (
    OF_LABEL,
    LabelFields,
    assignment_fields,
    json_object,
    label_fields,
    label_of,
)
from storage.exchange.parsed import Clip, ParsedAssignment, ParsedPair

if TYPE_CHECKING:
    from descore.tables.read_table import TableRow
    from storage.exchange.format_reader import FormatReader

REQUIRED = ("video_a", "video_b", "prompt")
_PAIR_TEXTS = (*REQUIRED, "video_a_sha256", "video_b_sha256", "generator_a", "generator_b")
_OF_PAIR = (*_PAIR_TEXTS, "facts")
_ROLES = {**{role: role for role in (*REQUIRED, "generator_a", "generator_b", "annotator")}, "label": "choice"}


def records(pair: ParsedPair) -> Iterator[dict[str, Any]]:
    """Yield the records of a pair, with plain JSON values and datetimes; what is empty or None is not in them."""
    of_pair = {
        "video_a": pair.a.name,
        "video_b": pair.b.name,
        "video_a_sha256": pair.a.sha256,
        "video_b_sha256": pair.b.sha256,
        "prompt": pair.prompt,
        "generator_a": pair.generator_a,
        "generator_b": pair.generator_b,
        "facts": dict(sorted(pair.extra_columns.items())),
    }
    for assignment in pair.assignments:
        of_assignment = assignment_fields(assignment)
        for revision, label in enumerate(assignment.labels):
            yield _without_empty({**of_pair, **of_assignment, "revision": revision, **label_fields(label)})
    if not pair.assignments:
        yield _without_empty(of_pair)


def _without_empty(record: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in record.items() if value is not None and value not in ({}, [], "")}


def read_records(reading: FormatReader, rows: Iterable[TableRow]) -> None:
    """Put the records of a file together into pairs with their assignments, and add those to `reading`."""
    pairs: dict[tuple[str, str, str], ParsedPair] = {}
    assignments: dict[tuple[str, str, str], dict[tuple[Any, ...], LabelFields]] = {}
    for row in rows:
        reading.read_as(row.cells, _ROLES, (*_OF_PAIR, *OF_LABEL), kept=False)
        pair = _pair(reading, row)
        if pair is None:
            continue
        key = (pair.a.name, pair.b.name, pair.prompt)
        _check_same(reading, pairs.setdefault(key, pair), pair)
        try:
            fields = label_of(row)
        except ValueError as error:
            reading.problem(row.line, str(error))
            continue
        if fields is None:
            continue
        first = assignments.setdefault(key, {}).setdefault(fields.assignment_key, fields)
        if first is not fields:
            first.take(fields)
    for key, pair in pairs.items():
        complete = [_assignment(reading, fields) for fields in assignments.get(key, {}).values()]
        reading.add(replace(pair, assignments=tuple(assignment for assignment in complete if assignment is not None)))


def _assignment(reading: FormatReader, fields: LabelFields) -> ParsedAssignment | None:
    try:
        return fields.assignment()
    except ValueError as error:
        reading.problem(fields.line, str(error))
        return None


def _pair(reading: FormatReader, row: TableRow) -> ParsedPair | None:
    wrong = [name for name in _PAIR_TEXTS if not isinstance(row.cells.get(name, ""), (str, type(None)))]
    missing = [name for name in REQUIRED if row.cells.get(name) is None]
    if wrong or missing:
        reading.problem(row.line, f"needs text in {', '.join(wrong or missing)}")
        return None
    try:
        extra_columns = json_object(row.cells.get("facts"), "facts")
    except ValueError as error:
        reading.problem(row.line, str(error))
        return None
    prompt = reading.prompt(row)
    a, b = (reading.clip(row, name, row.text(f"{name}_sha256") or None) for name in ("video_a", "video_b"))
    if a is None or b is None:
        return None
    return ParsedPair(
        line=row.line,
        a=a,
        b=b,
        prompt=prompt,
        generator_a=row.text("generator_a") or None,
        generator_b=row.text("generator_b") or None,
        extra_columns=extra_columns,
    )


def _check_same(reading: FormatReader, first: ParsedPair, again: ParsedPair) -> None:
    """All records of a pair must say the same of it."""
    contents = (_contents(first), _contents(again))
    if contents[0] != contents[1]:
        reading.problem(again.line, f"says something else of the pair than line {first.line}")


def _contents(pair: ParsedPair) -> tuple[Clip, Clip, str | None, str | None, str]:
    return pair.a, pair.b, pair.generator_a, pair.generator_b, json_text(dict(pair.extra_columns))
