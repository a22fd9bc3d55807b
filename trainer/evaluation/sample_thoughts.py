"""Thoughts about a few held-out pairs before and after each stage of a run, for people to read.

    runs/7/samples.jsonl    {"pair_id": 12, "stage": "dual-rl", "when": "after", "label": 1, "thought_a": "<think>...",
                             "thought_b": "<think>...", "rewards": [1.2, -0.3], "quick": [0.4, 0.1]}

They are of the same pairs each time, chosen by a stable hash.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from storage.atomic import write_atomic
from storage.splits import stable_share
from storage.training.run_folder import SAMPLES, read_samples

if TYPE_CHECKING:
    from trainer.evaluation.held_out import JudgedPair

PAIRS = 6


def save_samples(
    run_folder: Path,
    stage: str,
    when: Literal["before", "after"],
    judged: Sequence[JudgedPair],
    pair_ids: Mapping[str, int],
) -> None:
    """Write the samples of one moment; earlier ones of the same moment are replaced.

    Args:
        pair_ids: identity -> pair of the store; others are passed over.
    """
    stored = [pair for pair in judged if pair.identity in pair_ids]
    sampled = sorted(stored, key=lambda pair: stable_share("sample", pair.identity))[:PAIRS]
    kept = [row for row in read_samples(run_folder) if (row["stage"], row["when"]) != (stage, when)]
    rows = kept + [_row(pair, pair_ids[pair.identity], stage, when) for pair in sampled]
    write_atomic(run_folder / SAMPLES, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))


def _row(pair: JudgedPair, pair_id: int, stage: str, when: str) -> dict[str, Any]:
    thought_a, thought_b = pair.thoughts
    return {
        "pair_id": pair_id,
        "stage": stage,
        "when": when,
        "label": pair.label,
        "thought_a": thought_a,
        "thought_b": thought_b,
        "rewards": list(pair.think),
        "quick": list(pair.quick),
    }
