"""Memory of the rollouts' forward and backward against their number and their length, measured and as the plan has it.

    python -m benchmarks.rollout_memory [--forward-tokens 16384] [--generations 2 8 32] [--thoughts 300 4096]

A pair of the bundled checkpoint goes forward and backward with gradient checkpointing, in float32, under a budget of tokens
and, where `--whole-below` allows it, all at once. Bytes are those of all tensors that exist at a time beside weights and
their gradients (`benchmarks.helpers.peak_memory`). Beside them stands what `trainer.planning` computes for the same, and for
Qwen3-VL-8B with the preset's adapter at its longest prompts. The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import time
from typing import TYPE_CHECKING, Any

import torch

from benchmarks.helpers.long_prompts import long_row
from benchmarks.helpers.peak_memory import PeakBytes
from descore.encode import Batch, collate, pad_token_id
from descore.judge import DeScore
from descore.modeling.kv_cache import token_bytes
from descore.modeling.transformers_versions import checkpoint_activations
from trainer.config import load_preset
from trainer.planning.estimate import logit_bytes
from trainer.planning.layer_costs import LayerCosts, language_costs, meta_backbone
from trainer.planning.plan import prepared_backbone
from trainer.planning.rollout_memory import RolloutShape, rollout_pass
from trainer.rollouts.in_chunks import backward_in_chunks, plan_chunks
from trainer.rollouts.shared_prefix import Rollouts, pack_rollouts

if TYPE_CHECKING:
    from collections.abc import Sequence

    from descore.modeling.model import DeScoreModel

_LARGE = "qwen3-vl-8b-1gpu"


def build_prompts(judge: DeScore, frames: int) -> Batch:
    """Encode two long prompts."""
    return collate([long_row(judge, seed, frames) for seed in (1, 2)], pad_token_id(judge.model.processor))


def checkpointed(model: DeScoreModel) -> DeScoreModel:
    """Let the model train as the presets of large ones do: the tower frozen, each layer computed again in the backward."""
    model.backbone.base_model.visual.requires_grad_(False)
    model.backbone.train()
    checkpoint_activations(model.backbone)
    return model


def build_rollouts(model: DeScoreModel, generations: int, thought: int) -> Rollouts:
    """Make rollouts of one length for each of two videos; which tokens they have does not matter here."""
    draw = torch.Generator().manual_seed(0)
    ids = [[torch.randint(10, 200, (thought,), generator=draw).tolist() for _ in range(generations)] for _ in range(2)]
    return pack_rollouts(ids, [[None] * generations] * 2, model.device)


def measured_bytes(model: DeScoreModel, prompts: Batch, rollouts: Rollouts, budget: int | None) -> int:
    """Return the most bytes that a forward and backward hold beside weights, their gradients and what goes in."""
    inputs = [value for value in prompts.values() if isinstance(value, torch.Tensor)]
    known = [*model.parameters(), *model.buffers(), *inputs, rollouts.tokens, rollouts.mask]
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.grad = torch.zeros_like(parameter)
            known.append(parameter.grad)
    with PeakBytes(known) as peak:
        backward_in_chunks(
            model,
            prompts,
            rollouts,
            plan_chunks(rollouts, budget),
            lambda logprobs, _rows, _span: logprobs.sum(),
            lambda rewards: rewards.sum(),
        )
    return peak.bytes


def planned_bytes(backbone: Any, costs: LayerCosts, shape: RolloutShape) -> float:
    """Return what the plan computes for the same."""
    cache = token_bytes(backbone.config.get_text_config(), costs.itemsize)
    logits = logit_bytes(backbone, shape.slots, costs.itemsize)
    return rollout_pass(costs, shape, cache_bytes=cache, logit_bytes=logits, checkpointing=True).peak


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--generations", type=int, nargs="+", default=[2, 8, 32])
    parser.add_argument("--thoughts", type=int, nargs="+", default=[300, 4096], help="tokens of every thought")
    parser.add_argument("--forward-tokens", type=int, default=16384, help="that go forward and backward at a time")
    parser.add_argument("--frames", type=int, default=16, help="two frames are 64 tokens")
    parser.add_argument("--whole-below", type=int, default=20_000, help="slots up to which all at once is measured, too")
    options = parser.parse_args(arguments)
    judge = DeScore.from_pretrained("bundled")
    model = checkpointed(judge.model)
    prompts = build_prompts(judge, options.frames)
    small, config = meta_backbone("bundled", torch.float32), load_preset(_LARGE)
    large = prepared_backbone(config)
    small_costs, large_costs = language_costs(small, torch.float32), language_costs(large)
    cells = []
    for thought in options.thoughts:
        for generations in options.generations:
            rollouts, began = build_rollouts(model, generations, thought), time.monotonic()
            shape = RolloutShape(2, prompts["input_ids"].shape[1], generations, thought, options.forward_tokens)
            whole = RolloutShape(2, prompts["input_ids"].shape[1], generations, thought, None)
            longest = RolloutShape(2, config.dual_rl.max_prompt_tokens, generations, thought, options.forward_tokens)
            at_once = RolloutShape(2, config.dual_rl.max_prompt_tokens, generations, thought, None)
            measured = measured_bytes(model, prompts, rollouts, options.forward_tokens)
            cell = {
                "num_generations": generations,
                "thought_tokens": thought,
                "measured_mb": round(measured / 1e6),
                "planned_mb": round(planned_bytes(small, small_costs, shape) / 1e6),
                "whole_measured_mb": round(measured_bytes(model, prompts, rollouts, None) / 1e6)
                if whole.slots <= options.whole_below
                else None,
                "whole_planned_mb": round(planned_bytes(small, small_costs, whole) / 1e6),
                "8b_planned_gb": round(planned_bytes(large, large_costs, longest) / 1e9, 1),
                "8b_whole_planned_gb": round(planned_bytes(large, large_costs, at_once) / 1e9, 1),
                "seconds": round(time.monotonic() - began, 1),
            }
            print(json.dumps(cell), flush=True)
            cells.append(cell)
    print(
        json.dumps(
            {"forward_tokens": options.forward_tokens, "prompt_tokens": prompts["input_ids"].shape[1], "cells": cells}
        )
    )


if __name__ == "__main__":
    main()
