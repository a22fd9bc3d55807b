"""Rollouts of one dual-RL step: sampled one micro-batch at a time, and in one batch under a budget of cached tokens.

    python -m benchmarks.rollout_sampling [--pairs 8] [--generations 6] [--repeats 3] [--tokens 60000]

Pairs of ShapeWorld with the bundled checkpoint, thoughts as long as they come out, at most 200 tokens. A micro-batch is one
pair, as the presets of large backbones have it. The ways take turns, after one turn that does not count. The last line is
JSON: median seconds, their ratio, whether all tokens are equal, the largest number of slots that were held, and the ratio
for a budget of a quarter of that, in which rows wait for room.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import torch

from descore.judge import DeScore
from descore.video import VideoClip
from trainer.rollouts.default_tokens import default_tokens
from trainer.rollouts.refill import Refill
from trainer.rollouts.sampling import SampledThoughts, sample, uniforms
from trainer.shapeworld.pairs import shape_pairs
from trainer.shapeworld.render import frame_times, render

if TYPE_CHECKING:
    from descore.encode import Row
    from trainer.shapeworld.scene import Scene

_LIMIT = 200


def clip_of(scene: Scene, judge: DeScore) -> VideoClip:
    """Render the frames that the checkpoint's policy takes of a scene."""
    times = frame_times(scene)
    fps = scene.rendering.fps
    sampled = times[judge.manifest.frame_policy.constant_rate_indices(len(times), fps)]
    return VideoClip(render(scene, sampled), sampled, len(times) / fps, "pyav")


def step_rows(judge: DeScore, pairs: int) -> list[Row]:
    """Encode the videos of a step: A, B, A, B, ..."""
    drawn = shape_pairs("train", pairs)
    return [judge.engine.encode(clip_of(scene, judge), pair.prompt) for pair in drawn for scene in pair.scenes]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=8)
    parser.add_argument("--generations", type=int, default=6)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--tokens", type=int, help="budget; by default that of a run on this machine")
    options = parser.parse_args()
    judge = DeScore.from_pretrained("bundled", dtype="float32")
    model, rows = judge.model, step_rows(judge, options.pairs)
    seeds = [f"0/{index // 2}/{'AB'[index % 2]}" for index in range(len(rows))]
    settings = {"num_generations": options.generations, "max_tokens": _LIMIT}
    budget = options.tokens or default_tokens(model)
    chances = torch.stack([uniforms(f"{seed}/{g}", _LIMIT) for seed in seeds for g in range(options.generations)])
    queue = Refill(model.eval(), rows, chances, _LIMIT, budget, 1.0, None)
    queue.run()
    quarter = queue.most_held // 4

    def one_by_one() -> SampledThoughts:
        parts = [slice(first, first + 2) for first in range(0, len(rows), 2)]
        return SampledThoughts.joined([sample(model, rows[part], seeds[part], **settings) for part in parts])

    ways: dict[str, Callable[[], SampledThoughts]] = {
        "one_by_one": one_by_one,
        "one_batch": lambda: sample(model, rows, seeds, **settings, budget=budget),
        "quarter_budget": lambda: sample(model, rows, seeds, **settings, budget=quarter),
    }
    times: dict[str, list[float]] = {way: [] for way in ways}
    sampled: dict[str, SampledThoughts] = {}
    for turn in range(options.repeats + 1):
        for way, draw in ways.items():
            start = time.perf_counter()
            sampled[way] = draw()
            if turn:
                times[way].append(time.perf_counter() - start)
    seconds = {way: statistics.median(values) for way, values in times.items()}
    print(
        json.dumps(
            {
                "videos": len(rows),
                "num_generations": options.generations,
                "prompt_tokens": max(len(row["input_ids"]) for row in rows),
                "thought_tokens": round(sampled["one_batch"].tokens / (len(rows) * options.generations), 1),
                "device": str(model.device),
                "threads": torch.get_num_threads(),
                "cores": os.cpu_count(),
                "budget": budget,
                "slots_held": queue.most_held,
                "quarter_budget": quarter,
                "seconds": {way: round(value, 2) for way, value in seconds.items()},
                "ratio": round(seconds["one_by_one"] / seconds["one_batch"], 2),
                "ratio_quarter_budget": round(seconds["one_by_one"] / seconds["quarter_budget"], 2),
                "same_tokens": all(each.ids == sampled["one_by_one"].ids for each in sampled.values()),
                "load_average": os.getloadavg()[0],
            }
        )
    )


if __name__ == "__main__":
    main()
