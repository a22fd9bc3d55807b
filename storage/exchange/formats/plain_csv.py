"""A plain CSV of pairs, with or without labels, for tables that come from nowhere in particular.

    video_a,video_b,prompt,A_model,B_model,label,strength,note,annotator,subject_A,subject_B
    a.mp4,b.mp4,"A red circle bounces.",sora,kling,A,clearly,,anna,2,1

Only the first three columns are needed (`path_A` and `path_B` do as well). label: A, B, tie or both_bad; strength: slightly
or clearly; sub-scores: 2, 1, 0 or N/A in columns named after dimension and video. Any other column is kept with the pair and
given back.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from descore.answer import DIMENSIONS
from storage.exchange.format_reader import FormatReader, PairColumns
from storage.exchange.format_writer import WriteReport, common_cells, current_labels, used_columns, write_table
from storage.exchange.parsed import CHOICES, ParsedAssignment, ParsedFile, ParsedLabel, ParsedPair, known_sub_scores

if TYPE_CHECKING:
    from descore.tables.read_table import TableRow
    from storage.schema import Choice, Strength

FILE = "pairs.csv"
NAMES = (("video_a", "video_b"), ("path_A", "path_B"))
_LABELS: dict[str, Choice] = {choice: choice for choice in CHOICES} | {"same": "tie"}
_STRENGTHS: dict[str, Strength] = {"slightly": "slightly", "clearly": "clearly"}
_CELLS = {f"{name}_{side}": (side, name) for name in DIMENSIONS for side in ("A", "B")}
OF_LABEL = ("strength", "note", *_CELLS)
_USED = (*NAMES[0], *NAMES[1], "prompt", "A_model", "B_model", "annotator", "label", *OF_LABEL)


def read(path: Path, videos: Path | None = None) -> ParsedFile:
    """Read such a table; `videos` is the folder that paths start from, by default the table's.

    Raises:
        ExchangeError: the file can't be opened.
    """
    reading = FormatReader(path, videos)
    for row in reading.table(("prompt",), one_of=[first for first, _ in NAMES]):
        first, second = NAMES[0] if NAMES[0][0] in row.cells else NAMES[1]
        pair = reading.pair(row, PairColumns(first, second, "A_model", "B_model", _USED, "label"))
        label = label_with_details(reading, row, reading.one_of(row, "label", _LABELS), "label")
        reading.add_labelled(row, pair, label)
    return reading.parsed()


def label_with_details(reading: FormatReader, row: TableRow, choice: Choice | None, column: str) -> ParsedLabel | None:
    """Make the label of a row with its strength, sub-scores and note; None and a problem where these can't be used.

    Args:
        choice: that the row makes, None for none.
        column: of the choice.
    """
    strength = reading.one_of(row, "strength", _STRENGTHS)
    scores: dict[str, dict[str, str]] = {"A": {}, "B": {}}
    for column, (side, name) in _CELLS.items():
        scores[side][name] = row.text(column)
    try:
        sub_scores = known_sub_scores(scores)
    except ValueError as error:
        reading.problem(row.line, str(error))
        return None
    if choice is None:
        if not row.text(column) and (strength or sub_scores or row.text("note")):
            reading.problem(row.line, "has a strength, sub-scores or a note, and no label")
        return None
    return ParsedLabel(choice=choice, strength=strength, sub_scores=sub_scores, note=row.text("note"))


def write(pairs: Iterable[ParsedPair], folder: Path) -> WriteReport:
    """Write `pairs.csv` with a row for each label, and for each pair without one.

    Raises:
        ExchangeError: the folder can't be written.
    """
    written = WriteReport([FILE])
    common, further = used_columns(pairs, _USED)
    labels = (label for pair in pairs for _, label in current_labels(pair))
    used = {"label"} | {name for label in labels for name, cell in _label_cells(label).items() if cell}
    of_label = tuple(name for name in ("label", *OF_LABEL) if name in used)
    columns = (*NAMES[0], "prompt", *common, *of_label, *further)
    written.rows = write_table(folder / FILE, columns, _rows(pairs))
    return written


def _rows(pairs: Iterable[ParsedPair]) -> Iterator[dict[str, str]]:
    for pair in pairs:
        labels = list(current_labels(pair))
        for assignment, label in labels:
            yield _cells(pair, assignment) | _label_cells(label)
        if not labels:
            yield _cells(pair, None)


def _cells(pair: ParsedPair, assignment: ParsedAssignment | None) -> dict[str, str]:
    cells = common_cells(pair, assignment)
    return {**cells, "video_a": pair.a.name, "video_b": pair.b.name, "prompt": pair.prompt}


def _label_cells(label: ParsedLabel) -> dict[str, str]:
    cells = {"label": label.choice or "", "strength": label.strength or "", "note": label.note}
    return cells | {column: label.sub_scores.get(side, {}).get(name, "") for column, (side, name) in _CELLS.items()}
