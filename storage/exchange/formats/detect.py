"""The formats by name, and which one a file or folder has."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

from storage.exchange.format_writer import WriteReport
from storage.exchange.formats import (
    any_table,
    descore_cold_start,
    descore_rl,
    folder,
    genai_bench,
    hf_dataset,
    plain_csv,
    preference_jsonl,
    studio_jsonl,
    studio_parquet,
    studio_records,
    videoalign,
)
from storage.exchange.formats.file_head import file_head
from storage.exchange.parsed import ExchangeError, ParsedFile, ParsedPair

Read = Callable[[Path, Path | None], ParsedFile]
Write = Callable[[Iterable[ParsedPair], Path], WriteReport]

_READERS: MappingProxyType[str, Read] = MappingProxyType(
    {
        "videoalign": videoalign.read,
        "genai-bench": genai_bench.read,
        "descore-cold-start": descore_cold_start.read,
        "descore-rl": descore_rl.read,
        "csv": plain_csv.read,
        "table": any_table.read,
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
TABLE = "table"
# Files in these formats are one table each, of which a caller may say which column is what.
MAPPABLE = (TABLE, "videoalign", "genai-bench", "csv", "preference-jsonl", "parquet", "studio-jsonl")
_FEWEST = 3  # columns of a table of pairs: two videos and a prompt


def read_file(
    path: Path,
    format: str | None = None,
    videos: Path | None = None,
    mapping: Mapping[str, str] | None = None,
    words: Mapping[str, int] | None = None,
) -> tuple[str, ParsedFile]:
    """Read a file or folder; returns the name of its format too.

    Args:
        path: of the file or folder.
        format: one of `FORMATS`; None: detected.
        videos: the folder that paths start from, by default the file's own.
        mapping: role to column, as `storage.exchange.formats.any_table.read` takes it; the file is read as a `table` then.
        words: meanings of further words in the column of labels, as there.

    Raises:
        ExchangeError: it can't be opened, has no format that is known, or is no table whose columns can be named.
    """
    if not path.exists():
        raise ExchangeError(f"there is no file or folder {path.name}")
    if mapping or words:
        if path.is_dir() or (format is not None and format not in MAPPABLE):
            what = f"the format {format}" if format else f"{path.name}, a folder"
            raise ExchangeError(f"columns and words can be given a meaning in a single table only, not in {what}")
        return TABLE, any_table.read(path, videos, mapping, words)
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
    head = file_head(path)
    if head.kind == "parquet":
        return "parquet" if _has(studio_parquet.column_names(path), studio_records.REQUIRED) else TABLE
    columns = set(head.columns(path.name))
    if head.kind == "json":
        return "genai-bench" if _has(columns, genai_bench.REQUIRED) else TABLE
    if head.kind == "json-lines":
        if {"chosen", "rejected"} & columns or (not columns and '"chosen"' in head.text.lstrip().split("\n", 1)[0]):
            return "preference-jsonl" if _has(columns, preference_jsonl.REQUIRED) else TABLE
        return "studio-jsonl" if _has(columns, studio_records.REQUIRED) else TABLE
    return _csv_format(path, columns)


def _has(columns: Collection[str], required: Sequence[str]) -> bool:
    """Whether a table has the columns of a format, or too few for any: that format's reader says what is missing then."""
    return len(columns) < _FEWEST or set(required) <= set(columns)


def _csv_format(path: Path, columns: set[str]) -> str:
    if "videos" in columns:
        return "descore-rl" if "answer" in columns else "descore-cold-start"
    if set(videoalign.REQUIRED) <= columns:
        return "videoalign" if set(videoalign.QUALITIES) & columns else "csv"
    if {"video_a", "video_b", "prompt"} <= columns:
        return "csv"
    if len(columns - {""}) >= _FEWEST:
        return TABLE
    expected = "path_A, path_B, prompt, TA (VideoAlign); videos, ... (DeScore); or video_a, video_b, prompt"
    raise ExchangeError(f"{path.name} has no format that is known: a table needs the columns {expected}")
