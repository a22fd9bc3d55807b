"""The CSV of DeScore's cold start: pairs with a chain of thought for each video and a human comparison.

    videos,problem,prompt,CoT_A,CoT_B,GSB
    "['a.mp4', 'b.mp4']","Judge the video ...","A red circle bounces.","<think>...","<think>...",A

GSB (good, same, bad) is A, B, same or invalid; an invalid pair comes in without a label. "Both bad" is written as "same".
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

from storage.exchange.format_reader import FormatReader, PairColumns
from storage.exchange.format_writer import WriteReport, common_cells, current_labels, used_columns, write_table
from storage.exchange.formats.descore_csv import PROBLEM, two_clips, video_cells, with_instruction
from storage.exchange.formats.videoalign import READ, WRITE
from storage.exchange.parsed import ParsedAssignment, ParsedFile, ParsedLabel, ParsedPair

FILE = "cold_start.csv"
REQUIRED = ("videos", "prompt", "CoT_A", "CoT_B", "GSB")
INVALID = "invalid"
_OWN = (*REQUIRED, PROBLEM)
_USED = (*_OWN, "A_model", "B_model", "annotator")
_COLUMNS = PairColumns("videos", "videos", "A_model", "B_model", _USED, "GSB")


def read(path: Path, videos: Path | None = None) -> ParsedFile:
    """Read such a table; `videos` is the folder that paths start from, by default the table's.

    Raises:
        ExchangeError: the file can't be opened.
    """
    reading = FormatReader(path, videos)
    for row in reading.table(REQUIRED):
        pair = reading.pair(row, _COLUMNS, clips=two_clips(reading, row))
        choice = reading.one_of(row, "GSB", {**READ, INVALID: None})
        is_invalid = row.text("GSB") == INVALID
        if is_invalid:
            reading.note(row.line, "GSB is invalid: the pair comes in without a label")
        pair = with_instruction(pair, row)
        if pair is not None:
            more = {"GSB": INVALID} if is_invalid else {}
            pair = replace(
                pair,
                extra_columns={**pair.extra_columns, **more},
                thought_a=row.text("CoT_A"),
                thought_b=row.text("CoT_B"),
            )
        reading.add_labelled(row, pair, None if choice is None else ParsedLabel(choice=choice))
    return reading.parsed()


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
        labels = list(current_labels(pair))
        for assignment, label in labels:
            if label.choice == "both_bad":
                written.left_out['"both bad" labels, written as "same"'] += 1
            yield _cells(pair, assignment, WRITE[label.choice])
        if not labels and pair.extra_columns.get("GSB") == INVALID:
            yield _cells(pair, None, INVALID)
        elif not labels:
            written.left_out["pairs without a label"] += 1


def _cells(pair: ParsedPair, assignment: ParsedAssignment | None, word: str) -> dict[str, str]:
    thoughts = {"CoT_A": pair.thought_a, "CoT_B": pair.thought_b}
    return {**common_cells(pair, assignment), **video_cells(pair), **thoughts, "GSB": word}
