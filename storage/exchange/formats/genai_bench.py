"""The JSON of GenAI-Bench's video part: one array of objects.

    [{"prompt": "A red circle bounces.", "left_model": "sora", "right_model": "kling",
      "left_video": "a.mp4", "right_video": "b.mp4", "vote_type": "leftvote"}]

vote_type is leftvote, rightvote, tievote or bothbad_vote. The left video becomes A. Any other key is kept with the pair
and given back.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from storage.exchange.format_reader import FormatReader, PairColumns
from storage.exchange.format_writer import WriteReport, labelled, text_file
from storage.exchange.parsed import ParsedAssignment, ParsedFile, ParsedLabel, ParsedPair

if TYPE_CHECKING:
    from storage.schema import Choice

FILE = "pairs.json"
REQUIRED = ("prompt", "left_video", "right_video", "vote_type")
READ: dict[str, Choice] = {"leftvote": "A", "rightvote": "B", "tievote": "tie", "bothbad_vote": "both_bad"}
_WRITE: dict[Choice | None, str] = {choice: word for word, choice in READ.items()}
_USED = (*REQUIRED, "left_model", "right_model", "annotator")
_COLUMNS = PairColumns("left_video", "right_video", "left_model", "right_model", _USED, "vote_type")


def read(path: Path, videos: Path | None = None) -> ParsedFile:
    """Read such a file; `videos` is the folder that paths start from, by default the file's.

    Raises:
        ExchangeError: the file can't be opened.
    """
    reading = FormatReader(path, videos)
    for row in reading.json_array(REQUIRED):
        pair, choice = reading.pair(row, _COLUMNS), reading.one_of(row, "vote_type", READ)
        reading.add_labelled(row, pair, None if choice is None else ParsedLabel(choice=choice))
    return reading.parsed()


def write(pairs: Iterable[ParsedPair], folder: Path) -> WriteReport:
    """Write `pairs.json` with an object for each label.

    Raises:
        ExchangeError: the folder can't be written.
    """
    written = WriteReport([FILE])
    with text_file(folder / FILE) as file:
        file.write("[")
        for item in _items(pairs, written):
            file.write((",\n " if written.rows else "\n ") + json.dumps(item, ensure_ascii=False))
            written.rows += 1
        file.write("\n]\n")
    return written


def _items(pairs: Iterable[ParsedPair], written: WriteReport) -> Iterator[dict[str, Any]]:
    for pair, assignment, label in labelled(pairs, written):
        yield _item(pair, assignment, label)


def _item(pair: ParsedPair, assignment: ParsedAssignment, label: ParsedLabel) -> dict[str, Any]:
    item: dict[str, Any] = {
        "prompt": pair.prompt,
        "left_model": pair.generator_a,
        "right_model": pair.generator_b,
        "left_video": pair.a.name,
        "right_video": pair.b.name,
        "vote_type": _WRITE[label.choice],
    }
    if assignment.annotator is not None:
        item["annotator"] = assignment.annotator
    return item | {name: pair.extra_columns[name] for name in sorted(pair.extra_columns) if name not in _USED}
