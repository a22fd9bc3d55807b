"""Judging a pair in one pass against the plain recipe: each video alone, its thought, then a second full forward.

    python -m benchmarks.judging_speed [--repeats 5] [--thought 300] [--threads 1]

The plain recipe is what the field does: transformers' own `generate` for each video on the backbone as transformers has it,
then the whole sequence (video, prompt, thought, query token) once more for the reward. Both ways are greedy. Two cases:

- own prompts: pairs of the gallery, as the bundled checkpoint was trained; thoughts end by themselves.
- 2,000 prompt tokens: what Qwen3-VL makes of ten seconds at 2 frames a second and 448 x 448 pixels a frame: 20 frames with
  196 tokens for each two. Noise, on which no thought ends: every thought has `--thought` tokens; published ones have 500 to
  2,000.

The two ways take turns; seconds are of the processor, by default on one thread, so that what else runs on the machine
changes them less; ratios are medians over the turns, of the processor's seconds and of the clock's. Checked in the same run:
rewards against a full forward over the same thought, and that no token of a thought has a logit below the best
(`greedy_gap`: by rounding, two equally likely tokens may be chosen differently, and such thoughts go apart). The last line
is JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from transformers import GenerationConfig

from benchmarks.helpers.long_prompts import long_row
from benchmarks.helpers.plain_model import as_transformers_has_it
from benchmarks.judgement_time import GALLERY
from descore.encode import Row, collate, encode_prompt, pad_token_id, with_thought
from descore.judge import DeScore
from descore.video import read_clips

if TYPE_CHECKING:
    from descore.modeling.model import DeScoreModel

Pair = Sequence[Row]
_PLAIN_INPUTS = ("input_ids", "attention_mask", "mm_token_type_ids", "pixel_values_videos", "video_grid_thw")
_LONG = (20, 224)  # frames, and their side: a token of the bundled backbone is 16 x 16 pixels, one of Qwen3-VL 32 x 32


@dataclass(frozen=True)
class Judged:
    """What one way came to for a pair, and what it took."""

    thoughts: list[list[int]]
    rewards: list[float]
    cpu_seconds: float
    seconds: float


def one_pass(model: DeScoreModel, pair: Pair, limit: int) -> Judged:
    """Both videos in one batch; the rewards from the cache of the thoughts."""
    cpu, clock = time.process_time(), time.perf_counter()
    state = model.prefill(collate(pair, pad_token_id(model.processor)))
    for _ in model.think(state, limit):
        pass
    rewards = model.score(state).tolist()
    return Judged(state.thoughts, rewards, time.process_time() - cpu, time.perf_counter() - clock)


@torch.inference_mode()
def plain_recipe(model: DeScoreModel, pair: Pair, limit: int) -> Judged:
    """Each video alone: generate, then the whole sequence again. `model` is one of `as_transformers_has_it`."""
    cpu, clock = time.process_time(), time.perf_counter()
    pad = pad_token_id(model.processor)
    settings = GenerationConfig(
        max_new_tokens=limit,
        do_sample=False,
        suppress_tokens=model.never_sampled.nonzero().flatten().tolist(),
        eos_token_id=sorted(model.end_ids) or None,
        pad_token_id=pad,
    )
    thoughts, rewards = [], []
    for row in pair:
        batch = collate([row], pad)
        whole = model.backbone.generate(**{name: batch[name] for name in _PLAIN_INPUTS}, generation_config=settings)
        thought = whole[0, batch["input_ids"].shape[1] :].tolist()
        thoughts.append(thought[:-1] if thought[-1] in model.end_ids else thought)
        again = collate([with_thought(model.processor, row, thoughts[-1])], pad)
        rewards.append(model.rewards(again).item())
    return Judged(thoughts, rewards, time.process_time() - cpu, time.perf_counter() - clock)


def never_end(model: DeScoreModel) -> None:
    """Let every thought go on to its limit."""
    model.never_sampled[sorted(model.end_ids)] = True
    model.end_ids = frozenset()


@torch.inference_mode()
def against_forward(model: DeScoreModel, pair: Pair, judged: Judged) -> tuple[float, float]:
    """Return the largest difference to a full forward's rewards, and the largest logit that greedy thoughts passed over."""
    difference = gap = 0.0
    for row, thought, reward in zip(pair, judged.thoughts, judged.rewards, strict=True):
        forward = model(collate([with_thought(model.processor, row, thought)], pad_token_id(model.processor)))
        difference = max(difference, abs(forward.rewards.item() - reward))
        before = forward.hidden[0, -2 - len(thought) : -2]  # these slots predict the thought
        logits = model.token_logits(before).float().masked_fill(model.never_sampled, -torch.inf)
        passed_over = logits.amax(-1) - logits.gather(-1, torch.tensor(thought, device=logits.device)[:, None]).squeeze(-1)
        gap = max(gap, passed_over.max().item())
    return difference, gap


def score_step(model: DeScoreModel, pair: Pair, steps: int) -> float:
    """Seconds of a score step over seconds of a decode step beside it, median over `steps` of both."""
    state = model.prefill(collate(pair, pad_token_id(model.processor)))
    ratios, decoding = [], model.think(state, steps + 1)
    next(decoding)
    for _ in range(steps):
        start = time.process_time()
        model.score(state)
        middle = time.process_time()
        next(decoding)
        ratios.append((middle - start) / (time.process_time() - middle))
    return statistics.median(ratios)


def compare(ours: DeScoreModel, plain: DeScoreModel, pairs: Sequence[Pair], limit: int, repeats: int) -> dict[str, object]:
    """Both ways in turn, `repeats` times over the pairs, after one that does not count."""
    turns = []
    for turn in range(repeats + 1):
        pair = pairs[turn % len(pairs)]
        turns.append((pair, one_pass(ours, pair, limit), plain_recipe(plain, pair, limit)))
    checks = [against_forward(plain, pair, judged) for pair, *both in turns[: len(pairs)] for judged in both]
    counted = [both for _, *both in turns[1:]]
    return {
        "prompt_tokens": max(len(row["input_ids"]) for pair in pairs for row in pair),
        "thought_tokens": round(
            statistics.mean(len(thought) for both in counted for one in both for thought in one.thoughts)
        ),
        "cpu_seconds": {
            "one_pass": round(statistics.median(one.cpu_seconds for one, _ in counted), 3),
            "plain": round(statistics.median(two.cpu_seconds for _, two in counted), 3),
        },
        "ratio": round(statistics.median(two.cpu_seconds / one.cpu_seconds for one, two in counted), 2),
        "clock_ratio": round(statistics.median(two.seconds / one.seconds for one, two in counted), 2),
        "score_step_in_decode_steps": round(score_step(ours, pairs[0], 50), 2),
        "same_thoughts": sum(one.thoughts == two.thoughts for one, two in counted) / len(counted),
        "reward_difference": max(difference for difference, _ in checks),
        "greedy_gap": max(gap for _, gap in checks),
    }


def gallery_pairs(judge: DeScore, count: int) -> list[Pair]:
    """Encode the first pairs of the gallery."""
    manifest, pairs = judge.manifest, json.loads((GALLERY / "pairs.json").read_text("utf-8"))[:count]
    clips = [read_clips([GALLERY / pair["a"], GALLERY / pair["b"]], manifest.frame_policy) for pair in pairs]
    return [
        [
            encode_prompt(judge.model.processor, c, pair["prompt"], manifest.frame_policy, manifest.prompt_version)
            for c in two
        ]
        for pair, two in zip(pairs, clips, strict=True)
    ]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--thought", type=int, default=300, help="tokens of every thought after 2,000 prompt tokens")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    judge = DeScore.from_pretrained("bundled")
    ours, plain = judge.model, as_transformers_has_it(judge.model)
    own = compare(ours, plain, gallery_pairs(judge, 4), judge.manifest.max_thought_tokens, 2 * options.repeats)
    for model in (ours, plain):
        never_end(model)
    long = compare(ours, plain, [[long_row(judge, seed, *_LONG) for seed in (1, 2)]], options.thought, options.repeats)
    machine = {"threads": options.threads, "cores": os.cpu_count()}
    print(json.dumps({**machine, "own prompts": own, "2,000 prompt tokens": long}))


if __name__ == "__main__":
    main()
