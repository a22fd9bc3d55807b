"""A Hugging Face dataset folder: a card, the studio's records as Parquet, and the videos if they were copied.

    README.md                             the card, with the YAML that `datasets.load_dataset` and the Hub read
    data/train-00000-of-00001.parquet     see `storage.exchange.formats.studio_records`
    videos/3f79c0ffee00aa11.mp4           named by content

Such a folder is read from `data/*.parquet`, or from `data/*.jsonl` where there is no Parquet.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from descore.answer import DIMENSIONS
from storage.exchange.column_use import together
from storage.exchange.format_reader import FormatReader
from storage.exchange.format_writer import WriteReport, current_labels, text_file
from storage.exchange.formats.studio_parquet import parquet_rows, write_parquet
from storage.exchange.formats.studio_records import read_records
from storage.exchange.parsed import ExchangeError, ParsedFile, ParsedPair

CARD = "README.md"
TABLE = "data/train-00000-of-00001.parquet"
_SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"))
_CARD = """\
---
pretty_name: Preferences over pairs of generated videos
task_categories:
- video-classification
tags:
- preference
- reward-model
- video-generation
- human-feedback
size_categories:
- {size}
configs:
- config_name: default
  data_files:
  - split: train
    path: data/*.parquet
---

# Preferences over pairs of generated videos

{rows} records: {pairs} pairs of videos made from one prompt each, {labels} labels in force by {annotators} annotators.
Overall preferences: {choices}.

Each row of `{table}` is one revision of a label, or a pair without one. `choice` (A, B, tie, both_bad)
with `strength` is the overall preference; `sub_scores` holds, for each video, how it matches the prompt in {dimensions}:
2 matches, 1 in part, 0 fails, N/A not asked for. `left_video` says which one stood left. `revision` counts corrections; the
highest is in force. `kind` tells ordinary work from planned repeats, gold questions and adjudications. An empty `annotator`
is the common answer, or a source that names nobody. Paths are relative to this folder; a file is named by the first 16
digits of its sha256.

No licence is set: add one to the front matter before the folder is published.
"""


def looks_like_one(folder: Path) -> bool:
    """Whether the folder holds a table where a dataset has it."""
    return bool(_tables(folder))


def _tables(folder: Path) -> list[Path]:
    return sorted(folder.glob("data/*.parquet")) or sorted(folder.glob("data/*.jsonl"))


def read(path: Path, videos: Path | None = None) -> ParsedFile:
    """Read such a folder; `videos` is the folder that paths start from, by default the dataset's.

    Raises:
        ExchangeError: no such folder, or no table in it.
    """
    tables = _tables(path)
    if not tables:
        raise ExchangeError(f"{path.name} holds neither data/*.parquet nor data/*.jsonl")
    parts = [_read_table(table, path, videos) for table in tables]
    return parts[0] if len(parts) == 1 else _together(path.name, parts)


def _read_table(table: Path, folder: Path, videos: Path | None) -> ParsedFile:
    reading = FormatReader(table, videos, name=f"{folder.name}/{table.relative_to(folder).as_posix()}", folder=folder)
    read_records(reading, parquet_rows(reading) if table.suffix == ".parquet" else reading.json_lines())
    return reading.parsed()


def _together(name: str, parts: list[ParsedFile]) -> ParsedFile:
    return ParsedFile(
        file=name,
        pairs=tuple(pair for part in parts for pair in part.pairs),
        problems=tuple(problem for part in parts for problem in part.problems),
        notes=tuple(note for part in parts for note in part.notes),
        columns=together([part.columns for part in parts]),
    )


def write(pairs: Iterable[ParsedPair], folder: Path) -> WriteReport:
    """Write the card and the table.

    Raises:
        ExchangeError: the folder can't be written.
    """
    written = write_parquet(pairs, folder, TABLE)
    with text_file(folder / CARD) as file:
        file.write(_card(pairs, written.rows))
    written.files.append(CARD)
    return written


def _card(pairs: Iterable[ParsedPair], rows: int) -> str:
    count, choices, people = 0, Counter[str](), set[str | None]()
    for pair in pairs:
        count += 1
        for assignment, label in current_labels(pair):
            choices[str(label.choice)] += 1
            people.add(assignment.annotator)
    size = next((name for limit, name in _SIZES if rows < limit), "n>1M")
    return _CARD.format(
        size=size,
        rows=rows,
        pairs=count,
        labels=sum(choices.values()),
        annotators=len(people),
        choices=", ".join(f"{name} {number}" for name, number in sorted(choices.items())) or "none",
        table=TABLE,
        dimensions=", ".join(DIMENSIONS),
    )
