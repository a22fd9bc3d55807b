"""The same clips judged by the plain recipe, by the transformers engine and by vLLM: seconds, thoughts and rewards.

    .venv-vllm/bin/python -m benchmarks.engines [--clips 96] [--turns 3]        # after `make vllm`

Distinct clips of ShapeWorld's test split, each with its prompt, in mode think; all three ways begin with the files.

- plain: what the field does. One clip at a time: frames, transformers' own `generate`, and a second full forward over video,
  prompt and thought for the reward.
- transformers: `DeScore.score`, with batches, one pass, and clips that are read together.
- vllm: `DeScore.score` with `engine="vllm"`, all rows at once; left out where vLLM is not installed.

The ways take turns; ratios are medians over the turns. Thoughts and rewards are compared with those of the transformers
engine. For vLLM also: the share of its time that the second requests take, those that read the reward, measured as the
difference to a turn that only thinks. The last line is JSON.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any
from unittest import mock

import torch

from benchmarks.helpers.plain_model import as_transformers_has_it
from benchmarks.judging_speed import plain_recipe
from descore.engines.vllm_scheduler import Tokens
from descore.judge import DeScore
from descore.video import read_clip
from trainer.shapeworld.pairs import shape_pairs
from trainer.shapeworld.write_dataset import write_clip

_BATCH = 16


@dataclass(frozen=True)
class Turn:
    """What one way came to, and the seconds it took."""

    thoughts: list[str]
    rewards: list[float]
    seconds: float


def make_clips(folder: Path, count: int) -> tuple[list[str], list[str]]:
    """Write the first clips of the test split; return their paths and prompts."""
    drawn = islice(((pair, scene) for pair in shape_pairs("test", count) for scene in pair.scenes), count)
    videos, prompts = [], []
    for index, (pair, scene) in enumerate(drawn):
        write_clip(scene, folder / f"{index}.mp4")
        videos.append(str(folder / f"{index}.mp4"))
        prompts.append(pair.prompt)
    return videos, prompts


def plainly(judge: DeScore, videos: Sequence[str], prompts: Sequence[str]) -> Turn:
    """Judge one clip after the other by the plain recipe; `judge` has transformers' own layers."""
    begin, model, manifest = time.perf_counter(), judge.model, judge.manifest
    thoughts, rewards = [], []
    for video, prompt in zip(videos, prompts, strict=True):
        row = judge.engine.encode(read_clip(video, manifest.frame_policy), prompt)
        judged = plain_recipe(model, [row], manifest.max_thought_tokens)
        thoughts.append(model.processor.tokenizer.decode(judged.thoughts[0]))
        rewards += judged.rewards
    return Turn(thoughts, rewards, time.perf_counter() - begin)


def by_engine(judge: DeScore, videos: Sequence[str], prompts: Sequence[str], batch_size: int) -> Turn:
    """Judge by an engine."""
    begin = time.perf_counter()
    judged = judge.score(videos, prompts, batch_size=batch_size)
    seconds = time.perf_counter() - begin
    return Turn([each.thought for each in judged], [float(each.reward or 0.0) for each in judged], seconds)


def without_rewards(judge: DeScore, videos: Sequence[str], prompts: Sequence[str]) -> float:
    """Return the seconds that vLLM takes for the thoughts alone."""
    engine: Any = judge.engine

    nothing = dict.fromkeys((engine.export.reward_id, engine.export.query_id), 0.0)

    def think_only(calls: Any, key: int, _rollout: Any) -> None:
        calls.tokens.put(Tokens(key, (engine.export.reward_id,), (nothing,), None, finished=True))

    with mock.patch.object(engine, "_ask_reward", think_only):
        return by_engine(judge, videos, prompts, len(videos)).seconds


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=int, default=96)
    parser.add_argument("--turns", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        os.environ["DESCORE_CACHE"] = str(folder / "cache")
        videos, prompts = make_clips(folder, options.clips)
        own = DeScore.from_pretrained("bundled", device="cpu", dtype="float32")
        plain = DeScore(as_transformers_has_it(own.model), own.manifest)
        ways: dict[str, Callable[[], Turn]] = {
            "plain": lambda: plainly(plain, videos, prompts),
            "transformers": lambda: by_engine(own, videos, prompts, _BATCH),
        }
        vllm = None
        if importlib.util.find_spec("vllm") is not None:
            vllm = DeScore.from_pretrained("bundled", dtype="float32", engine="vllm")
            served = vllm
            ways["vllm"] = lambda: by_engine(served, videos, prompts, len(videos))
        turns = _take_turns(ways, options.turns)
        figures = _figures(own, turns, options.clips)
        if vllm is not None:
            thinking = [without_rewards(vllm, videos, prompts) for _ in range(options.turns)]
            whole = statistics.median(turn.seconds for turn in turns["vllm"])
            figures["second_request_share"] = round(max(0.0, 1 - statistics.median(thinking) / whole), 3)
            figures["vllm_version"] = vllm.engine.label
            vllm.close()
        print(json.dumps(figures))


def _take_turns(ways: dict[str, Callable[[], Turn]], count: int) -> dict[str, list[Turn]]:
    """Let the ways take turns, after one that does not count."""
    turns: dict[str, list[Turn]] = {way: [] for way in ways}
    for number in range(count + 1):
        for way, judge in ways.items():
            turn = judge()
            print(f"turn {number}: {way} {turn.seconds:.2f} s", flush=True)
            if number:
                turns[way].append(turn)
    return turns


def _figures(judge: DeScore, turns: dict[str, list[Turn]], clips: int) -> dict[str, Any]:
    reference = turns["transformers"][0]
    tokens = sum(len(judge.model.processor.tokenizer(each)["input_ids"]) for each in reference.thoughts)
    figures: dict[str, Any] = {"clips": clips, "turns": len(turns["plain"]), "thought_tokens": tokens}
    figures["threads"] = torch.get_num_threads()
    for way, each in turns.items():
        seconds = statistics.median(turn.seconds for turn in each)
        figures[way] = {
            "seconds": round(seconds, 2),
            "tokens_per_second": round(tokens / seconds),
            "same_thoughts": sum(one == other for one, other in zip(each[0].thoughts, reference.thoughts, strict=True)),
            "largest_reward_difference": max(
                abs(one - other)
                for turn in each
                for one, other, thought, same in zip(
                    turn.rewards, reference.rewards, turn.thoughts, reference.thoughts, strict=True
                )
                if thought == same
            ),
        }
    for quick, slow in (("transformers", "plain"), ("vllm", "transformers")):
        if quick in turns:
            ratios = [two.seconds / one.seconds for one, two in zip(turns[quick], turns[slow], strict=True)]
            figures[f"{quick}_over_{slow}"] = round(statistics.median(ratios), 2)
    return figures


if __name__ == "__main__":
    main()
