"""How long a judgement of bundled pairs takes, from the call to the first streamed word and to the verdict.

    python -m benchmarks.judgement_time [--checkpoint bundled] [--pairs 6] [--all-threads]

The last line is JSON: medians and maxima in seconds over the pairs, for each mode, and the ratio of think to quick. The
decoding processes and the model are warm, each judgement has a thread of its own, and the model as many threads of the CPU
as in a running app.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch

from descore.judge import DeScore
from descore.judgement import MODES, Mode, ThoughtDelta
from descore.modeling.cpu_threads import set_threads
from descore.video import warm_up

GALLERY = Path(__file__).parents[1] / "app" / "gallery"


def judgement_seconds(judge: DeScore, pair: dict[str, str], mode: Mode) -> tuple[float | None, float]:
    """Seconds to the first text, None without one, and to the verdict of one pair."""
    start, first = time.monotonic(), None
    for event in judge.stream([GALLERY / pair["a"], GALLERY / pair["b"]], pair["prompt"], mode):
        if first is None and isinstance(event, ThoughtDelta):
            first = time.monotonic() - start
    return first, time.monotonic() - start


def measure(judge: DeScore, pairs: list[dict[str, str]], mode: Mode) -> dict[str, float]:
    """Seconds to the first text and to the verdict over the pairs."""
    first_words, verdicts = [], []
    for pair in pairs:
        with ThreadPoolExecutor(1) as thread:
            first, verdict = thread.submit(judgement_seconds, judge, pair, mode).result()
        verdicts.append(verdict)
        first_words += [] if first is None else [first]
    figures = {"verdict_median": statistics.median(verdicts), "verdict_max": max(verdicts)}
    if first_words:
        figures |= {"first_word_median": statistics.median(first_words), "first_word_max": max(first_words)}
    return {name: round(value, 3) for name, value in figures.items()}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", default="bundled")
    parser.add_argument("--pairs", type=int, default=6)
    parser.add_argument("--all-threads", action="store_true", help="of the CPU, also for a small model")
    options = parser.parse_args()
    warm_up()
    judge = DeScore.from_pretrained(options.checkpoint)
    if not options.all_threads:
        set_threads(judge.model)
    pairs = json.loads((GALLERY / "pairs.json").read_text("utf-8"))[: options.pairs]
    judge.judge([GALLERY / pairs[0]["a"], GALLERY / pairs[0]["b"]], pairs[0]["prompt"])
    figures = {mode: measure(judge, pairs, mode) for mode in MODES}
    ratio = figures["think"]["verdict_median"] / figures["quick"]["verdict_median"]
    print(
        json.dumps(
            {
                "checkpoint": judge.name,
                "pairs": len(pairs),
                "cores": os.cpu_count(),
                "threads": torch.get_num_threads(),
                "seconds": figures,
                "think_over_quick": round(ratio, 2),
            }
        )
    )


if __name__ == "__main__":
    main()
