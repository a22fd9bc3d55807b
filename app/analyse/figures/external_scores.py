"""Other reward models' scores of pairs, read from the CSV or JSON that their own scripts write.

    table = read_scores(path.read_text("utf-8-sig"))
    table.rows, table.problems                     # which pairs of the store they are of: app.analyse.figures.score_matching

One row a pair (path_A, path_B, prompt, reward_A, reward_B) or one row a video (path, prompt, reward); names of columns
vary, and `ALIASES` knows those of VideoScore, VideoAlign, VisionReward, UnifiedReward, UnifiedReward-Thinking and
VideoScore2. A reward may be a number, or an object or list of the model's own dimensions; without an overall value the mean
of those stands for it.
"""

from __future__ import annotations

import ast
import csv
import io
import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

MOST_PROBLEMS = 50
LARGEST = 256 * 1024 * 1024  # characters
ALIASES: dict[str, tuple[str, ...]] = {
    "pair": ("pair_id", "pair", "identity", "pair_identity"),
    "a": ("path_a", "video_a", "video_path_a", "left_video", "video_left", "video1", "video_1", "path1", "a"),
    "b": ("path_b", "video_b", "video_path_b", "right_video", "video_right", "video2", "video_2", "path2", "b"),
    "path": ("path", "video", "video_path", "video_file", "video_name", "file", "filename", "name"),
    "prompt": ("prompt", "text", "text_prompt", "caption", "t2v_prompt", "instruction"),
}
# What a model may call its overall value, the first that is there counts.
OVERALL = (
    "reward",
    "score",
    "overall",
    "overall_score",
    "final_score",
    "final",
    "total",
    "total_score",
    "mean",
    "avg",
    "average",
)
# Dimensions of VideoAlign, VideoScore, VideoScore2 and UnifiedReward; VisionReward gives one number. Each is understood with
# "reward" or "score" before or behind it as well, so no such spelling stands here: it would count twice in the mean.
DIMENSIONS = (
    *("vq", "mq", "ta"),
    *("visual_quality", "temporal_consistency", "dynamic_degree", "text_to_video_alignment", "factual_consistency"),
    *("physical_consistency", "t2v_alignment", "text_alignment", "alignment", "physics"),
    *("coherence", "style", "motion_quality"),
)
_SIDES = {"a": ("a", "left", "1"), "b": ("b", "right", "2")}


class ScoreFileError(ValueError):
    """The file holds no scores that can be read; the message says why and what is expected."""


@dataclass(frozen=True)
class Reward:
    """An overall value and, where the file has them, the model's own dimensions."""

    value: float
    dimensions: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class ScoreRow:
    """A row of a file: of a pair (`b` is set, or `pair`), or of one video. line: counted from 1, without the header."""

    line: int
    pair: str
    a: str
    b: str
    prompt: str
    rewards: tuple[Reward, ...]


@dataclass(frozen=True)
class ScoreTable:
    """The rows that could be read, and what is wrong with the others."""

    rows: tuple[ScoreRow, ...]
    problems: tuple[str, ...]


def read_scores(text: str) -> ScoreTable:
    """Read a CSV, a JSON list, an object of objects by pair id, or JSON Lines.

    Raises:
        ScoreFileError: too large, neither CSV nor JSON (it names the line), or without a single readable row.
    """
    if len(text) > LARGEST:
        raise ScoreFileError(f"the file is larger than {LARGEST // 1024**2} MB; split it")
    rows, problems = [], []
    for line, cells in enumerate(_records(text), start=1):
        try:
            rows.append(_row(line, {_key(name): value for name, value in cells.items() if name is not None}))
        except ValueError as error:
            problems.append(f"row {line}: {error}")
    if not rows:
        raise ScoreFileError(
            problems[0] if problems else "no row; expected columns path_A, path_B, prompt, reward_A, reward_B"
        )
    return ScoreTable(tuple(rows), tuple(problems[:MOST_PROBLEMS]))


def _records(text: str) -> Iterator[dict[str, Any]]:
    text = text.lstrip("\ufeff \r\n\t")
    if not text.startswith(("{", "[")):
        csv.field_size_limit(1 << 24)
        reader = csv.DictReader(io.StringIO(text))
        try:
            yield from reader
        except csv.Error as error:
            raise ScoreFileError(f"line {reader.reader.line_num} is no CSV: {error}") from None
        return
    try:
        yield from _objects(json.loads(text))
    except json.JSONDecodeError:
        for number, line in enumerate(text.splitlines(), start=1):
            if line.strip():
                try:
                    yield from _objects(json.loads(line))
                except json.JSONDecodeError as error:
                    raise ScoreFileError(f"line {number} is no JSON: {error.msg}") from None


def _objects(found: Any) -> Iterator[dict[str, Any]]:
    """Objects of a list; of an object that wraps a list; of an object by pair id; or the object itself."""
    if isinstance(found, list):
        yield from (one if isinstance(one, dict) else {} for one in found)
    elif isinstance(found, dict):
        lists = [value for value in found.values() if isinstance(value, list) and value and isinstance(value[0], dict)]
        if len(lists) == 1:
            yield from _objects(lists[0])
        elif found and all(isinstance(value, dict) for value in found.values()) and not _named(found):
            for key, value in found.items():
                yield {"pair_id": key, **value}
        else:
            yield found


def _named(found: Mapping[str, Any]) -> bool:
    """Whether an object's own keys are columns."""
    return any(_key(name) in ALIASES["a"] + ALIASES["path"] + ALIASES["pair"] for name in found)


def _key(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "_", str(name).strip().lower()).strip("_")


def _row(line: int, cells: Mapping[str, Any]) -> ScoreRow:
    pair, a, b, path, prompt = (_first(cells, ALIASES[name]) for name in ("pair", "a", "b", "path", "prompt"))
    if pair or (a and b):
        sides = tuple(_side(cells, side) for side in ("a", "b"))
        return ScoreRow(line, pair, a, b, prompt, sides)
    if path:
        return ScoreRow(line, "", path, "", prompt, (_reward(cells, "of this video"),))
    raise ValueError("names neither a pair (pair_id, or path_A and path_B) nor a video (path)")


def _first(cells: Mapping[str, Any], names: Iterable[str]) -> str:
    for name in names:
        value = cells.get(name)
        if value is not None and not isinstance(value, (dict, list)) and str(value).strip():
            return str(value).strip()
    return ""


def _side(cells: Mapping[str, Any], side: str) -> Reward:
    """The columns of one side, their names without the mark of the side."""
    own: dict[str, Any] = {}
    for name, value in cells.items():
        for mark in _SIDES[side]:
            if name.endswith(f"_{mark}"):
                own.setdefault(name[: -len(mark) - 1], value)
            elif name.startswith(f"{mark}_"):
                own.setdefault(name[len(mark) + 1 :], value)
    both = cells.get("rewards", cells.get("scores"))
    if not own and isinstance(both, list):
        if len(both) != len(_SIDES):
            raise ValueError(f"has {len(both)} rewards; expected two, of A and of B")
        return _of(both[0 if side == "a" else 1])
    return _reward(own, f"of {side.upper()}")


def _reward(cells: Mapping[str, Any], whose: str) -> Reward:
    """The overall value of some cells; else of the object or list that a cell holds; else the mean of the dimensions."""
    found: dict[str, float] = {}
    for name in DIMENSIONS:
        for key in (name, f"reward_{name}", f"score_{name}", f"{name}_reward", f"{name}_score"):
            if cells.get(key) not in (None, ""):
                found[name] = _number(cells[key])
    for name in (*OVERALL, "rewards", "scores"):
        if cells.get(name) not in (None, ""):
            inner = _of(cells[name])
            return Reward(inner.value, {**inner.dimensions, **found})
    if not found:
        raise ValueError(f"has no reward {whose}; expected reward_A and reward_B, or score, overall, or dimensions")
    return Reward(sum(found.values()) / len(found), found)


def _of(value: Any) -> Reward:
    """A number, or an object or list of numbers, also written as text."""
    if isinstance(value, str) and value.strip()[:1] in ("{", "["):
        try:
            value = ast.literal_eval(value.strip())
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            raise ValueError(f"can't read the reward {value[:40]!r}") from None
    if isinstance(value, dict):
        return _reward({_key(name): inner for name, inner in value.items()}, "in the object")
    if isinstance(value, (list, tuple)) and value:
        numbers = [_number(one) for one in value]
        return Reward(sum(numbers) / len(numbers))
    return Reward(_number(value))


def _number(value: Any) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError):
        raise ValueError(f"the reward {str(value)[:40]!r} is no number") from None
    if isinstance(value, bool) or not math.isfinite(number):
        raise ValueError(f"the reward {value!r} is no finite number")
    return number
