"""Pretraining of the bundled backbone, which learns to see and to judge ShapeWorld; stands in for Qwen3-VL's own.

Two kinds of batch, language-model loss on the assistant's turn: `describe` (a clip, one line of what it shows) and
`judge` (a prompt and a clip, a whole thought with its answer). First descriptions only, since they teach the eyes at
half the cost; then thoughts, in which the tokens that compare and judge weigh more, being few and hard. A clip meets its
own prompt or a fresh one that it follows wholly, partly or, more often than in the splits, not.

Matrices are optimised by Muon, everything else by AdamW; one schedule (warm-up, constant, linear decay) spans both.
"""

from __future__ import annotations

import json
import random
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from tqdm import tqdm

from trainer.engine.precision import Precision
from trainer.recipe.rendered_clips import sampled_times
from trainer.shapeworld.language import describe, write_prompt, write_thought
from trainer.shapeworld.pairs import draw_request_for, shape_pair

if TYPE_CHECKING:
    from trainer.recipe.batches import Batcher, TextBatch
    from trainer.shapeworld.scene import Scene

_PRECISION = Precision.of("auto", torch.device("cpu"))


@dataclass(frozen=True)
class PretrainConfig:
    """Settings of the pretraining.

    Attributes:
        describe_steps: steps on descriptions, which come first.
        judge_steps: steps on whole thoughts.
        describe_batch: clips of a step on descriptions.
        judge_batch: clips of a step on thoughts.
        muon_lr: peak rate of the matrices.
        adam_lr: peak rate of all other weights.
        weight_decay: of the matrices.
        warmup_steps: steps over which the rates rise.
        decay_share: last share of the steps, over which the rates fall.
        verdict_weight: weight in the loss of the tokens that compare and judge.
        seed: of the fresh weights and of every step's batch.
        save_every: steps between two saved states.
        evaluate_every: steps between two looks at held-out clips.
    """

    describe_steps: int = 700
    judge_steps: int = 1600
    describe_batch: int = 48
    judge_batch: int = 32
    muon_lr: float = 2e-3
    adam_lr: float = 1.5e-3
    weight_decay: float = 0.01
    warmup_steps: int = 60
    decay_share: float = 0.3
    verdict_weight: float = 3.0
    seed: int = 0
    save_every: int = 100
    evaluate_every: int = 200

    @property
    def steps(self) -> int:
        """Number of all steps."""
        return self.describe_steps + self.judge_steps


def pretrain(
    backbone: nn.Module, batcher: Batcher, clips: np.ndarray, held_out: np.ndarray, config: PretrainConfig, folder: Path
) -> None:
    """Train `backbone` in place, from `folder/pretrain.pt` on where an earlier run was interrupted.

    Args:
        clips: (pairs, 2, FRAMES, side, side, 3) uint8 of split train.
        held_out: the same of split validation.

    Raises:
        FloatingPointError: the loss is not finite.
    """
    folder.mkdir(parents=True, exist_ok=True)
    optimisers = build_optimisers(backbone, config.muon_lr, config.adam_lr, config.weight_decay)
    state = folder / "pretrain.pt"
    first = resume_state(state, backbone, optimisers)
    backbone.train()
    progress = tqdm(range(first, config.steps), initial=first, total=config.steps, desc="pretrain", mininterval=10)
    with (folder / "pretrain.jsonl").open("a", buffering=1) as log:
        for step in progress:
            set_learning_rate(optimisers, schedule(step, config.steps, config.warmup_steps, config.decay_share))
            started = time.monotonic()
            loss = language_loss(backbone, training_batch(step, batcher, clips, config), config.verdict_weight)
            update(backbone, loss, optimisers)
            row = {"step": step, "loss": loss.item(), "seconds": round(time.monotonic() - started, 2)}
            # Later the backbone writes thoughts, and one-line descriptions no longer show what it sees.
            if (step + 1) % config.evaluate_every == 0 and step < config.describe_steps:
                row["seen"] = observation_accuracy(backbone, batcher, held_out)
                progress.set_postfix({"loss": f"{row['loss']:.3f}"} | row["seen"])
            log.write(json.dumps(row) + "\n")
            if (step + 1) % config.save_every == 0 or step + 1 == config.steps:
                save_state(state, step + 1, backbone, optimisers)


def build_optimisers(module: nn.Module, muon_lr: float, adam_lr: float, weight_decay: float) -> list[torch.optim.Optimizer]:
    """Build Muon for the matrices inside the blocks, AdamW for embeddings, norms, biases and the patch convolution."""
    matrices: list[nn.Parameter] = []
    others: list[nn.Parameter] = []
    for name, parameter in module.named_parameters():
        if parameter.requires_grad:
            inner = parameter.ndim == 2 and "embed" not in name and "lm_head" not in name
            (matrices if inner else others).append(parameter)
    return [
        torch.optim.Muon(matrices, lr=muon_lr, weight_decay=weight_decay, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW(others, lr=adam_lr, weight_decay=0.0, betas=(0.9, 0.98)),
    ]


def schedule(step: int, steps: int, warmup_steps: int, decay_share: float) -> float:
    """Return a step's share of the peak rate: linear warm-up, constant, linear decay to 2 % over the last `decay_share`."""
    warm = min(1.0, (step + 1) / warmup_steps) if warmup_steps else 1.0
    left = (steps - step) / (decay_share * steps)
    return warm * max(0.02, min(1.0, left))


def set_learning_rate(optimisers: list[torch.optim.Optimizer], share: float) -> None:
    """Set the rate of every group to `share` of its peak."""
    for optimiser in optimisers:
        for group in optimiser.param_groups:
            group["lr"] = share * group.setdefault("peak_lr", group["lr"])


def update(module: nn.Module, loss: torch.Tensor, optimisers: list[torch.optim.Optimizer]) -> None:
    """Take one optimizer step with clipped gradients.

    Raises:
        FloatingPointError: the loss is not finite; the weights were not touched.
    """
    if not torch.isfinite(loss):
        raise FloatingPointError(f"the loss is {loss.item()}; the last checkpoint is intact, lower the learning rate")
    for optimiser in optimisers:
        optimiser.zero_grad(set_to_none=True)
    loss.backward()
    nn.utils.clip_grad_norm_(module.parameters(), 1.0)
    for optimiser in optimisers:
        optimiser.step()


def language_loss(backbone: Any, batch: TextBatch, verdict_weight: float = 1.0) -> torch.Tensor:
    """Return the weighted mean cross entropy of the target tokens; logits are made for those positions alone."""
    targets = batch.targets[:, 1:]
    with _PRECISION.step(), _PRECISION.autocast():
        hidden = backbone.model(**batch.inputs, use_cache=False).last_hidden_state
        logits = backbone.lm_head(hidden[:, :-1][targets])
    losses = F.cross_entropy(logits.float(), batch.inputs["input_ids"][:, 1:][targets], reduction="none")
    weights = 1 + (verdict_weight - 1) * batch.verdicts[:, 1:][targets].float()
    return (losses * weights).sum() / weights.sum()


def training_batch(step: int, batcher: Batcher, clips: np.ndarray, config: PretrainConfig) -> TextBatch:
    """Draw the batch of a step from the step's own seed, so that a resumed run sees what an unbroken one does."""
    rng = random.Random(f"pretrain/{config.seed}/{step}")
    describing = step < config.describe_steps
    count = config.describe_batch if describing else config.judge_batch
    frames, turns, replies = [], [], []
    for index, side in ((rng.randrange(len(clips)), rng.randrange(2)) for _ in range(count)):
        pair = shape_pair("train", index)
        scene = pair.scenes[side]
        frames.append(clips[index, side])
        times = sampled_times(scene)
        if describing:
            turns.append(batcher.describe_turns(times))
            replies.append(describe(scene))
            continue
        request = pair.request if rng.random() < 0.3 else draw_request_for(scene, rng)
        turns.append(batcher.judge_turns(write_prompt(request, rng), times))
        replies.append(write_thought(request, scene, rng))
    return batcher.build(np.stack(frames), turns, replies, end=True)


def observation_accuracy(backbone: Any, batcher: Batcher, clips: np.ndarray, count: int = 128) -> dict[str, float]:
    """Return, for each attribute, the share of held-out clips whose description names it right, token by token."""
    backbone.eval()
    scenes = [shape_pair("validation", index // 2).scenes[index % 2] for index in range(count)]
    frames = clips[: count // 2].reshape(count, *clips.shape[2:])
    replies = [describe(scene) for scene in scenes]
    batch = batcher.build(frames, [batcher.describe_turns(sampled_times(scene)) for scene in scenes], replies, end=False)
    with torch.no_grad(), _PRECISION.autocast():
        hidden = backbone.model(**batch.inputs, use_cache=False).last_hidden_state
        right = backbone.lm_head(hidden[:, :-1]).argmax(-1) == batch.inputs["input_ids"][:, 1:]
    backbone.train()
    hits: dict[str, list[bool]] = {}
    for row, (scene, reply) in enumerate(zip(scenes, replies, strict=True)):
        for attribute, tokens in _attribute_tokens(batcher.tokenizer, scene, reply):
            hits.setdefault(attribute, []).append(bool(right[row][tokens].all()))
    return {attribute: round(sum(values) / len(values), 3) for attribute, values in hits.items()}


def _attribute_tokens(tokenizer: Any, scene: Scene, reply: str) -> Iterator[tuple[str, list[int]]]:
    """Yield each attribute with the negative positions, in a left-padded row of predictions, of the tokens that spell it."""
    offsets = tokenizer(reply, add_special_tokens=False, return_offsets_mapping=True).offset_mapping
    search = 0
    for attribute in ("colour", "shape", "dynamics", "light", "place", "camera", "style"):
        begin = reply.index(" " + getattr(scene, attribute), search)
        search = begin + 1 + len(getattr(scene, attribute))
        yield attribute, [i - len(offsets) for i, (a, b) in enumerate(offsets) if a < search and b > begin + 1]


def save_state(path: Path, step: int, module: nn.Module, optimisers: Sequence[torch.optim.Optimizer]) -> None:
    """Write weights, optimisers and the number of finished steps; a reader finds the old file or the new one."""
    partial = path.with_suffix(".partial")
    states = [optimiser.state_dict() for optimiser in optimisers]
    torch.save({"step": step, "module": module.state_dict(), "optimisers": states}, partial)
    partial.replace(path)


def resume_state(path: Path, module: nn.Module, optimisers: Sequence[torch.optim.Optimizer]) -> int:
    """Load the state that `save_state` wrote, if any, and return the first step that is still to do."""
    if not path.exists():
        return 0
    state = torch.load(path, weights_only=True)
    module.load_state_dict(state["module"])
    for optimiser, saved in zip(optimisers, state["optimisers"], strict=True):
        optimiser.load_state_dict(saved)
    return int(state["step"])
