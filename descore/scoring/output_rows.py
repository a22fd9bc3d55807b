"""The rows that a scoring writes, as CSV or Parquet, by the name of the file.

    check_out(Path("scores.csv"))
    write_rows(Path("scores.csv"), [{"row": 1, "path_A": "a.mp4"}])

A file is written under another name first and then put in its place, so it is never half there.
"""

from __future__ import annotations

import csv
import os
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

_TEXT, _NUMBER, _WHOLE = "string", "float64", "int64"
COLUMNS: dict[str, str] = {
    "row": _WHOLE,
    "line": _WHOLE,
    "path_A": _TEXT,
    "path_B": _TEXT,
    "prompt": _TEXT,
    "video_sha256_A": _TEXT,
    "video_sha256_B": _TEXT,
    "checkpoint": _TEXT,
    "checkpoint_fingerprint": _TEXT,
    "mode": _TEXT,
    "k": _WHOLE,
    "seed": _WHOLE,
    "reward_A": _NUMBER,
    "reward_B": _NUMBER,
    "standardised_reward_A": _NUMBER,
    "standardised_reward_B": _NUMBER,
    "p_first_preferred": _NUMBER,
    "verdict": _TEXT,
    "overall_score_A": _NUMBER,
    "overall_score_B": _NUMBER,
    "sub_scores_A": _TEXT,
    "sub_scores_B": _TEXT,
    "thought_A": _TEXT,
    "thought_B": _TEXT,
    "engine": _TEXT,
    "error": _TEXT,
    "p_source": _TEXT,
    "distance_A": _NUMBER,
    "distance_B": _NUMBER,
}
# Columns that came later: an output without them is gone on with, since all of its rows are written again.
LATER = frozenset({"p_source", "distance_A", "distance_B"})
_LONGEST_HEADER = 4096
_OLD_HEADER = b"row,path_A,path_B,prompt,checkpoint,mode,"
_ROWS_AT_ONCE = 1000
Row = Mapping[str, Any]


def check_out(out: Path) -> None:
    """Refuse to write over a file that this command did not write, and a format that can't be written here.

    Raises:
        ValueError: the message says what to do.
    """
    if _is_parquet(out):
        _pyarrow()
    if not out.exists():
        return
    if out.is_dir():
        raise ValueError(f"{out} is a folder; --out names a file")
    with out.open("rb") as file:
        head = file.read(_LONGEST_HEADER)
    if head.startswith(_OLD_HEADER):
        raise ValueError(
            f"{out} was begun by an earlier version, whose rows don't say which videos and checkpoint they were computed "
            "from, so they can't be gone on with; choose another --out, or move it away"
        )
    names = head.partition(b"\r\n")[0].decode(errors="replace").split(",")
    if head.startswith(b"PAR1"):
        names = _parquet_columns(out)
    if head and names != [name for name in COLUMNS if name in names or name not in LATER]:
        raise ValueError(f"{out} exists and was not written by this command; choose another --out")


def write_rows(out: Path, rows: Iterable[Row]) -> None:
    """Write all rows, atomically; missing cells are empty (null in a Parquet).

    Raises:
        OSError: the file can't be written.
    """
    work = out.with_name(f".{out.name}.{os.getpid()}.part")
    try:
        (_write_parquet if _is_parquet(out) else _write_csv)(work, rows)
        with work.open("rb") as file:
            os.fsync(file.fileno())
        work.replace(out)
    finally:
        work.unlink(missing_ok=True)


def _write_csv(path: Path, rows: Iterable[Row]) -> None:
    with path.open("w", encoding="utf-8", errors="replace", newline="") as file:
        writer = csv.DictWriter(file, list(COLUMNS))
        writer.writeheader()
        writer.writerows(rows)


def _write_parquet(path: Path, rows: Iterable[Row]) -> None:
    pyarrow = _pyarrow()
    schema = pyarrow.schema([(name, getattr(pyarrow, kind)()) for name, kind in COLUMNS.items()])
    with pyarrow.parquet.ParquetWriter(path, schema) as writer:
        for some in _pieces(rows):
            columns = {name: [_stored(row.get(name)) for row in some] for name in COLUMNS}
            writer.write_table(pyarrow.table(columns, schema=schema))


def _pieces(rows: Iterable[Row]) -> Iterator[list[Row]]:
    walk = iter(rows)
    while some := list(islice(walk, _ROWS_AT_ONCE)):
        yield some


def _stored(value: Any) -> Any:
    return value.encode("utf-8", errors="replace").decode() if isinstance(value, str) else value


def _is_parquet(out: Path) -> bool:
    return out.suffix.lower() in (".parquet", ".pq")


def _parquet_columns(out: Path) -> list[str]:
    pyarrow = _pyarrow()
    try:
        return list(pyarrow.parquet.ParquetFile(out).schema_arrow.names)
    except (pyarrow.ArrowException, OSError, ValueError):
        return []


def _pyarrow() -> Any:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise ValueError("a Parquet needs pyarrow: pip install pyarrow, or choose an --out that ends in .csv") from error
    return pyarrow
