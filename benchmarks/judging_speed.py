"""Judging a pair in one pass against the plain recipe: each video alone, its thought, then a second full forward.

    python -m benchmarks.judging_speed [--repeats 5]

The plain recipe uses transformers' own `generate` on a backbone as it is loaded, then runs the whole sequence again for the
reward. Both ways are greedy and give the same thoughts and rewards, which is checked. Measured on the bundled checkpoint
with its own prompts and with prompts of about 2,000 tokens; thoughts have the same length in both ways. The last line is JSON:
medians in seconds, ratios, and the cost of the score step in decode steps.
"""

from __future__ import annotations

import argparse
import copy
import json
import os
import statistics
import time
from collections.abc import Callable

import torch
from transformers import GenerationConfig

from benchmarks.long_prompts import long_row
from descore.encode import Row, collate, pad_token_id, with_thought
from descore.judge import DeScore
from descore.model import DeScoreModel

SIZES = {"own prompts": (8, 64), "2,000 prompt tokens": (60, 128)}  # frames, side in pixels
PLAIN = ("input_ids", "attention_mask", "mm_token_type_ids", "pixel_values_videos", "video_grid_thw")


def one_pass(model: DeScoreModel, rows: list[Row], tokens: int) -> tuple[list[list[int]], list[float]]:
    """Both videos in one batch; the reward from the cache of the thought."""
    state = model.prefill(collate(rows, pad_token_id(model.processor)))
    for _ in model.think(state, tokens):
        pass
    return state.thoughts, model.score(state).tolist()


@torch.inference_mode()
def plain_recipe(model: DeScoreModel, rows: list[Row], tokens: int) -> tuple[list[list[int]], list[float]]:
    """Each video alone: generate, then the whole sequence again."""
    thoughts, rewards = [], []
    never = model.never_sampled.nonzero().flatten().tolist()
    settings = GenerationConfig(
        max_new_tokens=tokens, min_new_tokens=tokens, do_sample=False, suppress_tokens=never, pad_token_id=0
    )
    for row in rows:
        batch = collate([row], pad_token_id(model.processor))
        whole = model.backbone.generate(**{name: batch[name] for name in PLAIN}, generation_config=settings)
        thoughts.append(whole[0, batch["input_ids"].shape[1] :].tolist())
        again = collate([with_thought(model.processor, row, thoughts[-1])], pad_token_id(model.processor))
        rewards.append(model.rewards(again).item())
    return thoughts, rewards


def step_costs(model: DeScoreModel, rows: list[Row], repeats: int) -> float:
    """Seconds of a score step over seconds of a decode step, at the same length, median over many."""
    state = model.prefill(collate(rows, pad_token_id(model.processor)))
    ratios = []
    steps = model.think(state, 10 * repeats)
    for _ in steps:
        start = time.perf_counter()
        model.score(state)
        middle = time.perf_counter()
        next(steps, None)
        ratios.append((middle - start) / (time.perf_counter() - middle))
    return statistics.median(ratios)


def median_seconds(run: Callable[[], object], repeats: int) -> float:
    """Median over `repeats` runs."""
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--thought", type=int, default=120, help="tokens of every thought")
    options = parser.parse_args()
    ours = DeScore.from_pretrained("bundled").model
    ours.end_ids = frozenset()  # thoughts of one length in both ways
    plain = copy.deepcopy(ours)
    for module in plain.backbone.modules():
        module.__dict__.pop("forward", None)  # the vision tower as transformers has it
    judge = DeScore.from_pretrained("bundled")
    figures = {}
    for name, (frames, side) in SIZES.items():
        rows = [long_row(judge, seed, frames, side) for seed in (1, 2)]
        first, second = one_pass(ours, rows, options.thought), plain_recipe(plain, rows, options.thought)
        seconds = {
            "one_pass": median_seconds(lambda r=rows: one_pass(ours, r, options.thought), options.repeats),  # type: ignore[misc]
            "plain": median_seconds(lambda r=rows: plain_recipe(plain, r, options.thought), options.repeats),  # type: ignore[misc]
        }
        figures[name] = {
            "prompt_tokens": len(rows[0]["input_ids"]),
            "seconds": {way: round(value, 3) for way, value in seconds.items()},
            "ratio": round(seconds["plain"] / seconds["one_pass"], 2),
            "score_step_in_decode_steps": round(step_costs(ours, rows, options.repeats), 2),
            "same_thoughts": first[0] == second[0],
            "reward_difference": max(abs(a - b) for a, b in zip(first[1], second[1], strict=True)),
        }
    print(
        json.dumps(
            {"thought_tokens": options.thought, "threads": torch.get_num_threads(), "cores": os.cpu_count(), **figures}
        )
    )


if __name__ == "__main__":
    main()
