"""Rollouts in one differentiable forward, with the prefix of each video computed once.

All rollouts of a video share instruction, prompt and video. Computing that prefix G times is what makes RL on videos slow;
here it is computed once, WITH gradient, and every rollout continues from it:

    run = rollout_forward(model, prompts, rollouts)
    run.rewards       # (V, G), differentiable, from the query token of each rollout
    run.logprobs      # (V * G, T), of the thought's tokens and its end token

A test compares values and gradients with the plain repeated prompt. No cache takes part, so gradient checkpointing works.
Backbones whose attention can't take a shared prefix keep a cache, expanded to G rows, through which gradients flow too.

Shapes: V videos, G rollouts a video, N = V * G, P slots of prefix, T tokens of the longest rollout, H channels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch.utils.checkpoint import checkpoint
from transformers import DynamicCache

from descore.modeling.layer_states import own_states
from descore.modeling.prefix_attention import PrefixStore, takes_prefixes

if TYPE_CHECKING:
    from descore.encode import Batch
    from descore.modeling.model import DeScoreModel, VisionOutputs

ROWS_OF_LOGITS = 1024  # tokens whose logits over the vocabulary exist at a time


@dataclass
class Rollouts:
    """Sampled thoughts in tensors.

    Attributes:
        tokens: (N, T), right-padded. The sampled end token follows each thought that ended by itself.
        mask: (N, T), 1 on tokens to learn from, end tokens included.
        lengths: (N,) tokens of each thought, without the end token.
        group: G.
    """

    tokens: torch.Tensor
    mask: torch.Tensor
    lengths: torch.Tensor
    group: int


@dataclass
class RolloutForward:
    """Result of the forward: rewards (V, G) float32, and logprobs (N, T) float32, zero outside the mask."""

    rewards: torch.Tensor
    logprobs: torch.Tensor


def pack_rollouts(
    thoughts: Sequence[Sequence[Sequence[int]]],
    ends: Sequence[Sequence[int | None]],
    device: torch.device,
) -> Rollouts:
    """Pack V x G thoughts into tensors.

    Args:
        ends: the end token that was sampled after each; None where none was, so that none is learnt from.

    Raises:
        ValueError: the videos have different numbers of rollouts.
    """
    group = len(thoughts[0])
    if any(len(of_video) != group for of_video in thoughts):
        raise ValueError("every video needs the same number of rollouts")
    flat = [list(ids) for of_video in thoughts for ids in of_video]
    last = [end for of_video in ends for end in of_video]
    length = max(len(ids) + 1 for ids in flat)
    tokens = torch.zeros(len(flat), length, dtype=torch.long)
    mask = torch.zeros_like(tokens)
    for row, (ids, end) in enumerate(zip(flat, last, strict=True)):
        target = ids if end is None else [*ids, end]
        tokens[row, : len(target)] = torch.tensor(target, dtype=torch.long)
        mask[row, : len(target)] = 1
    lengths = torch.tensor([len(ids) for ids in flat])
    return Rollouts(tokens.to(device), mask.to(device), lengths.to(device), group)


def rollout_forward(
    model: DeScoreModel,
    prompts: Batch,
    rollouts: Rollouts,
    vision: VisionOutputs | None = None,
    with_logprobs: bool = True,
    temperature: float = 1.0,
) -> RolloutForward:
    """Compute log-probabilities and rewards of every rollout, differentiable in every trained weight.

    Args:
        prompts: a batch of V rows without thoughts, of `descore.encode`.
        vision: ready features of its videos (`trainer.data.vision_features`); None: the tower runs here.
        with_logprobs: False leaves `logprobs` empty and saves the logits.
        temperature: the one that the thoughts were sampled with.

    Raises:
        descore.errors.RewardError: there is no scoring module.
    """
    run = _shared if takes_prefixes(model.backbone) else _cached
    before, hidden, query = run(model, prompts, rollouts, vision)
    scoring = model.require_scoring()
    rewards = scoring(query).reshape(-1, rollouts.group)
    if not with_logprobs:
        return RolloutForward(rewards, torch.zeros(0))
    predicting = torch.cat([before[:, None], hidden], dim=1)[:, : rollouts.tokens.shape[1]]
    return RolloutForward(rewards, token_logprobs(model, predicting, rollouts.tokens, rollouts.mask, temperature))


def token_logprobs(
    model: DeScoreModel, hidden: torch.Tensor, tokens: torch.Tensor, mask: torch.Tensor, temperature: float = 1.0
) -> torch.Tensor:
    """(N, T) log-probabilities of `tokens` from the hidden states (N, T, H) that predict them.

    The logits over the vocabulary exist for a thousand tokens at a time only, in the forward and again in the backward.
    """
    chosen = mask.bool()
    states, targets = hidden[chosen], tokens[chosen]
    parts = [
        checkpoint(_selected_logprobs, model, some, those, temperature, use_reentrant=False)
        for some, those in zip(states.split(ROWS_OF_LOGITS), targets.split(ROWS_OF_LOGITS), strict=True)
    ]
    flat = torch.cat(parts) if parts else states.new_zeros(0, dtype=torch.float32)
    return torch.zeros(mask.shape, dtype=torch.float32, device=mask.device).masked_scatter(chosen, flat)


def _selected_logprobs(model: DeScoreModel, hidden: torch.Tensor, targets: torch.Tensor, temperature: float) -> torch.Tensor:
    logits = model.token_logits(hidden).float() / temperature
    # What is never sampled has no share in the policy: the same distribution as in `DeScoreModel.think`.
    logits = logits.masked_fill(model.never_sampled, -torch.inf)
    return logits.gather(-1, targets[:, None]).squeeze(-1) - logits.logsumexp(-1)


def _shared(
    model: DeScoreModel, prompts: Batch, rollouts: Rollouts, vision: VisionOutputs | None
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """(N, H) state before the first token, (N, T, H) of the slots after it, (N, H) of the query token."""
    positions, following = model.positions(prompts)
    store, group = PrefixStore(), rollouts.group
    head = model.backbone.base_model(
        position_ids=positions.to(model.device),
        use_cache=False,
        prefix_store=store,
        **model.model_inputs(prompts, vision=vision),
    ).last_hidden_state
    embeds, offsets, query_slots = continuation(model, rollouts)
    start = following.to(model.device).repeat_interleave(group)[:, None]
    hidden = model.backbone.base_model(
        inputs_embeds=embeds,
        position_ids=axes(model, start + offsets),
        use_cache=False,
        shared_prefix=store.shared(prompts["attention_mask"].to(model.device), group),
    ).last_hidden_state
    query = hidden[torch.arange(len(hidden), device=hidden.device), query_slots]
    return head[:, -1].repeat_interleave(group, dim=0), hidden, query


def _cached(
    model: DeScoreModel, prompts: Batch, rollouts: Rollouts, vision: VisionOutputs | None
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """As `_shared`, through a cache that is expanded to G rows a video."""
    positions, following = model.positions(prompts)
    cache = own_states(DynamicCache(config=model.backbone.config.get_text_config()))
    prefix = model.backbone.base_model(
        position_ids=positions.to(model.device),
        **model.cache_inputs(cache),
        **model.model_inputs(prompts, vision=vision),
    ).last_hidden_state
    group = rollouts.group
    cache.batch_repeat_interleave(group)
    embeds, offsets, query_slots = continuation(model, rollouts)
    mask = (offsets <= query_slots[:, None]).long()
    old = prompts["attention_mask"].to(model.device).repeat_interleave(group, dim=0)
    start = following.to(model.device).repeat_interleave(group)[:, None]
    hidden = model.backbone.base_model(
        inputs_embeds=embeds,
        attention_mask=torch.cat([old, mask], dim=1),
        position_ids=axes(model, start + offsets),
        **model.cache_inputs(cache),
    ).last_hidden_state
    query = hidden[torch.arange(len(hidden), device=hidden.device), query_slots]
    return prefix[:, -1].repeat_interleave(group, dim=0), hidden, query


def continuation(
    model: DeScoreModel, rollouts: Rollouts, start: int = 0, end: int | None = None
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Embed the continuation of each row, or its slots from `start` to `end`: the thought, the query token, padding.

    Returns:
        embeds (N, t, H), offsets (N, t) from the next position, and the query token's slot (N,).
    """
    scoring = model.require_scoring()
    tokens = rollouts.tokens[:, start:end]
    slots = torch.arange(start, start + tokens.shape[1], device=tokens.device)
    embeds = model.backbone.get_input_embeddings()(tokens)
    is_query = (slots == rollouts.lengths[:, None])[..., None]
    embeds = torch.where(is_query, scoring.query_embeds(len(tokens), embeds.dtype), embeds)
    return embeds, slots.expand(len(tokens), -1), rollouts.lengths


def axes(model: DeScoreModel, positions: torch.Tensor) -> torch.Tensor:
    """(N, T) positions on as many axes as the backbone has."""
    return positions.expand(3, -1, -1) if hasattr(model.backbone.base_model, "get_rope_index") else positions
