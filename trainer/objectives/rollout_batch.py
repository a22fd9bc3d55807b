"""Rollouts of some pairs: sampling, rewarding, and what the losses need in tensors.

    sampled = sample_pairs(model, pairs, step, config)
    batch = build_batch(model, pairs, sampled, config)
    batch.advantages, batch.loss_mask

Rows of a batch are A, B, A, B, ... Shapes: P pairs, V = 2P videos, G rollouts each, N = V * G, T tokens.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from descore.encode import Batch, Row, collate, pad_token_id
from descore.modeling.model import DeScoreModel, VisionOutputs
from trainer.objectives.group_rewards import GroupRewards, rule_rewards
from trainer.objectives.rollout_reward import RolloutReward
from trainer.rollouts.in_chunks import logprobs_in_chunks, plan_chunks
from trainer.rollouts.sampling import SampledThoughts, Sampler, packed_log_probs, sample
from trainer.rollouts.shared_prefix import Rollouts, pack_rollouts

if TYPE_CHECKING:
    from trainer.objectives.dual_objective_config import DualObjectiveConfig


@dataclass(frozen=True)
class RLPair:
    """One pair ready for rollouts.

    Attributes:
        identity: names the pair in seeds and logs.
        rows: encoded prompts of A and B.
        truth: known sub-scores of A and B, maybe none.
        label: +1 A preferred, -1 B preferred, 0 tie or unknown.
    """

    identity: str
    rows: tuple[Row, Row]
    truth: tuple[Mapping[str, str], Mapping[str, str]]
    label: int


@dataclass
class RolloutBatch:
    """Rollouts of P pairs with their rewards: all that the losses need.

    Attributes:
        prompts: V rows without thoughts.
        vision: ready features of the videos; None: the tower runs.
        thoughts: sampled, as text and ids.
        rollouts: the same in tensors.
        scores: N rollout rewards.
        advantages: (N,).
        labels: (P,).
        old_logprobs: (N, T); None where the policy has not moved since sampling, so that the ratio is 1.
        reference: (N, T) log-probabilities; None where there is no KL term.
        sampler_logprobs: (N, T) as the rollout engine gave them; None where it gave none.
        by_trained_model: the rollout engine is the trained model, so that the two differ by rounding alone.
        learnt: (N,) True on rollouts in the token losses; None for all.
    """

    prompts: Batch
    vision: VisionOutputs | None
    thoughts: SampledThoughts
    rollouts: Rollouts
    scores: list[RolloutReward]
    advantages: torch.Tensor
    labels: torch.Tensor
    old_logprobs: torch.Tensor | None = None
    reference: torch.Tensor | None = None
    sampler_logprobs: torch.Tensor | None = None
    by_trained_model: bool = True
    learnt: torch.Tensor | None = None

    @property
    def loss_mask(self) -> torch.Tensor:
        """(N, T), 1 on the tokens in policy loss and KL."""
        mask = self.rollouts.mask
        return mask if self.learnt is None else mask * self.learnt[:, None]

    @property
    def tokens(self) -> int:
        """Number of tokens in policy loss and KL."""
        return int(self.loss_mask.sum())

    @property
    def left_out(self) -> int:
        """Number of groups that are in neither."""
        return 0 if self.learnt is None else int((~self.learnt).sum()) // self.rollouts.group

    @property
    def comparisons(self) -> int:
        """Terms of the Bradley-Terry loss: G for each pair with a preference."""
        return int((self.labels != 0).sum()) * self.rollouts.group


def sample_pairs(
    model: DeScoreModel,
    pairs: Sequence[RLPair],
    step: int,
    config: DualObjectiveConfig,
    vision: VisionOutputs | None = None,
    sampler: Sampler = sample,
    budget: int | None = None,
) -> SampledThoughts:
    """Sample the rollouts of some pairs, of their videos in the order A, B, A, B, ...

    Args:
        step: part of the sampling seeds.
        vision: features of the videos in this order; None: the tower runs.
        sampler: the rollout engine.
        budget: tokens that it caches at a time, see `trainer.rollouts.sampling.sample`.
    """
    rows = [row for pair in pairs for row in pair.rows]
    seeds = [f"{step}/{pair.identity}/{side}" for pair in pairs for side in "AB"]
    return sample_videos(model, rows, seeds, config, vision, sampler, budget)


def sample_videos(
    model: DeScoreModel,
    rows: Sequence[Row],
    seeds: Sequence[str],
    config: DualObjectiveConfig,
    vision: VisionOutputs | None = None,
    sampler: Sampler = sample,
    budget: int | None = None,
) -> SampledThoughts:
    """Sample the rollouts of some videos, one text of a seed for each; other arguments as of `sample_pairs`."""
    return sampler(
        model,
        rows,
        seeds,
        num_generations=config.num_generations,
        max_tokens=config.max_tokens,
        temperature=config.temperature,
        vision=vision,
        budget=budget,
    )


def build_batch(
    model: DeScoreModel,
    pairs: Sequence[RLPair],
    sampled: SampledThoughts,
    config: DualObjectiveConfig,
    vision: VisionOutputs | None = None,
    rewards: GroupRewards | None = None,
) -> RolloutBatch:
    """Reward the rollouts of some pairs and pack them.

    Args:
        sampled: of these pairs alone, as `sample_pairs` returns them.
        vision: features of the videos in the order A, B, A, B, ...; None: the tower runs.
        rewards: of the rollouts; None: by the method's rule.
    """
    prompts = collate([row for pair in pairs for row in pair.rows], pad_token_id(model.processor))
    if rewards is None:
        rewards = rule_rewards(sampled, [truth for pair in pairs for truth in pair.truth], config.reward)
    rollouts = pack_rollouts(sampled.ids, sampled.ends, model.device)
    teaches = torch.tensor(rewards.teaches).repeat_interleave(rollouts.group)
    return RolloutBatch(
        prompts=prompts,
        vision=vision,
        thoughts=sampled,
        rollouts=rollouts,
        scores=rewards.flat,
        advantages=rewards.advantages().to(model.device),
        labels=torch.tensor([pair.label for pair in pairs], device=model.device),
        sampler_logprobs=packed_log_probs(sampled, rollouts.tokens.shape[1], model.device),
        learnt=None if config.groups_without_spread == "keep" else teaches.to(model.device),
    )


def collect(
    model: DeScoreModel,
    pairs: Sequence[RLPair],
    step: int,
    config: DualObjectiveConfig,
    vision: VisionOutputs | None = None,
    sampler: Sampler = sample,
) -> RolloutBatch:
    """Sample and reward the rollouts of some pairs in one micro-batch; arguments as `sample_pairs`."""
    return build_batch(model, pairs, sample_pairs(model, pairs, step, config, vision, sampler), config, vision)


@torch.no_grad()
def batch_logprobs(
    model: DeScoreModel, batch: RolloutBatch, config: DualObjectiveConfig, budget: int | None = None
) -> torch.Tensor:
    """Compute the log-probabilities (N, T) of the rollouts as the model has them now, without gradients.

    Args:
        budget: slots of rollouts that go forward at a time, see `trainer.rollouts.in_chunks`; None for all.
    """
    was_training = model.training
    model.eval()
    try:
        chunks = plan_chunks(batch.rollouts, budget)
        return logprobs_in_chunks(model, batch.prompts, batch.rollouts, chunks, batch.vision, config.temperature)
    finally:
        model.train(was_training)
