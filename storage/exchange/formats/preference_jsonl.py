"""Preference JSON Lines, as DPO trainers read them.

    {"prompt": "A red circle bounces.", "chosen": "a.mp4", "rejected": "b.mp4"}

Ties can't be said in it and are left out. What is written here has further keys, which trainers overlook: `chosen_side`
says which of the two was A, so that the pair comes back as it was. Without that key the content decides which is A: else
A would be better in every pair. Any other key is kept with the pair and given back.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from storage.exchange.format_reader import FormatReader, PairColumns
from storage.exchange.format_writer import WriteReport, labelled, text_file
from storage.exchange.parsed import ParsedAssignment, ParsedFile, ParsedLabel, ParsedPair, flipped

if TYPE_CHECKING:
    from storage.schema import Side

FILE = "preferences.jsonl"
REQUIRED = ("prompt", "chosen", "rejected")
_SIDES: dict[str, Side] = {"A": "A", "B": "B"}
_USED = (*REQUIRED, "chosen_side", "chosen_model", "rejected_model", "annotator")
_COLUMNS = PairColumns("chosen", "rejected", "chosen_model", "rejected_model", _USED, "chosen")


def read(path: Path, videos: Path | None = None) -> ParsedFile:
    """Read such a file; `videos` is the folder that paths start from, by default the file's.

    Raises:
        ExchangeError: the file can't be opened.
    """
    reading = FormatReader(path, videos)
    for row in reading.json_lines(REQUIRED):
        pair, side = reading.pair(row, _COLUMNS), reading.one_of(row, "chosen_side", _SIDES)
        if pair is not None:
            assignments = reading.assignment(row, ParsedLabel(choice="A"))
            pair = replace(pair, assignments=assignments, ordered=side is not None)
            reading.add(flipped(pair) if side == "B" else pair)
    return reading.parsed()


def write(pairs: Iterable[ParsedPair], folder: Path) -> WriteReport:
    """Write `preferences.jsonl` with an object for each label that prefers one video.

    Raises:
        ExchangeError: the folder can't be written.
    """
    written = WriteReport([FILE])
    with text_file(folder / FILE) as file:
        for item in _items(pairs, written):
            file.write(json.dumps(item, ensure_ascii=False) + "\n")
            written.rows += 1
    return written


def _items(pairs: Iterable[ParsedPair], written: WriteReport) -> Iterator[dict[str, Any]]:
    for pair, assignment, label in labelled(pairs, written):
        if label.choice not in ("A", "B"):
            written.left_out["labels that prefer neither video"] += 1
        else:
            yield _item(pair if label.choice == "A" else flipped(pair), assignment, label.choice)


def _item(pair: ParsedPair, assignment: ParsedAssignment, side: str) -> dict[str, Any]:
    """Make the object of a pair whose A was chosen; `side` is what that video is called in the store."""
    item: dict[str, Any] = {"prompt": pair.prompt, "chosen": pair.a.name, "rejected": pair.b.name, "chosen_side": side}
    optional = {
        "chosen_model": pair.generator_a,
        "rejected_model": pair.generator_b,
        "annotator": assignment.annotator,
    }
    item |= {name: value for name, value in optional.items() if value is not None}
    return item | {name: pair.extra_columns[name] for name in sorted(pair.extra_columns) if name not in _USED}
