"""The pair CSV of VideoAlign and VideoGen-RewardBench.

    path_A,path_B,A_model,B_model,prompt,VQ,MQ,TA,Overall,fps_A,num_frames_A,fps_B,num_frames_B
    a.mp4,b.mp4,sora,kling,"A red circle bounces.",A,same,B,B,24.0,72.0,24.0,72.0

TA, text alignment, is the label (A, B or same). Visual quality (VQ), motion quality (MQ), Overall, frame rates and any
other column are kept with the pair and given back. "Both bad" is written as "same": this format can't tell them apart.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from storage.exchange.format_reader import FormatReader, PairColumns
from storage.exchange.format_writer import WriteReport, common_cells, labelled, used_columns, write_table
from storage.exchange.parsed import ParsedAssignment, ParsedFile, ParsedLabel, ParsedPair

if TYPE_CHECKING:
    from storage.schema import Choice

FILE = "pairs.csv"
REQUIRED = ("path_A", "path_B", "prompt")
QUALITIES = ("TA", "VQ", "MQ", "Overall")
READ: dict[str, Choice] = {"A": "A", "B": "B", "same": "tie"}
WRITE: dict[Choice | None, str] = {"A": "A", "B": "B", "tie": "same", "both_bad": "same"}
_FRAMES = ("fps_A", "num_frames_A", "fps_B", "num_frames_B")
_USED = (*REQUIRED, "A_model", "B_model", "TA", "annotator")
_COLUMNS = PairColumns("path_A", "path_B", "A_model", "B_model", _USED, "TA")


def read(path: Path, videos: Path | None = None) -> ParsedFile:
    """Read such a table; `videos` is the folder that paths start from, by default the table's.

    Raises:
        ExchangeError: the file can't be opened.
    """
    reading = FormatReader(path, videos)
    for row in reading.table(REQUIRED, one_of=QUALITIES):
        pair, choice = reading.pair(row, _COLUMNS), reading.one_of(row, "TA", READ)
        reading.add_labelled(row, pair, None if choice is None else ParsedLabel(choice=choice))
    return reading.parsed()


def write(pairs: Iterable[ParsedPair], folder: Path) -> WriteReport:
    """Write `pairs.csv` with a row for each label.

    Raises:
        ExchangeError: the folder can't be written.
    """
    written = WriteReport([FILE])
    common, extra = used_columns(pairs, _USED)
    generators = tuple(name for name in common if name != "annotator")
    columns = (
        *("path_A", "path_B", *generators, "prompt"),
        *(name for name in ("VQ", "MQ") if name in extra),
        "TA",
        *(("Overall",) if "Overall" in extra else ()),
        *_FRAMES,
        *(name for name in common if name == "annotator"),
        *(name for name in extra if name not in (*_FRAMES, *QUALITIES)),
    )
    written.rows = write_table(folder / FILE, columns, _rows(pairs, written))
    return written


def _rows(pairs: Iterable[ParsedPair], written: WriteReport) -> Iterator[dict[str, str]]:
    for pair, assignment, label in labelled(pairs, written):
        if label.choice == "both_bad":
            written.left_out['"both bad" labels, written as "same"'] += 1
        yield _cells(pair, assignment, label)


def _cells(pair: ParsedPair, assignment: ParsedAssignment, label: ParsedLabel) -> dict[str, str]:
    measured = {"fps_A": pair.a.fps, "num_frames_A": pair.a.frames, "fps_B": pair.b.fps, "num_frames_B": pair.b.frames}
    return {
        **{name: str(value) for name, value in measured.items() if value is not None},
        **common_cells(pair, assignment),
        "path_A": pair.a.name,
        "path_B": pair.b.name,
        "prompt": pair.prompt,
        "TA": WRITE[label.choice],
    }
