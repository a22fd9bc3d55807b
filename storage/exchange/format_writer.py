"""The writers that all formats share: a file appears under its name only when it is complete.

The pairs that a writer gets can be walked through more than once, and always come in the same order.
"""

from __future__ import annotations

import csv
import json
import os
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TextIO

from storage.exchange.parsed import ExchangeError, ParsedAssignment, ParsedLabel, ParsedPair

GENERATORS = ("A_model", "B_model")


@dataclass
class WriteReport:
    """What a writer wrote.

    Attributes:
        rows: how many.
        left_out: why pairs or labels are not in the file, and how many.
    """

    files: list[str] = field(default_factory=list)
    rows: int = 0
    left_out: Counter[str] = field(default_factory=Counter)


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Open a temporary file that becomes `path` at the end of the block, unless the block raises.

    Raises:
        ExchangeError: the folder can't be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=".export-", dir=path.parent)
        os.close(handle)
    except OSError as error:
        raise ExchangeError(f"can't write {path.name}: {error.strerror or error}") from error
    temporary = Path(name)
    try:
        yield temporary
        temporary.chmod(0o644)
        temporary.replace(path)
    except OSError as error:
        raise ExchangeError(f"can't write {path.name}: {error.strerror or error}") from error
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def text_file(path: Path) -> Iterator[TextIO]:
    """Open `replacing` for UTF-8 text whose line ends are written as they are."""
    with replacing(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        yield file


def write_table(path: Path, columns: Sequence[str], rows: Iterable[Mapping[str, str]]) -> int:
    """Write a CSV (UTF-8, CRLF); returns the number of rows."""
    count = 0
    with text_file(path) as file:
        writer = csv.DictWriter(file, columns, restval="", extrasaction="ignore")
        writer.writeheader()
        for row in rows:
            writer.writerow(row)
            count += 1
    return count


def labelled(
    pairs: Iterable[ParsedPair], written: WriteReport
) -> Iterator[tuple[ParsedPair, ParsedAssignment, ParsedLabel]]:
    """Each label in force with its pair; what has none is counted as left out."""
    for pair in pairs:
        has_label = False
        for assignment, label in current_labels(pair):
            has_label = True
            yield pair, assignment, label
        if not has_label:
            written.left_out["pairs without a label"] += 1


def current_labels(pair: ParsedPair) -> Iterator[tuple[ParsedAssignment, ParsedLabel]]:
    """Yield the last revision of each assignment that holds a choice."""
    for assignment in pair.assignments:
        if assignment.labels[-1].action == "label":
            yield assignment, assignment.labels[-1]


def used_columns(pairs: Iterable[ParsedPair], own: Sequence[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """List the optional columns that a table of these pairs needs.

    Args:
        own: the columns that the format has anyway.

    Returns:
        Those of generators and annotators, and the names of the pairs' extra columns.
    """
    generators = annotators = False
    extra_columns: set[str] = set()
    for pair in pairs:
        generators = generators or pair.generator_a is not None or pair.generator_b is not None
        annotators = annotators or any(assignment.annotator is not None for assignment in pair.assignments)
        extra_columns.update(pair.extra_columns)
    common = (GENERATORS if generators else ()) + (("annotator",) if annotators else ())
    return common, tuple(sorted(extra_columns - {*own, *GENERATORS, "annotator"}))


def common_cells(pair: ParsedPair, assignment: ParsedAssignment | None) -> dict[str, str]:
    """Cells of the columns that all tables share: extra columns, generators, annotator."""
    cells = {name: cell_text(value) for name, value in pair.extra_columns.items()}
    cells |= {"A_model": pair.generator_a or "", "B_model": pair.generator_b or ""}
    return cells | {"annotator": (assignment.annotator if assignment else None) or ""}


def cell_text(value: Any) -> str:
    """Format a value as the text of a cell."""
    return value if isinstance(value, str) else json_text(value)


def json_text(value: Any) -> str:
    """JSON that is the same for equal values."""
    return json.dumps(value, ensure_ascii=False, sort_keys=True)
