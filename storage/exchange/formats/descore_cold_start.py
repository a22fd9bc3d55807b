"""The CSV of DeScore's cold start: pairs with a chain of thought for each video and a human comparison.

    videos,problem,prompt,CoT_A,CoT_B,GSB
    "['a.mp4', 'b.mp4']","Judge the video ...","A red circle bounces.","<think>...","<think>...",A

GSB (good, same, bad) is A, B, same or invalid; an invalid pair comes in without a label. "Both bad" is written as "same".
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from storage.exchange.format_reader import FormatReader, Row, other_columns
from storage.exchange.format_writer import WriteReport, common_cells, current_labels, used_columns, write_table
from storage.exchange.formats.descore_csv import PROBLEM, instruction_column, two_clips, video_cells
from storage.exchange.formats.videoalign import READ, WRITE
from storage.exchange.parsed import ParsedAssignment, ParsedFile, ParsedLabel, ParsedPair

FILE = "cold_start.csv"
REQUIRED = ("videos", "prompt", "CoT_A", "CoT_B", "GSB")
INVALID = "invalid"
_OWN = (*REQUIRED, PROBLEM)
_USED = (*_OWN, "A_model", "B_model", "annotator")


def read(path: Path, videos: Path | None = None) -> ParsedFile:
    """Read such a table; `videos` is the folder that paths start from, by default the table's.

    Raises:
        ExchangeError: the file can't be opened.
    """
    reading = FormatReader(path, videos)
    for row in reading.table(REQUIRED):
        _read_row(reading, row)
    return reading.parsed()


def _read_row(reading: FormatReader, row: Row) -> None:
    clips, prompt = two_clips(reading, row), reading.prompt(row)
    choice = reading.one_of(row, "GSB", {**READ, INVALID: None})
    extra_columns = other_columns(row, _USED) | instruction_column(row, prompt)
    if row.text("GSB") == INVALID:
        reading.note(row.line, "GSB is invalid: the pair comes in without a label")
        extra_columns["GSB"] = INVALID
    if clips is None:
        return
    pair = ParsedPair(
        line=row.line,
        a=clips[0],
        b=clips[1],
        prompt=prompt,
        generator_a=row.text("A_model") or None,
        generator_b=row.text("B_model") or None,
        extra_columns=extra_columns,
        assignments=reading.assignment(row, None if choice is None else ParsedLabel(choice)),
        thought_a=row.text("CoT_A"),
        thought_b=row.text("CoT_B"),
    )
    reading.add(pair)


def write(pairs: Iterable[ParsedPair], folder: Path) -> WriteReport:
    """Write `cold_start.csv` with a row for each label, and for each pair that came in as invalid and has none.

    Raises:
        ExchangeError: the folder can't be written.
    """
    written = WriteReport([FILE])
    common, further = used_columns(pairs, _OWN)
    columns = ("videos", PROBLEM, "prompt", "CoT_A", "CoT_B", "GSB", *common, *further)
    written.rows = write_table(folder / FILE, columns, _rows(pairs, written))
    return written


def _rows(pairs: Iterable[ParsedPair], written: WriteReport) -> Iterator[dict[str, str]]:
    for pair in pairs:
        found = list(current_labels(pair))
        for assignment, label in found:
            if label.choice == "both_bad":
                written.left_out['"both bad" labels, written as "same"'] += 1
            yield _cells(pair, assignment, WRITE[label.choice])
        if not found and pair.extra_columns.get("GSB") == INVALID:
            yield _cells(pair, None, INVALID)
        elif not found:
            written.left_out["pairs without a label"] += 1


def _cells(pair: ParsedPair, assignment: ParsedAssignment | None, word: str) -> dict[str, str]:
    thoughts = {"CoT_A": pair.thought_a, "CoT_B": pair.thought_b}
    return {**common_cells(pair, assignment), **video_cells(pair), **thoughts, "GSB": word}
