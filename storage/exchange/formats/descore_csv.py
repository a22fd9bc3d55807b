"""What DeScore's two CSVs share: the column `videos`, and the wording of a comparison.

    "['a.mp4', 'b.mp4']"

`problem` is the judge's instruction. It is kept with the pair where it says more than the prompt.
"""

from __future__ import annotations

import ast
from dataclasses import replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from descore.tables.read_table import TableRow
    from storage.exchange.format_reader import FormatReader
    from storage.exchange.parsed import Clip, ParsedPair

PROBLEM = "problem"


def two_clips(reading: FormatReader, row: TableRow) -> tuple[Clip | None, Clip | None]:
    """Resolve the two videos of a row; None and a problem for each that the cell does not name."""
    text = row.text("videos")
    try:
        names: Any = ast.literal_eval(text.strip())
    except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError):
        names = None
    if not isinstance(names, (list, tuple)) or len(names) != 2:
        reading.problem(row.line, f"videos is {text[:100]!r}; expected a list of two paths, as in ['a.mp4', 'b.mp4']")
        return None, None
    first, second = (reading.clip_at(row.line, name, "videos") for name in names)
    return first, second


def with_instruction(pair: ParsedPair | None, row: TableRow) -> ParsedPair | None:
    """Keep the instruction as an extra column of the pair, unless it is the prompt itself."""
    instruction = row.text(PROBLEM)
    if pair is None or instruction in ("", pair.prompt):
        return pair
    return replace(pair, extra_columns={**pair.extra_columns, PROBLEM: instruction})


def video_cells(pair: ParsedPair) -> dict[str, str]:
    """Fill the columns `videos`, `problem` and `prompt`."""
    return {
        "videos": str([pair.a.name, pair.b.name]),
        PROBLEM: str(pair.extra_columns.get(PROBLEM, pair.prompt)),
        "prompt": pair.prompt,
    }
