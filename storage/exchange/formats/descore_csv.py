"""What DeScore's two CSVs share: the column `videos`, and the wording of a comparison.

    "['a.mp4', 'b.mp4']"

`problem` is the judge's instruction. It is kept with the pair where it says more than the prompt.
"""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from storage.exchange.format_reader import FormatReader, Row
    from storage.exchange.parsed import Clip, ParsedPair

PROBLEM = "problem"


def two_clips(reading: FormatReader, row: Row) -> tuple[Clip, Clip] | None:
    """The two videos of a row; None and a problem where the cell does not name two."""
    text = row.text("videos")
    try:
        names: Any = ast.literal_eval(text.strip())
    except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError):
        names = None
    if not isinstance(names, (list, tuple)) or len(names) != 2:
        reading.problem(row.line, f"videos is {text[:100]!r}; expected a list of two paths, as in ['a.mp4', 'b.mp4']")
        return None
    first, second = (reading.clip_at(row.line, name, "videos") for name in names)
    return None if first is None or second is None else (first, second)


def instruction_column(row: Row, prompt: str) -> dict[str, Any]:
    """The instruction as a fact of the pair, unless it is the prompt itself."""
    problem = row.text(PROBLEM)
    return {} if problem in ("", prompt) else {PROBLEM: problem}


def video_cells(pair: ParsedPair) -> dict[str, str]:
    """The columns `videos`, `problem` and `prompt`."""
    return {
        "videos": str([pair.a.name, pair.b.name]),
        PROBLEM: str(pair.extra_columns.get(PROBLEM, pair.prompt)),
        "prompt": pair.prompt,
    }
