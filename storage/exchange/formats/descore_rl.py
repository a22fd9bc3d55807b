"""The CSV of DeScore's dual-objective RL: pairs with the true sub-scores of both videos and the comparison.

    videos,problem,prompt,answer
    "['a.mp4', 'b.mp4']","Judge the video ...","A red circle bounces.","<answer>{""video_1_scores"": {""subject"": ""2"",
      ...}, ""video_2_scores"": {...}, ""gsb_result"": ""Video 1 is better""}</answer>"

Without a column `prompt` the column `problem` is the prompt; what is written has both. "Both bad" is written as "Same".
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from descore.answer import DIMENSIONS
from storage.exchange.format_reader import FormatReader, PairColumns
from storage.exchange.format_writer import WriteReport, common_cells, labelled, used_columns, write_table
from storage.exchange.formats.descore_csv import PROBLEM, two_clips, video_cells, with_instruction
from storage.exchange.parsed import ParsedAssignment, ParsedFile, ParsedLabel, ParsedPair, known_sub_scores
from storage.foreign_json import read_json

if TYPE_CHECKING:
    from storage.schema import Choice

FILE = "rl.csv"
REQUIRED = ("videos", "problem", "answer")
_WRITE: dict[Choice | None, str] = {
    "A": "Video 1 is better",
    "B": "Video 2 is better",
    "tie": "Same",
    "both_bad": "Same",
}
_OWN = (*REQUIRED, "prompt")
_USED = (*_OWN, "A_model", "B_model", "annotator")
_TAGGED = re.compile(r"\s*<answer>(?P<json>.*)</answer>\s*", re.DOTALL)
_WORDS: tuple[tuple[re.Pattern[str], Choice], ...] = (
    (re.compile(r"(video 1 is (\w+ )*better\b.*|A|1)", re.IGNORECASE), "A"),
    (re.compile(r"(video 2 is (\w+ )*better\b.*|B|2)", re.IGNORECASE), "B"),
    (re.compile(r".*\b(same|ties?|tied|equal|equally|similar|no difference)\b.*", re.IGNORECASE), "tie"),
)
_COLUMNS = PairColumns("videos", "videos", "A_model", "B_model", _USED, "answer")


def read(path: Path, videos: Path | None = None) -> ParsedFile:
    """Read such a table; `videos` is the folder that paths start from, by default the table's.

    Raises:
        ExchangeError: the file can't be opened.
    """
    reading = FormatReader(path, videos)
    for row in reading.table(REQUIRED):
        prompt = "prompt" if "prompt" in row.cells else PROBLEM
        pair = reading.pair(row, _COLUMNS, clips=two_clips(reading, row), prompt=prompt)
        label: ParsedLabel | None = None
        try:
            label = _label(row.text("answer"))
        except ValueError as error:
            reading.problem(row.line, f"answer: {error}")
        reading.add_labelled(row, with_instruction(pair, row), label)
    return reading.parsed()


def _label(text: str) -> ParsedLabel:
    """Parse the label inside of an answer.

    Raises:
        ValueError: a part is missing or not readable.
    """
    tagged = _TAGGED.fullmatch(text)
    try:
        fields = read_json(tagged["json"] if tagged else text)
    except ValueError as error:
        raise ValueError(f"inside of <answer>...</answer>: {error}") from None
    required = ("video_1_scores", "video_2_scores", "gsb_result")
    missing = [name for name in required if not isinstance(fields, dict) or name not in fields]
    if missing:
        raise ValueError(f"lacks {', '.join(missing)}")
    scores = known_sub_scores({"A": fields["video_1_scores"], "B": fields["video_2_scores"]})
    return ParsedLabel(choice=_choice(fields["gsb_result"]), sub_scores=scores)


def _choice(words: Any) -> Choice:
    for pattern, choice in _WORDS:
        if isinstance(words, str) and pattern.fullmatch(words.strip()):
            return choice
    raise ValueError(f"gsb_result is {words!r}; expected Video 1 is better, Video 2 is better or Same")


def write(pairs: Iterable[ParsedPair], folder: Path) -> WriteReport:
    """Write `rl.csv` with a row for each label that has sub-scores.

    Raises:
        ExchangeError: the folder can't be written.
    """
    written = WriteReport([FILE])
    common, further = used_columns(pairs, _OWN)
    columns = ("videos", PROBLEM, "prompt", "answer", *common, *further)
    written.rows = write_table(folder / FILE, columns, _rows(pairs, written))
    return written


def _rows(pairs: Iterable[ParsedPair], written: WriteReport) -> Iterator[dict[str, str]]:
    for pair, assignment, label in labelled(pairs, written):
        if not label.sub_scores:
            written.left_out["labels without sub-scores"] += 1
            continue
        if label.choice == "both_bad":
            written.left_out['"both bad" labels, written as "Same"'] += 1
        yield _cells(pair, assignment, label)


def _cells(pair: ParsedPair, assignment: ParsedAssignment, label: ParsedLabel) -> dict[str, str]:
    answer = {
        "video_1_scores": _in_order(label, "A"),
        "video_2_scores": _in_order(label, "B"),
        "gsb_result": _WRITE[label.choice],
    }
    text = f"<answer>{json.dumps(answer, ensure_ascii=False)}</answer>"
    return {**common_cells(pair, assignment), **video_cells(pair), "answer": text}


def _in_order(label: ParsedLabel, side: str) -> dict[str, str]:
    cells = label.sub_scores.get(side, {})
    return {name: cells[name] for name in DIMENSIONS if name in cells}
