"""Published accuracies of video reward models, and which benchmark a table is.

published_benchmark("VideoGen-RewardBench")             # "videogen"
published()["models"][-1]["name"]                       # "DeScore"
"""

from __future__ import annotations

import json
from collections.abc import Collection
from functools import cache
from pathlib import Path
from typing import Any

_FILE = Path(__file__).with_name("published.json")
# The columns and about the number of rows of VideoGen-RewardBench, however a copy of it is called.
_SHAPES: tuple[tuple[str, frozenset[str], range], ...] = (
    ("videogen", frozenset({"path_A", "path_B", "prompt", "VQ", "MQ", "TA"}), range(26_000, 27_001)),
)


@cache
def published() -> dict[str, Any]:
    """Return published.json: its source, its benchmarks, and [with ties, without ties] for each model."""
    content: dict[str, Any] = json.loads(_FILE.read_text("utf-8"))
    return content


def published_benchmark(source: str) -> str | None:
    """Return the key of the published benchmark that a name contains; None without one."""
    letters = "".join(letter for letter in source.lower() if letter.isalnum())
    for benchmark in published()["benchmarks"]:
        if any(name in letters for name in benchmark["named"]):
            return str(benchmark["key"])
    return None


def benchmark_of_shape(columns: Collection[str], rows: int) -> str | None:
    """Return the key of the published benchmark that has these columns and about so many rows; None without one."""
    for key, needed, sizes in _SHAPES:
        if needed <= set(columns) and rows in sizes:
            return key
    return None
