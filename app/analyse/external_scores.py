"""Reader for other reward models' scores of pairs, in the CSV or JSON that their own scripts write.

    table = read_scores(path.read_text("utf-8-sig"))
    table.rows, table.problems                     # `app.analyse.score_matching` finds the pairs of the store

A row is a pair (path_A, path_B, prompt, reward_A, reward_B) or a video (path, prompt, reward). Names of columns vary;
`ALIASES` has those of VideoScore, VideoAlign, VisionReward, UnifiedReward, UnifiedReward-Thinking and VideoScore2. A reward
is a number, or an object or list of the model's own dimensions, whose mean is taken where there is no overall value.
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
# Names of a model's overall value; the first one present counts.
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
    """A file holds no readable scores; the message says why, and what is expected."""


@dataclass(frozen=True)
class Reward:
    """A reward of one video.

    Attributes:
        value: the overall value.
        dimensions: the model's own dimensions, where the file has them.
    """

    value: float
    dimensions: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class ScoreRow:
    """A row of a file: of a pair where `b` or `pair` is set, else of one video.

    Attributes:
        line: number of the row, counted from 1 without the header.
        pair: id of the pair, "" without one.
        a: name of video A, or of the one video.
        b: name of video B, "" without one.
        prompt: "" without one.
        rewards: of A and B, or of the one video.
    """

    line: int
    pair: str
    a: str
    b: str
    prompt: str
    rewards: tuple[Reward, ...]


@dataclass(frozen=True)
class ScoreTable:
    """A file's readable rows, and a sentence for each of the first unreadable ones."""

    rows: tuple[ScoreRow, ...]
    problems: tuple[str, ...]


def read_scores(text: str) -> ScoreTable:
    """Read a CSV, a JSON list, an object of objects by pair id, or JSON Lines.

    Raises:
        ScoreFileError: the text is too large, neither CSV nor JSON, or has no readable row.
    """
    if len(text) > LARGEST:
        raise ScoreFileError(f"the file is larger than {LARGEST // 1024**2} MB; split it")
    rows, problems = [], []
    for line, cells in enumerate(_records(text), start=1):
        try:
            rows.append(_row(line, {_key(name): value for name, value in cells.items() if name is not None}))
        except ValueError as error:
            problems.append(f"row {line}: {error}")
        except RecursionError:
            problems.append(f"row {line}: its rewards are nested too deep")
    if not rows:
        raise ScoreFileError(
            problems[0] if problems else "the file has no row; expected columns path_A, path_B, prompt, reward_A, reward_B"
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
            raise ScoreFileError(f"line {reader.reader.line_num} is not CSV: {error}") from None
        return
    try:
        yield from _objects(json.loads(text))
    except (ValueError, RecursionError):
        for number, line in enumerate(text.splitlines(), start=1):
            if line.strip():
                try:
                    yield from _objects(json.loads(line))
                except (ValueError, RecursionError) as error:
                    reason = error.msg if isinstance(error, json.JSONDecodeError) else "too deep, or a number too long"
                    raise ScoreFileError(f"line {number} is not JSON: {reason}") from None


def _objects(content: Any) -> Iterator[dict[str, Any]]:
    """Yield the objects of a list, of an object that wraps a list, of an object by pair id, or the object itself."""
    if isinstance(content, list):
        yield from (item if isinstance(item, dict) else {} for item in content)
    elif isinstance(content, dict):
        lists = [value for value in content.values() if isinstance(value, list) and value and isinstance(value[0], dict)]
        if len(lists) == 1:
            yield from _objects(lists[0])
        elif content and all(isinstance(value, dict) for value in content.values()) and not _has_columns(content):
            for key, value in content.items():
                yield {"pair_id": key, **value}
        else:
            yield content


def _has_columns(content: Mapping[str, Any]) -> bool:
    """Return whether the keys of an object are names of columns."""
    return any(_key(name) in ALIASES["a"] + ALIASES["path"] + ALIASES["pair"] for name in content)


def _key(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "_", str(name).strip().lower()).strip("_")


def _row(line: int, cells: Mapping[str, Any]) -> ScoreRow:
    pair, a, b, path, prompt = (_first(cells, ALIASES[name]) for name in ("pair", "a", "b", "path", "prompt"))
    if pair or (a and b):
        sides = tuple(_side(cells, side) for side in ("a", "b"))
        return ScoreRow(line, pair, a, b, prompt, sides)
    if path:
        return ScoreRow(line, "", path, "", prompt, (_reward(cells, "of this video"),))
    raise ValueError("it names neither a pair (pair_id, or path_A and path_B) nor a video (path)")


def _first(cells: Mapping[str, Any], names: Iterable[str]) -> str:
    for name in names:
        value = cells.get(name)
        if value is not None and not isinstance(value, (dict, list)) and str(value).strip():
            return str(value).strip()
    return ""


def _side(cells: Mapping[str, Any], side: str) -> Reward:
    """Read the reward of one side from the columns that carry its mark."""
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
            raise ValueError(f"it has {len(both)} rewards; expected two, of A and of B")
        return _parse_reward(both[0 if side == "a" else 1])
    return _reward(own, f"of {side.upper()}")


def _reward(cells: Mapping[str, Any], whose: str) -> Reward:
    """Read the overall value of some cells, or of the object or list in one; else the mean of the dimensions."""
    dimensions: dict[str, float] = {}
    for name in DIMENSIONS:
        for key in (name, f"reward_{name}", f"score_{name}", f"{name}_reward", f"{name}_score"):
            if cells.get(key) not in (None, ""):
                dimensions[name] = _number(cells[key])
    for name in (*OVERALL, "rewards", "scores"):
        if cells.get(name) not in (None, ""):
            inner = _parse_reward(cells[name])
            return Reward(inner.value, {**inner.dimensions, **dimensions})
    if not dimensions:
        raise ValueError(f"it has no reward {whose}; expected reward_A and reward_B, or score, overall, or dimensions")
    return Reward(sum(dimensions.values()) / len(dimensions), dimensions)


def _parse_reward(value: Any) -> Reward:
    """Read a number, or an object or list of numbers, which may be written as text."""
    if isinstance(value, str) and value.strip()[:1] in ("{", "["):
        try:
            value = ast.literal_eval(value.strip())
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            raise ValueError(f"can't read the reward {value[:40]!r}") from None
    if isinstance(value, dict):
        return _reward({_key(name): inner for name, inner in value.items()}, "in the object")
    if isinstance(value, (list, tuple)) and value:
        numbers = [_number(item) for item in value]
        return Reward(sum(numbers) / len(numbers))
    return Reward(_number(value))


def _number(value: Any) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError):
        raise ValueError(f"the reward {str(value)[:40]!r} is not a number") from None
    except OverflowError:
        raise ValueError("the reward is a whole number of hundreds of digits") from None
    if isinstance(value, bool) or not math.isfinite(number):
        raise ValueError(f"the reward {str(value)[:40]!r} is not a finite number")
    return number
