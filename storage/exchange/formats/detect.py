"""The formats by name, and which one a file or folder has."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from types import MappingProxyType

from descore.errors import TableError
from descore.tables.csv_records import csv_records
from descore.tables.text_encoding import decode
from storage.exchange.format_writer import WriteReport
from storage.exchange.formats import (
    descore_cold_start,
    descore_rl,
    folder,
    genai_bench,
    hf_dataset,
    plain_csv,
    preference_jsonl,
    studio_jsonl,
    studio_parquet,
    videoalign,
)
from storage.exchange.parsed import ExchangeError, ParsedFile, ParsedPair
from storage.foreign_json import read_json

Read = Callable[[Path, Path | None], ParsedFile]
Write = Callable[[Iterable[ParsedPair], Path], WriteReport]

_READERS: MappingProxyType[str, Read] = MappingProxyType(
    {
        "videoalign": videoalign.read,
        "genai-bench": genai_bench.read,
        "descore-cold-start": descore_cold_start.read,
        "descore-rl": descore_rl.read,
        "csv": plain_csv.read,
        "preference-jsonl": preference_jsonl.read,
        "parquet": studio_parquet.read,
        "studio-jsonl": studio_jsonl.read,
        "hf-dataset": hf_dataset.read,
        "folder": folder.read,
    }
)
_WRITERS: MappingProxyType[str, Write] = MappingProxyType(
    {
        "videoalign": videoalign.write,
        "genai-bench": genai_bench.write,
        "descore-cold-start": descore_cold_start.write,
        "descore-rl": descore_rl.write,
        "csv": plain_csv.write,
        "preference-jsonl": preference_jsonl.write,
        "parquet": studio_parquet.write,
        "studio-jsonl": studio_jsonl.write,
        "hf-dataset": hf_dataset.write,
    }
)
FORMATS = tuple(_READERS)
EXPORTS = tuple(_WRITERS)
# Formats for other programs, which nothing here reads. Every other export imports again to the same thing; tests keep that.
EXPORT_ONLY: tuple[str, ...] = ()
ROUND_TRIP = tuple(name for name in EXPORTS if name not in EXPORT_ONLY)
# These keep every revision and who made it; the others hold the labels in force.
COMPLETE = ("parquet", "studio-jsonl", "hf-dataset")
_HEAD = 1 << 20  # bytes of a file that its format is guessed from


def read_file(path: Path, format: str | None = None, videos: Path | None = None) -> tuple[str, ParsedFile]:
    """Read a file or folder; returns the name of its format too.

    Raises:
        ExchangeError: it can't be opened, or it has no format that is known.
    """
    if not path.exists():
        raise ExchangeError(f"there is no file or folder {path.name}")
    name = format or detect_format(path)
    if name not in _READERS:
        raise ExchangeError(f"unknown format {name!r}; known are {', '.join(FORMATS)}")
    return name, _READERS[name](path, videos)


def write_folder(pairs: Iterable[ParsedPair], format: str, target: Path) -> WriteReport:
    """Write pairs that can be walked through more than once.

    Raises:
        ExchangeError: unknown format, or the folder can't be written.
    """
    if format not in _WRITERS:
        raise ExchangeError(f"can't export as {format!r}; known are {', '.join(EXPORTS)}")
    return _WRITERS[format](pairs, target)


def detect_format(path: Path) -> str:
    """Which format a file has, by its header, or a folder, by what lies in it.

    Raises:
        ExchangeError: none that is known, or the file can't be opened.
    """
    if path.is_dir():
        return "hf-dataset" if hf_dataset.looks_like_one(path) else "folder"
    try:
        with path.open("rb") as file:
            head = file.read(_HEAD)
    except OSError as error:
        raise ExchangeError(f"can't read {path.name}: {error.strerror or error}") from error
    if head.startswith(b"PAR1"):
        return "parquet"
    try:
        text = decode(head, path.name).text
    except TableError:  # also where the head ends inside of a letter
        text = head.decode("utf-8-sig", errors="replace")
    if text.lstrip().startswith("["):
        return "genai-bench"
    if text.lstrip().startswith("{"):
        return _json_lines_format(text)
    return _table_format(path, text)


def _json_lines_format(text: str) -> str:
    first = next(line for line in text.split("\n") if line.strip())
    try:
        keys = set(read_json(first))
    except ValueError:
        keys = {"chosen"} if '"chosen"' in first else set()
    return "preference-jsonl" if {"chosen", "rejected"} & keys else "studio-jsonl"


def _table_format(path: Path, text: str) -> str:
    try:
        _, records = csv_records(text, path.name)
        columns = {column.strip() for column in next(records, (0, []))[1]}
    except TableError:
        columns = set()
    if "videos" in columns:
        return "descore-rl" if "answer" in columns else "descore-cold-start"
    if {"path_A", "path_B"} & columns:
        return "videoalign" if set(videoalign.QUALITIES) & columns else "csv"
    if {"video_a", "video_b"} & columns:
        return "csv"
    expected = "path_A, path_B, prompt, TA (VideoAlign); videos, ... (DeScore); or video_a, video_b, prompt"
    raise ExchangeError(f"{path.name} has no format that is known: a table needs the columns {expected}")
