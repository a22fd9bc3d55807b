"""A dual-RL step from shared prefixes against the plain way: the prompt repeated for each rollout, its vision tower too.

    python -m benchmarks.dual_rl_step [--generations 8] [--thought 300] [--repeats 3]
    python -m benchmarks.dual_rl_step --generations 32 --memory-limit 3

Both ways do the whole step on the same pair and the same samples: sampling, reference log-probabilities, forward and
backward of GRPO + KL + Bradley-Terry, in float32. The vision tower is frozen, as the method has it in this stage. The plain
way samples with transformers' own layers, and for comparison (`plain_sample_own_steps`) with this project's decode step on
repeated prompts. `whole_update` goes forward and backward over all rollouts of the shared prefixes at once, without chunks.
The last line is JSON: seconds, their ratios, and the relative difference of the gradients.

With a limit of memory, in GB beside what is in use before, the update in chunks and the whole one run once under it (on
Linux): the JSON says which came to their end, and what each takes at its peak where it may.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from benchmarks.gpu.limited_memory import Growth, limited
from benchmarks.helpers.long_prompts import long_row
from benchmarks.helpers.plain_model import as_transformers_has_it
from descore.encode import Row, collate, pad_token_id
from descore.judge import DeScore
from trainer.data.vision_features import VisionFeatures
from trainer.objectives.dual_objective import DualObjective
from trainer.objectives.dual_objective_config import DualObjectiveConfig
from trainer.objectives.losses import bradley_terry, grpo, low_variance_kl
from trainer.objectives.rollout_batch import RolloutBatch, batch_logprobs
from trainer.rollouts.sampling import SampledThoughts, grouped, sample, uniforms
from trainer.rollouts.shared_prefix import Rollouts, pack_rollouts, rollout_forward

if TYPE_CHECKING:
    from descore.modeling.model import DeScoreModel, VisionOutputs

_ALL_AT_ONCE = 1 << 40  # a budget of tokens that every step fits into


def shared_sample(
    model: DeScoreModel, rows: Sequence[Row], config: DualObjectiveConfig, vision: VisionOutputs
) -> SampledThoughts:
    """One prefill a video, all rollouts in one batch."""
    limits = {"num_generations": config.num_generations, "max_tokens": config.max_tokens}
    return sample(model, rows, ["A", "B"], **limits, vision=vision)


def plain_sample(model: DeScoreModel, rows: Sequence[Row], config: DualObjectiveConfig) -> SampledThoughts:
    """Each rollout's prompt and video is read again; rollouts of a video still think in one batch."""
    ids: list[tuple[int, ...]] = []
    log_probs: list[tuple[float, ...]] = []
    for row, name in zip(rows, "AB", strict=True):
        state = model.prefill(collate([row] * config.num_generations, pad_token_id(model.processor)))
        chances = torch.stack([uniforms(f"{name}/{g}", config.max_tokens) for g in range(config.num_generations)])
        for _ in model.think(state, config.max_tokens, chances):
            pass
        ids += [tuple(one) for one in state.thoughts]
        log_probs += [tuple(one) for one in state.log_probs]
    size, cut, no_end = config.num_generations, [False] * len(ids), [None] * len(ids)
    return SampledThoughts(
        ids=grouped(ids, size),
        texts=grouped([""] * len(ids), size),
        ended=grouped(cut, size),
        ends=grouped(no_end, size),
        log_probs=grouped(log_probs, size),
    )


def plain_forward(model: DeScoreModel, row: Row, rollouts: Rollouts) -> tuple[torch.Tensor, torch.Tensor]:
    """Rewards (G,) and log-probabilities (G, T) of one video's rollouts, its whole prompt in each row."""
    repeated = collate([row] * rollouts.group, pad_token_id(model.processor))
    alone = Rollouts(rollouts.tokens, rollouts.mask, rollouts.lengths, 1)
    run = rollout_forward(model, repeated, alone)
    return run.rewards.flatten(), run.logprobs


def plain_update(model: DeScoreModel, rows: Sequence[Row], batch: RolloutBatch, config: DualObjectiveConfig) -> None:
    """Forward and backward over the repeated prompts, the reference pass included."""

    def both() -> tuple[list[torch.Tensor], torch.Tensor]:
        size, all_of = config.num_generations, batch.rollouts
        rewards, logprobs = [], []
        for side, row in enumerate(rows):
            part = slice(side * size, (side + 1) * size)
            own = Rollouts(all_of.tokens[part], all_of.mask[part], all_of.lengths[part], size)
            some, those = plain_forward(model, row, own)
            rewards.append(some)
            logprobs.append(those)
        return rewards, torch.cat(logprobs)

    with torch.no_grad():
        reference = both()[1]
    rewards, logprobs = both()
    mask = batch.rollouts.mask
    policy = grpo(logprobs, logprobs.detach(), batch.advantages, mask)
    kl = (low_variance_kl(logprobs, reference) * mask).sum() / mask.sum()
    preference = bradley_terry(rewards[0], rewards[1], batch.labels.expand_as(rewards[0]))
    (policy.loss + config.beta * kl + config.bt_weight * preference).backward()


def shared_update(model: DeScoreModel, batch: RolloutBatch, config: DualObjectiveConfig, budget: int) -> None:
    """Forward and backward from the shared prefixes, in chunks of `budget` tokens, the reference pass included."""
    batch.reference = batch_logprobs(model, batch, config, budget)
    DualObjective(model, config).backward(batch, budget=budget)


def build_rollouts(
    model: DeScoreModel, rows: Sequence[Row], sampled: SampledThoughts, config: DualObjectiveConfig
) -> RolloutBatch:
    """Give both ways the same rollouts, with fixed advantages: their values do not change the work."""
    count = len(rows) * config.num_generations
    return RolloutBatch(
        prompts=collate(list(rows), pad_token_id(model.processor)),
        vision=None,
        thoughts=sampled,
        rollouts=pack_rollouts(sampled.ids, sampled.ends, model.device),
        scores=[],
        advantages=torch.linspace(-1, 1, count),
        labels=torch.tensor([1]),
    )


def under_limit(
    model: DeScoreModel, updates: dict[str, Callable[[], None]], gigabytes: float
) -> dict[str, dict[str, object]]:
    """Say for each way of updating whether it ends with so much memory more than is in use now, and what it takes."""
    found: dict[str, dict[str, object]] = {}
    for name, update in updates.items():
        with Growth(model.device) as memory:
            update()
        gradients(model)
        ended = True
        with limited(model.device, gigabytes * 1e9):
            try:
                update()
            except (torch.OutOfMemoryError, RuntimeError, MemoryError) as error:
                if not isinstance(error, MemoryError) and "memory" not in str(error):
                    raise
                ended = False
        model.zero_grad(set_to_none=True)
        found[name] = {"peak_gb": round(memory.bytes / 1e9, 2), "ends_under_limit": ended}
    return found


def gradients(model: DeScoreModel) -> torch.Tensor:
    """All gradients as one vector; they are cleared."""
    flat = torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])
    model.zero_grad(set_to_none=True)
    return flat


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--generations", type=int, default=8)
    parser.add_argument("--thought", type=int, default=300, help="tokens of every thought")
    parser.add_argument("--frames", type=int, default=60, help="two frames are 64 tokens")
    parser.add_argument("--forward-tokens", type=int, default=16384, help="that go forward and backward at a time")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--memory-limit", type=float, help="GB that an update may take; no times are measured then")
    options = parser.parse_args()
    judge = DeScore.from_pretrained("bundled")
    model = judge.model
    model.backbone.base_model.visual.requires_grad_(False)
    model.end_ids = frozenset()  # thoughts of one length, so that both ways do the same work in every run
    config = DualObjectiveConfig(num_generations=options.generations, max_tokens=options.thought, beta=1e-5)
    rows = [long_row(judge, seed, options.frames) for seed in (1, 2)]
    sizes: dict[str, object] = {
        "prompt_tokens": len(rows[0]["input_ids"]),
        "thought_tokens": options.thought,
        "num_generations": options.generations,
    }
    if options.memory_limit:
        with tempfile.TemporaryDirectory() as folder:
            vision = VisionFeatures(model, Path(folder)).of(rows)
            batch = build_rollouts(model, rows, shared_sample(model, rows, config, vision), config)
            read = replace(batch, vision=vision)
            updates: dict[str, Callable[[], None]] = {
                "shared_update": lambda: shared_update(model, read, config, options.forward_tokens),
                "whole_update": lambda: shared_update(model, read, config, _ALL_AT_ONCE),
            }
            found = under_limit(model, updates, options.memory_limit)
        print(json.dumps({**sizes, "forward_tokens": options.forward_tokens, "limit_gb": options.memory_limit, **found}))
        return
    names = ("plain_sample", "plain_sample_own_steps", "plain_update", "shared_sample", "shared_update", "whole_update")
    times: dict[str, list[float]] = {name: [] for name in names}
    plain_model = as_transformers_has_it(model)
    for _ in range(options.repeats):
        with tempfile.TemporaryDirectory() as folder:
            start = time.monotonic()
            vision = VisionFeatures(model, Path(folder)).of(rows)
            sampled = shared_sample(model, rows, config, vision)
            times["shared_sample"].append(time.monotonic() - start)
        batch = build_rollouts(model, rows, sampled, config)
        start = time.monotonic()
        shared_update(model, replace(batch, vision=vision), config, options.forward_tokens)
        times["shared_update"].append(time.monotonic() - start)
        shared = gradients(model)
        start = time.monotonic()
        shared_update(model, replace(batch, vision=vision), config, _ALL_AT_ONCE)
        times["whole_update"].append(time.monotonic() - start)
        gradients(model)
        start = time.monotonic()
        same = plain_sample(plain_model, rows, config)
        times["plain_sample"].append(time.monotonic() - start)
        start = time.monotonic()
        plain_sample(model, rows, config)
        times["plain_sample_own_steps"].append(time.monotonic() - start)
        start = time.monotonic()
        plain_update(model, rows, batch, config)
        times["plain_update"].append(time.monotonic() - start)
        plain = gradients(model)
    seconds = {name: statistics.median(values) for name, values in times.items()}
    whole = {way: seconds[f"{way}_sample"] + seconds[f"{way}_update"] for way in ("plain", "shared")}
    print(
        json.dumps(
            {
                **sizes,
                "threads": torch.get_num_threads(),
                "cores": os.cpu_count(),
                "seconds": {name: round(value, 2) for name, value in seconds.items()},
                "update_ratio": round(seconds["plain_update"] / seconds["shared_update"], 2),
                "whole_over_chunks": round(seconds["whole_update"] / seconds["shared_update"], 2),
                "step_ratio": round(whole["plain"] / whole["shared"], 2),
                "step_ratio_own_steps": round(
                    (seconds["plain_sample_own_steps"] + seconds["plain_update"]) / whole["shared"], 2
                ),
                "same_samples": same.ids == sampled.ids,
                "gradient_difference": float((shared - plain).norm() / plain.norm()),
            }
        )
    )


if __name__ == "__main__":
    main()
