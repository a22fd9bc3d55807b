"""Scoring of a table of pairs that continues where it was stopped.

Input is the field's pair CSV (VideoAlign): `path_A, path_B, prompt` and any further columns, paths relative
to the table. Each finished row is appended to the output and synced; a new run with the same table,
checkpoint and mode goes on after the last whole row. A video that can't be used costs its row (column
`error`) and not the run.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tqdm import tqdm

from descore.errors import RewardError

if TYPE_CHECKING:
    from descore.judge import DeScore
    from descore.judgement import Mode, Verdict

REQUIRED = ("path_A", "path_B", "prompt")
# The hash stands last: a row that ends with a whole hash was written whole.
COLUMNS = (
    "row", "path_A", "path_B", "prompt", "checkpoint", "mode", "reward_A", "reward_B",
    "standardised_reward_A", "standardised_reward_B", "p_first_preferred", "verdict",
    "overall_score_A", "overall_score_B", "sub_scores_A", "sub_scores_B", "thought_A", "thought_B",
    "error", "row_hash",
)  # fmt: skip
_HEADER = (",".join(COLUMNS) + "\r\n").encode()
_HASH = re.compile(r"[0-9a-f]{16}")


@dataclass(frozen=True)
class Pair:
    """One row of the table.

    Attributes:
        row: counted from 1.
        path_a: first video, as the table has it.
        path_b: second video, as the table has it.
        prompt: the text that both were made from.
        folder: where relative paths start.
    """

    row: int
    path_a: str
    path_b: str
    prompt: str
    folder: Path

    def key(self, checkpoint: str, mode: str) -> tuple[str, str]:
        """Return the row's number, and a hash of everything that its result depends on."""
        content = json.dumps([self.path_a, self.path_b, self.prompt, checkpoint, mode], ensure_ascii=False)
        return str(self.row), hashlib.sha256(content.encode()).hexdigest()[:16]


def read_pairs(table: Path) -> list[Pair]:
    """Read the pairs of a CSV.

    Raises:
        ValueError: no table that can be read, no rows, required columns missing, or a row with other cells than the header
            has; the message names the line.
    """
    try:
        text = table.read_bytes().decode("utf-8-sig")
    except (OSError, ValueError) as error:
        raise ValueError(f"{table} can't be read as a CSV in UTF-8: {error}") from error
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    columns: list[str] = []
    pairs: list[Pair] = []
    line = 1  # the first one of a row, which may have several
    try:
        for cells in reader:
            if cells and not columns:
                columns = _columns(table, cells)
            elif cells and len(cells) != len(columns):
                counted = f"{len(cells)} cells, and the header has {len(columns)}; quote commas"
                raise ValueError(f"{table}, line {line}: {counted}")
            elif cells:
                path_a, path_b, prompt = (cells[columns.index(name)] for name in REQUIRED)
                pairs.append(Pair(len(pairs) + 1, path_a, path_b, prompt, table.parent))
            line = reader.line_num + 1
    except csv.Error as error:
        raise ValueError(f"{table}, line {line}: not a CSV from here on: {error}") from error
    if not pairs:
        raise ValueError(f"{table} has no pairs" if columns else f"{table} is empty; it needs {', '.join(REQUIRED)}")
    return pairs


def _columns(table: Path, header: list[str]) -> list[str]:
    missing = [name for name in REQUIRED if name not in header]
    if missing:
        raise ValueError(f"{table} lacks the columns {', '.join(missing)}; it needs {', '.join(REQUIRED)}")
    repeated = [name for name in REQUIRED if header.count(name) > 1]
    if repeated:
        raise ValueError(f"{table} repeats the columns {', '.join(repeated)}")
    return header


def score_pairs(judge: DeScore, pairs: Sequence[Pair], out: Path, mode: Mode = "think") -> int:
    """Score the pairs that `out` does not hold yet.

    Returns:
        How many rows of `out` have an error.

    Raises:
        ValueError: `out` belongs to another table, checkpoint or mode.
    """
    by_key = {pair.key(judge.name, mode): pair for pair in pairs}
    done, failed = _resume(out, set(by_key))
    with out.open("a", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS)
        if file.tell() == 0:
            writer.writeheader()
        for key, pair in tqdm(by_key.items(), desc="pairs", unit="pair"):
            if key in done:
                continue
            result = _score_pair(judge, pair, mode)
            failed += "error" in result
            writer.writerow({**_input_cells(pair, judge.name, mode), **result, "row_hash": key[1]})
            file.flush()
            os.fsync(file.fileno())
    return failed


def _score_pair(judge: DeScore, pair: Pair, mode: Mode) -> dict[str, object]:
    try:
        verdict = judge.judge([pair.folder / pair.path_a, pair.folder / pair.path_b], pair.prompt, mode)
    except (ValueError, RewardError) as error:  # VideoError is a ValueError
        return {"error": str(error)}
    return _result_cells(verdict)


def _input_cells(pair: Pair, checkpoint: str, mode: str) -> dict[str, object]:
    paths = {"path_A": pair.path_a, "path_B": pair.path_b}
    return {"row": pair.row, **paths, "prompt": pair.prompt, "checkpoint": checkpoint, "mode": mode}


def _result_cells(verdict: Verdict) -> dict[str, object]:
    cells: dict[str, object] = {"p_first_preferred": verdict.p_first_preferred, "verdict": verdict.verdict}
    for side, video in zip("AB", verdict.videos, strict=True):
        cells[f"reward_{side}"] = video.reward
        cells[f"standardised_reward_{side}"] = video.standardised_reward
        cells[f"overall_score_{side}"] = video.overall_score
        cells[f"sub_scores_{side}"] = None if video.sub_scores is None else json.dumps(video.sub_scores)
        cells[f"thought_{side}"] = video.thought
    return cells


def _resume(out: Path, keys: set[tuple[str, str]]) -> tuple[set[tuple[str, str]], int]:
    """Return the keys of the rows in `out` and the number of errors; a row torn by a crash is cut off the file.

    Raises:
        ValueError: another program or another run wrote the file. It is left as it is.
    """
    if not out.exists():
        return set(), 0
    data = out.read_bytes()
    if not data.startswith(_HEADER) and not _HEADER.startswith(data):
        raise ValueError(f"{out} exists and was not written by this command; choose another --out")
    done, failed = set(), 0
    whole = last = len(_HEADER) if data.startswith(_HEADER) else 0
    for record, end in _records(data[whole:]):
        cells = dict(zip(COLUMNS, record, strict=True))
        done.add((cells["row"], cells["row_hash"]))
        failed += bool(cells["error"])
        last = whole + end
    if not done <= keys:
        raise ValueError(f"{out} holds rows of another table, checkpoint or mode; choose another --out")
    os.truncate(out, last)
    return done, failed


def _records(data: bytes) -> Iterator[tuple[list[str], int]]:
    """Yield the whole CSV records at the start of the data, each with the number of bytes up to its end."""
    end, line = 0, b""

    def lines() -> Iterator[str]:
        nonlocal end, line
        for line in data.splitlines(keepends=True):
            end += len(line)
            yield line.decode("utf-8", errors="replace")

    with suppress(csv.Error):  # a cell beyond the reader's limit, which no row of ours has
        for record in csv.reader(lines()):
            if len(record) != len(COLUMNS) or not line.endswith(b"\n") or not _HASH.fullmatch(record[-1]):
                return
            yield record, end
