"""How a table is scored.

ScoreConfig(mode="quick", shard=parse_shard("2/8"))
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from descore.engines.engine import ROWS_AT_ONCE
from descore.judgement import Mode

_SHARD = re.compile(r"(\d{1,6})/(\d{1,6})")


@dataclass(frozen=True)
class ScoreConfig:
    """How a table is scored.

    Attributes:
        mode: how videos are judged.
        k, seed: number and seed of the thoughts in mode k.
        keep_errors: leave questions that failed before as they are, instead of trying them again.
        shard: (number from 1, of how many): compute a part only, and write no rows.
        merge: take up the answers of all shards and compute nothing.
        batch_size: questions that are judged at once.

    Raises:
        ValueError: settings that can't be met together.
    """

    mode: Mode = "think"
    k: int = 8
    seed: int = 0
    keep_errors: bool = False
    shard: tuple[int, int] | None = None
    merge: bool = False
    batch_size: int = ROWS_AT_ONCE

    def __post_init__(self) -> None:
        if self.batch_size < 1:
            raise ValueError(f"--batch-size must be at least 1 (got {self.batch_size})")
        if self.mode == "k" and self.k < 2:
            raise ValueError(f"mode k needs at least 2 thoughts, not {self.k}")
        if self.merge and self.shard:
            raise ValueError("--merge and --shard exclude each other: run the shards first, then merge")


def parse_shard(text: str) -> tuple[int, int]:
    """Read a shard, such as "2/8".

    Raises:
        ValueError: not of that form.
    """
    match = _SHARD.fullmatch(text)
    if match is None or not 1 <= int(match[1]) <= int(match[2]):
        raise ValueError(f"--shard takes I/N with I from 1 to N, such as 2/8 (got {text!r})")
    return int(match[1]), int(match[2])
