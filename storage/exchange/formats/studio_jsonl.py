"""The studio's records as JSON Lines; see `storage.exchange.formats.studio_records`. Nothing is lost in it.

{"video_a": "videos/3f79c0ffee00aa11.mp4", "video_b": "videos/...", "prompt": "A red circle bounces.", ...,
 "annotator": "anna", "kind": "work", "action": "label", "choice": "A", "strength": "clearly", ...}
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from storage.exchange.format_reader import FormatReader
from storage.exchange.format_writer import WriteReport, text_file
from storage.exchange.formats.studio_records import read_records, records

if TYPE_CHECKING:
    from storage.exchange.parsed import ParsedFile, ParsedPair

FILE = "labels.jsonl"


def read(path: Path, videos: Path | None = None) -> ParsedFile:
    """Read such a file; `videos` is the folder that paths start from, by default the file's.

    Raises:
        ExchangeError: the file can't be opened.
    """
    reading = FormatReader(path, videos)
    read_records(reading, reading.json_lines())
    return reading.parsed()


def write(pairs: Iterable[ParsedPair], folder: Path) -> WriteReport:
    """Write `labels.jsonl`.

    Raises:
        ExchangeError: the folder can't be written.
    """
    written = WriteReport([FILE])
    with text_file(folder / FILE) as file:
        for pair in pairs:
            for record in records(pair):
                file.write(json.dumps(record, ensure_ascii=False, default=_moment_text) + "\n")
                written.rows += 1
    return written


def _moment_text(value: object) -> str:
    if isinstance(value, datetime):
        return value.isoformat()
    raise TypeError(f"{value!r} is not JSON")
