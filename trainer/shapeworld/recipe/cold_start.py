"""Stage 1 for the bundled checkpoint: Bradley-Terry on pairs with thoughts, with random CoT masking.

With p = 0.5 per pair the whole thought of BOTH videos is dropped, so that the scoring module learns to use video and
prompt as well as the reasoning, and can score without thinking. Half of the thoughts are the reference, half were sampled
from the backbone itself beforehand, errors included, since at inference it reads its own.

All weights of this small backbone are trained, not an adapter, so its ability to think would wash out; a small
language-model loss on the reference thoughts anchors it (the method itself, with LoRA on a large backbone, has none).
"""

from __future__ import annotations

import json
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F
from tqdm import tqdm

from trainer.engine.cpu_attention import plain_cpu_attention
from trainer.objectives.losses import bradley_terry
from trainer.shapeworld.pairs import ShapePair, shape_pair
from trainer.shapeworld.recipe.pretrain import build_optimisers, schedule, set_learning_rate, update
from trainer.shapeworld.recipe.rendered_clips import sampled_times
from trainer.shapeworld.recipe.resume import resume_state, save_state
from trainer.shapeworld.scene import SIGN

if TYPE_CHECKING:
    from descore.modeling.model import DeScoreModel
    from trainer.shapeworld.recipe.batches import Batcher, TextBatch

# Pairs that think at the same time.
_THINKING = 32


@dataclass(frozen=True)
class ColdStartConfig:
    """Settings of the cold start; `pairs_per_step` pairs make one step."""

    steps: int = 240
    pairs_per_step: int = 16
    muon_lr: float = 4e-4
    adam_lr: float = 4e-4
    scoring_lr: float = 2e-3
    anchor_weight: float = 0.2
    mask_probability: float = 0.5
    own_thoughts_pairs: int = 600
    warmup_steps: int = 20
    decay_share: float = 0.6
    seed: int = 0
    save_every: int = 100


def collect_thoughts(
    model: DeScoreModel, batcher: Batcher, clips: np.ndarray, count: int, path: Path, max_tokens: int, first: int = 0
) -> list[tuple[str, str]]:
    """The model's own sampled thoughts (temperature 1) for both clips of `count` training pairs.

    Args:
        clips: of these pairs, the one at index `first` in front.
        path: where they are kept, one JSON line a pair, appended batch by batch: an interrupted call goes on.
    """
    written = path.read_text("utf-8").splitlines(keepends=True) if path.exists() else []
    lines = [line.rstrip("\n") for line in written if line.endswith("\n")]
    if len(lines) < count:
        del lines[len(lines) // _THINKING * _THINKING :]  # a batch's chances belong to its first pair
    if len(lines) < len(written):  # killed in the middle of a batch
        path.write_text("".join(line + "\n" for line in lines), "utf-8")
    with path.open("a", encoding="utf-8") as file:
        for start in tqdm(range(len(lines), count, _THINKING), desc="thoughts", mininterval=10):
            stop = min(start + _THINKING, count)
            known = [shape_pair("train", first + place) for place in range(start, stop)]
            batch = _pair_batch(batcher, clips[start:stop], known, [("", "")] * len(known))
            generator = torch.Generator().manual_seed(first + start)
            uniforms = torch.rand(2 * len(known), max_tokens, generator=generator, dtype=torch.float64)
            state = model.prefill(batch.inputs)
            for _ in model.think(state, max_tokens, uniforms):
                pass
            texts = batcher.tokenizer.batch_decode(state.thoughts)
            for both in zip(texts[::2], texts[1::2], strict=True):
                lines.append(json.dumps(both))
                file.write(lines[-1] + "\n")
            file.flush()
    return [tuple(json.loads(line)) for line in lines[:count]]


def cold_start(
    model: DeScoreModel,
    batcher: Batcher,
    clips: np.ndarray,
    own_thoughts: Sequence[tuple[str, str]],
    config: ColdStartConfig,
    folder: Path,
) -> None:
    """Train `model` in place; goes on from `folder/cold_start.pt` where an earlier run was interrupted."""
    assert model.scoring is not None
    model.scoring.requires_grad_(False)
    optimisers = build_optimisers(model, config.muon_lr, config.adam_lr, 0.0)
    model.scoring.requires_grad_(True)
    optimisers.append(torch.optim.AdamW(model.scoring.parameters(), lr=config.scoring_lr, weight_decay=0.0))
    state = folder / "cold_start.pt"
    first = resume_state(state, model, optimisers)
    model.train()
    progress = tqdm(range(first, config.steps), initial=first, total=config.steps, desc="cold start", mininterval=10)
    with (folder / "cold_start.jsonl").open("a", buffering=1) as log:
        for step in progress:
            set_learning_rate(optimisers, schedule(step, config.steps, config.warmup_steps, config.decay_share))
            started = time.monotonic()
            loss, row = _loss(model, batcher, clips, own_thoughts, config, step)
            update(model, loss, optimisers)
            log.write(json.dumps({"step": step, **row, "seconds": round(time.monotonic() - started, 2)}) + "\n")
            progress.set_postfix(row)
            if (step + 1) % config.save_every == 0 or step + 1 == config.steps:
                save_state(state, step + 1, model, optimisers)
    model.eval()


def _loss(
    model: DeScoreModel,
    batcher: Batcher,
    clips: np.ndarray,
    own_thoughts: Sequence[tuple[str, str]],
    config: ColdStartConfig,
    step: int,
) -> tuple[torch.Tensor, dict[str, float]]:
    rng = random.Random(f"cold-start/{config.seed}/{step}")
    known = [shape_pair("train", rng.randrange(len(clips))) for _ in range(config.pairs_per_step)]
    thoughts, anchored = [], []
    for one in known:
        index = int(one.identity.rsplit("-", 1)[1])
        masked = rng.random() < config.mask_probability
        own = index < len(own_thoughts) and rng.random() < 0.5
        anchored.append(not masked and not own)
        thoughts.append(("", "") if masked else own_thoughts[index] if own else one.thoughts)
    indices = [int(one.identity.rsplit("-", 1)[1]) for one in known]
    batch = _pair_batch(batcher, clips[indices], known, thoughts)
    with torch.autocast("cpu", torch.bfloat16), plain_cpu_attention():
        forward = model.forward(batch.inputs)
        targets = batch.targets[:, 1:] & torch.tensor(anchored).repeat_interleave(2)[:, None]
        logits = model.token_logits(forward.hidden[:, :-2][targets])
    anchor = F.cross_entropy(logits.float(), batch.inputs["input_ids"][:, 1:][targets]) if targets.any() else 0.0
    labels = torch.tensor([SIGN[one.label] for one in known], dtype=torch.float32)
    reward_a, reward_b = forward.rewards[::2], forward.rewards[1::2]
    preference = bradley_terry(reward_a, reward_b, labels)
    right = (labels * (reward_a - reward_b) > 0)[labels != 0].float()
    row = {
        "loss": preference.item(),
        "anchor": float(torch.as_tensor(anchor).detach()),
        "accuracy": right.mean().item() if len(right) else 0.0,
    }
    return preference + config.anchor_weight * anchor, {name: round(value, 4) for name, value in row.items()}


def _pair_batch(
    batcher: Batcher, clips: np.ndarray, known: Sequence[ShapePair], thoughts: Sequence[tuple[str, str]]
) -> TextBatch:
    """Rows A, B, A, B, ...; no end token, since the query token takes its place. clips: of these pairs, in this order."""
    frames, turns, replies = [], [], []
    for one, clip, both in zip(known, clips, thoughts, strict=True):
        for side in (0, 1):
            frames.append(clip[side])
            turns.append(batcher.judge_turns(one.prompt, sampled_times(one.scenes[side])))
            replies.append(both[side])
    return batcher.build(np.stack(frames), turns, replies, end=False)
