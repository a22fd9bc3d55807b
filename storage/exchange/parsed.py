"""Pairs and labels of a file, whatever its format. Readers make these, writers take them.

ParsedFile(pairs, problems)
  ParsedPair           two clips, their prompt, generators, further columns, thoughts
    ParsedAssignment         one person at this pair in one campaign
      ParsedLabel      one revision, oldest first
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Any, get_args

from descore.answer import DIMENSIONS, SUB_SCORES
from storage.campaigns.label_schema import Answer
from storage.errors import StorageError
from storage.exchange.column_use import ColumnUse
from storage.schema import Choice, Kind, PairState, Side

CHOICES: tuple[Choice, ...] = get_args(Choice)
_LONGEST_MESSAGE = 1000  # characters


@dataclass(frozen=True)
class Problem:
    """A problem or note about a file.

    Attributes:
        line: the first line of the row, counted from 1; None for the whole file.
        message: one line, shortened and without control characters, since it may repeat a cell of megabytes or of escape
            sequences for the terminal that shows it.
    """

    file: str
    line: int | None
    message: str

    def __post_init__(self) -> None:
        shown = self.message[:_LONGEST_MESSAGE] + (" ..." if len(self.message) > _LONGEST_MESSAGE else "")
        if not shown.isprintable():
            shown = "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in shown)
        object.__setattr__(self, "message", shown)

    def __str__(self) -> str:
        return f"{self.file}: {self.message}" if self.line is None else f"{self.file}:{self.line}: {self.message}"


class ExchangeError(StorageError):
    """A file or folder that can't be read or written as a whole."""


class ImportRefusedError(ExchangeError):
    """Nothing was imported; `problems` lists every reason."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = tuple(problems)
        more = f" (and {len(self.problems) - 1} more problems)" if len(self.problems) > 1 else ""
        super().__init__(f"nothing was imported: {self.problems[0]}{more}")


@dataclass(frozen=True)
class Clip:
    """A video as a file names it.

    Attributes:
        name: as the file writes it.
        path: where the name leads on this machine; None where only the content's sha256 is known.
        fps, frames: frame rate and number of frames, on export only.
    """

    name: str
    path: Path | None = None
    sha256: str | None = None
    fps: float | None = None
    frames: int | None = None


@dataclass(frozen=True, kw_only=True)
class ParsedLabel(Answer):
    """One revision of a label in a file.

    Attributes:
        created_at: None where the file does not say when.
        token: the label's own token, by which it is known again; None where the format has none.
    """

    left_video: Side = "A"
    visible: tuple[str, ...] = ()
    guideline_version: int = 1
    created_at: datetime | None = None
    token: str | None = None


@dataclass(frozen=True)
class ParsedAssignment:
    """One person's labels on one pair.

    Attributes:
        labels: the revisions, oldest first, at least one.
        annotator: None where the file names nobody.
        campaign: None for the import's own.
        gold: the known answer of this pair in that campaign, if it is a gold pair.
        pair_state: whether the pair was flagged or dropped there.
        line: where it stands in the file, for messages.
    """

    labels: tuple[ParsedLabel, ...]
    annotator: str | None = None
    campaign: str | None = None
    kind: Kind = "import"
    round: int = 0
    gold: Mapping[str, Any] | None = None
    pair_state: PairState = "open"
    line: int | None = None


@dataclass(frozen=True)
class ParsedPair:
    """Two videos of one prompt, with what a file says of them.

    Attributes:
        line: where the pair stands in the file.
        extra_columns: further values of the pair, by the file's own column names.
        assignments: who labelled the pair, with their labels.
        ordered: False where the file has no first and second video; then the content decides, so that neither the better
            video nor one generator is always A.
    """

    line: int | None
    a: Clip
    b: Clip
    prompt: str
    generator_a: str | None = None
    generator_b: str | None = None
    extra_columns: Mapping[str, Any] = field(default_factory=dict)
    assignments: tuple[ParsedAssignment, ...] = ()
    thought_a: str = ""
    thought_b: str = ""
    ordered: bool = True


@dataclass(frozen=True)
class ParsedFile:
    """A file that was read.

    Attributes:
        file: its name, for messages.
        problems: why it can't be imported.
        notes: what the person who imports it should know.
        columns: what the columns of its table were read as.
    """

    file: str
    pairs: tuple[ParsedPair, ...]
    problems: tuple[Problem, ...] = ()
    notes: tuple[Problem, ...] = ()
    columns: ColumnUse = field(default_factory=ColumnUse)


def flipped(pair: ParsedPair) -> ParsedPair:
    """Exchange A and B of a pair, in its labels too."""
    assignments = tuple(
        replace(assignment, labels=tuple(map(_flipped_label, assignment.labels))) for assignment in pair.assignments
    )
    return replace(
        pair,
        a=pair.b,
        b=pair.a,
        generator_a=pair.generator_b,
        generator_b=pair.generator_a,
        thought_a=pair.thought_b,
        thought_b=pair.thought_a,
        assignments=assignments,
    )


def _flipped_label(label: ParsedLabel) -> ParsedLabel:
    other: dict[str, Side] = {"A": "B", "B": "A"}
    return replace(
        label,
        choice=other.get(label.choice or "", label.choice),
        sub_scores={other[side]: cells for side, cells in label.sub_scores.items()},
        marks=tuple({**mark, "video": other[mark["video"]]} for mark in label.marks),
        left_video=other[label.left_video],
        playback={other[side]: stats for side, stats in label.playback.items()},
    )


def known_sub_scores(value: Any) -> dict[str, dict[str, str]]:
    """Sub-scores as the store keeps them, {"A": {dimension: value}, "B": ...}, without empty cells and sides.

    Raises:
        ValueError: an unknown side, dimension or value; the message names it.
    """
    scores: dict[str, dict[str, str]] = {}
    for side, cells in _items(value, "sub-scores"):
        if side not in ("A", "B"):
            raise ValueError(f"sub-scores belong to A or B, not {side!r}")
        for name, cell in _items(cells, f"sub-scores of {side}"):
            if cell is None or cell == "":
                continue
            text = str(cell)
            if name not in DIMENSIONS:
                raise ValueError(f"unknown dimension {name!r}; known are {', '.join(DIMENSIONS)}")
            if isinstance(cell, (bool, float)) or text not in SUB_SCORES:
                raise ValueError(f"{name} of {side} is {cell!r}; a sub-score is one of {', '.join(SUB_SCORES)}")
            scores.setdefault(side, {})[name] = text
    return scores


def _items(value: Any, what: str) -> list[tuple[Any, Any]]:
    if value is None:
        return []
    if not isinstance(value, Mapping):
        raise ValueError(f"{what} must be an object, not {value!r}")
    return list(value.items())
