"""The studio's records as Parquet; see `storage.exchange.formats.studio_records`. Nothing is lost in it.

`facts`, `gold` and `playback` are JSON texts, since their keys differ from file to file; everything else has a type of its
own. `created_at` is a timestamp in UTC with microseconds.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from descore.answer import DIMENSIONS
from descore.tables.read_table import TableRow
from storage.exchange.format_reader import FormatReader
from storage.exchange.format_writer import WriteReport, json_text, replacing
from storage.exchange.formats.studio_records import REQUIRED, read_records, records

if TYPE_CHECKING:
    from storage.exchange.parsed import ParsedFile, ParsedPair

FILE = "labels.parquet"
_JSON = ("facts", "gold", "playback")
_ROWS = 10_000
_CELLS = pa.struct([(name, pa.string()) for name in DIMENSIONS])
SCHEMA = pa.schema(
    [
        *((name, pa.string()) for name in ("video_a", "video_b", "prompt", "video_a_sha256", "video_b_sha256")),
        *((name, pa.string()) for name in ("generator_a", "generator_b", "facts", "campaign", "annotator", "kind")),
        ("round", pa.int32()),
        ("gold", pa.string()),
        ("pair_state", pa.string()),
        ("revision", pa.int32()),
        *((name, pa.string()) for name in ("action", "choice", "strength")),
        ("sub_scores", pa.struct([("A", _CELLS), ("B", _CELLS)])),
        ("marks", pa.list_(pa.struct([("video", pa.string()), ("time", pa.float64())]))),
        *((name, pa.string()) for name in ("note", "reason", "left_video")),
        ("visible", pa.list_(pa.string())),
        ("guideline_version", pa.int32()),
        ("seconds", pa.float64()),
        ("playback", pa.string()),
        ("created_at", pa.timestamp("us", tz="UTC")),
        ("token", pa.string()),
    ]
)


def read(path: Path, videos: Path | None = None) -> ParsedFile:
    """Read such a file; `videos` is the folder that paths start from, by default the file's.

    Raises:
        ExchangeError: the file can't be opened.
    """
    reading = FormatReader(path, videos)
    read_records(reading, parquet_rows(reading))
    return reading.parsed()


def column_names(path: Path) -> tuple[str, ...]:
    """Return the names of a Parquet's columns; () where it can't be read."""
    try:
        return tuple(pq.read_schema(path).names)
    except (pa.ArrowException, OSError, ValueError, OverflowError, MemoryError):
        return ()


def parquet_rows(reading: FormatReader, required: Sequence[str] = REQUIRED) -> Iterator[TableRow]:
    """Yield the rows of a Parquet file that has the required columns, counted from 1 as its lines."""
    line = 0
    try:
        with pq.ParquetFile(reading.path) as file:
            missing = [name for name in required if name not in file.schema_arrow.names]
            if missing:
                has = ", ".join(file.schema_arrow.names)
                reading.problem(None, f"lacks the columns {', '.join(missing)}; it has {has}")
                return
            for batch in file.iter_batches(batch_size=_ROWS):
                for cells in batch.to_pylist():
                    line += 1
                    yield TableRow(line, cells)
    # Damaged bytes can also give times outside of every year, text that is not UTF-8, and sizes beyond all memory.
    except (pa.ArrowException, OSError, ValueError, OverflowError, MemoryError) as error:
        reading.problem(line or None, f"not a Parquet file that can be read: {error or type(error).__name__}")


def write(pairs: Iterable[ParsedPair], folder: Path) -> WriteReport:
    """Write `labels.parquet`.

    Raises:
        ExchangeError: the folder can't be written.
    """
    return write_parquet(pairs, folder, FILE)


def write_parquet(pairs: Iterable[ParsedPair], folder: Path, file: str) -> WriteReport:
    """`write` under another name.

    Raises:
        ExchangeError: the folder can't be written.
    """
    written = WriteReport([file])
    cells = (_cells(record) for pair in pairs for record in records(pair))
    with replacing(folder / file) as temporary, pq.ParquetWriter(temporary, SCHEMA, compression="zstd") as writer:
        while batch := list(islice(cells, _ROWS)):
            writer.write_table(pa.Table.from_pylist(batch, schema=SCHEMA))
            written.rows += len(batch)
    return written


def _cells(record: dict[str, Any]) -> dict[str, Any]:
    return record | {name: json_text(record[name]) for name in _JSON if name in record}
