"""How much do neighbours and the cache move a reward, in float32 and in bfloat16? One JSON line.

    python -m benchmarks.bf16_drift --checkpoint bundled --prompt "a red circle bounces" A.mp4 B.mp4 C.mp4

In exact arithmetic a video's reward is the same alone or beside others, and from the generation's cache or
from a clean forward. Float32 keeps that to about 1e-6; bfloat16 rounds each step, and this says how far that
carries, in raw reward and in units of the rewards' own spread, and in the log-probabilities of the thoughts' tokens.
Thoughts are written by the float32 model and
then given to both, so that only the arithmetic differs; `same_thought` says how often bfloat16's own greedy
thought is the same alone and beside others.
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch

from descore import DeScore
from descore.encode import collate, encode_prompt, pad_token_id, with_thought
from descore.video import read_clips

if TYPE_CHECKING:
    from descore.modeling.model import DeScoreModel

Row = dict[str, torch.Tensor]


def measure(checkpoint: str, videos: Sequence[str], prompt: str) -> dict[str, Any]:
    """Measure the drift of one checkpoint over some videos of one prompt.

    Returns:
        For each dtype the largest differences over the videos; `spread` is the standard deviation of the
        float32 rewards.
    """
    result: dict[str, Any] = {"checkpoint": checkpoint, "videos": len(videos)}
    thoughts: list[list[int]] = []
    exact: list[float] = []
    exact_log_probs = torch.empty(0)
    for dtype in (torch.float32, torch.bfloat16):
        # Loaded again, since casting a loaded model would also round its rotary frequencies.
        judge = DeScore.from_pretrained(checkpoint, dtype=dtype)
        model, manifest = judge.model, judge.manifest
        clips = read_clips(videos, manifest.frame_policy)
        bare = [
            encode_prompt(model.processor, clip, prompt, manifest.frame_policy, manifest.prompt_version) for clip in clips
        ]
        together = _greedy(model, bare, manifest.max_thought_tokens)
        apart = [_greedy(model, [row], manifest.max_thought_tokens)[0] for row in bare]
        thoughts = thoughts or together
        rows = [with_thought(model.processor, row, ids) for row, ids in zip(bare, thoughts, strict=True)]
        clean, log_probs = _clean(model, rows, thoughts)
        if not exact:
            exact, exact_log_probs = clean, log_probs
        moved = (log_probs - exact_log_probs).abs()
        alone = [model.score(model.prefill(_batch(model, [row]))).item() for row in rows]
        beside = model.score(model.prefill(_batch(model, rows))).tolist()
        result[str(dtype).removeprefix("torch.")] = {
            "cache_against_forward": _largest(alone, clean),
            "beside_against_alone": _largest(beside, alone),
            "against_float32_forward": _largest(clean, exact),
            "log_probs_against_float32": {"mean": moved.mean().item(), "largest": moved.max().item()},
            "same_thought": sum(a == b for a, b in zip(together, apart, strict=True)) / len(rows),
        }
    return {**result, "spread": statistics.pstdev(exact)}


def _batch(model: DeScoreModel, rows: Sequence[Row]) -> Row:
    return collate(rows, pad_token_id(model.processor))


@torch.inference_mode()
def _clean(model: DeScoreModel, rows: Sequence[Row], thoughts: Sequence[Sequence[int]]) -> tuple[list[float], torch.Tensor]:
    """Return rewards, and log-probabilities of all tokens of the thoughts, by a forward of each row alone."""
    rewards, log_probs = [], [torch.empty(0)]
    for row, thought in zip(rows, thoughts, strict=True):
        forward = model(_batch(model, [row]))
        before = forward.hidden[0, -2 - len(thought) : -2]  # these slots predict the thought
        tokens = torch.tensor(thought, dtype=torch.long, device=before.device)
        chances = model.token_logits(before).float().log_softmax(-1).gather(-1, tokens[:, None])
        rewards.append(forward.rewards.item())
        log_probs.append(chances.flatten().cpu())
    return rewards, torch.cat(log_probs)


@torch.inference_mode()
def _greedy(model: DeScoreModel, rows: Sequence[Row], limit: int) -> list[list[int]]:
    state = model.prefill(_batch(model, rows))
    for _ in model.think(state, limit):
        pass
    return state.thoughts


def _largest(first: Sequence[float], second: Sequence[float]) -> float:
    return max(abs(a - b) for a, b in zip(first, second, strict=True))


def main() -> None:
    """Measure and print one line of JSON."""
    parser = argparse.ArgumentParser(description="Reward drift by neighbours and cache, float32 against bfloat16.")
    parser.add_argument("videos", nargs="+", metavar="VIDEO")
    parser.add_argument("--prompt", required=True)
    parser.add_argument("--checkpoint", default="bundled")
    options = parser.parse_args()
    print(json.dumps(measure(options.checkpoint, options.videos, options.prompt)))


if __name__ == "__main__":
    main()
