"""Stage 2, dual-objective RL: GRPO on the thoughts and Bradley-Terry on the rewards, from one forward.

One step, as DeScore (arXiv 2605.05922) has it:

    1. sample      G thoughts of each video of the step, one prefill a video                  `sample_pairs`
    2. reward      each by rule: R = 0.7 R_qual + 0.1 R_fmt + 0.2 R_len; advantages within a video's group, zero where
                   no sub-score of the video is known                                         `build_batch`
    3. forward     all rollouts of a pair from their shared prefixes, once, with gradient,
                   in chunks that go backward at once                                        `DualObjective`
    4. loss        GRPO over the thoughts' tokens + beta KL to the reference
                   + 5e-3 Bradley-Terry over rollout i of A against rollout i of B
    5. update      backbone (or its adapter), query token and head

The reward of a rollout never enters its advantage, and the query token is in no token loss: the thought learns to be right,
the scoring module to rank, and the auxiliary loss keeps rewards from drifting while the thoughts change under them.

Rows of a batch are A, B, A, B, ... Shapes: P pairs, V = 2P videos, G rollouts each, N = V * G, T tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
from torch import nn

from descore.encode import Batch, Row, collate, pad_token_id
from descore.modeling.model import DeScoreModel, VisionOutputs
from trainer.objectives.losses import (
    bradley_terry,
    group_advantages,
    grpo,
    importance_weights,
    low_variance_kl,
    ratio_figures,
    sampler_ratio,
)
from trainer.objectives.rollout_reward import RolloutReward, RolloutRewardConfig, rollout_reward
from trainer.rollouts.in_chunks import backward_in_chunks, logprobs_in_chunks, plan_chunks
from trainer.rollouts.sampling import SampledThoughts, Sampler, packed_log_probs, sample
from trainer.rollouts.shared_prefix import Rollouts, pack_rollouts, rollout_forward

if TYPE_CHECKING:
    from contextlib import AbstractContextManager


@dataclass(frozen=True)
class DualObjectiveConfig:
    """Settings of the losses of stage 2; the defaults are the method's.

    Attributes:
        num_generations: rollouts of each video.
        temperature: of sampling.
        max_tokens: limit of a thought.
        epsilon: lower clip of the ratio.
        epsilon_high: upper clip of the ratio.
        dual_clip: bound of the loss for negative advantages.
        beta: weight of the KL to the reference.
        bt_weight: weight of the auxiliary Bradley-Terry loss; 0 is GRPO alone.
        importance_cap: where the rollout engine is not the trained model, the loss of a token is weighed by the ratio of its
            two probabilities, at most this; 0 leaves it as it is.
        reward: settings of the rule-based reward.
    """

    num_generations: int = 8
    temperature: float = 1.0
    max_tokens: int = 4096
    epsilon: float = 0.2
    epsilon_high: float = 0.3
    dual_clip: float = 3.0
    beta: float = 1e-5
    bt_weight: float = 5e-3
    importance_cap: float = 2.0
    reward: RolloutRewardConfig = field(default_factory=RolloutRewardConfig)

    def __post_init__(self) -> None:
        if self.num_generations < 2:
            raise ValueError("GRPO compares the rollouts of a video with each other: num_generations must be at least 2")
        if self.temperature <= 0 or self.max_tokens < 1:
            raise ValueError("temperature and max_tokens must be above 0")
        if self.importance_cap < 0:
            raise ValueError(f"importance_cap must be at least 0, not {self.importance_cap}")


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

    @property
    def tokens(self) -> int:
        """Number of tokens in the policy loss."""
        return int(self.rollouts.mask.sum())

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
    return sampler(
        model,
        [row for pair in pairs for row in pair.rows],
        [f"{step}/{pair.identity}/{side}" for pair in pairs for side in "AB"],
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
) -> RolloutBatch:
    """Reward the rollouts of some pairs and pack them.

    Args:
        sampled: of these pairs alone, as `sample_pairs` returns them.
        vision: features of the videos in the order A, B, A, B, ...; None: the tower runs.
    """
    prompts = collate([row for pair in pairs for row in pair.rows], pad_token_id(model.processor))
    truths = [truth for pair in pairs for truth in pair.truth]
    scores = [
        rollout_reward(text, len(ids), truth, config.reward)
        for texts, thoughts, truth in zip(sampled.texts, sampled.ids, truths, strict=True)
        for text, ids in zip(texts, thoughts, strict=True)
    ]
    totals = torch.tensor([score.total for score in scores]).reshape(-1, config.num_generations)
    # Without a truth only format and length differ within a group: its advantages would teach to write longer.
    known = torch.tensor([[float(bool(truth))] for truth in truths])
    rollouts = pack_rollouts(sampled.ids, sampled.ends, model.device)
    return RolloutBatch(
        prompts=prompts,
        vision=vision,
        thoughts=sampled,
        rollouts=rollouts,
        scores=scores,
        advantages=(group_advantages(totals) * known).flatten().to(model.device),
        labels=torch.tensor([pair.label for pair in pairs], device=model.device),
        sampler_logprobs=packed_log_probs(sampled, rollouts.tokens.shape[1], model.device),
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


@dataclass
class DualLosses:
    """The loss to minimise, and its `parts`: detached figures for the log, each a scalar tensor, sums over the batch."""

    loss: torch.Tensor
    parts: dict[str, torch.Tensor]


class DualObjective(nn.Module):
    """The losses of stage 2 as a module, so that whatever wraps it for many processes sees one forward."""

    def __init__(self, model: DeScoreModel, config: DualObjectiveConfig) -> None:
        super().__init__()
        self.model = model
        self.config = config

    def forward(self, batch: RolloutBatch, tokens: float | None = None, comparisons: float | None = None) -> DualLosses:
        """Compute GRPO + beta KL + bt_weight Bradley-Terry, all from one forward.

        Args:
            tokens, comparisons: divisors of the two sums where this batch is a part of a larger one; by default those of
                the batch itself.
        """
        share = _Share(self.config, batch, tokens, comparisons)
        config, rows = self.config, torch.arange(len(batch.advantages), device=batch.advantages.device)
        run = rollout_forward(self.model, batch.prompts, batch.rollouts, batch.vision, temperature=config.temperature)
        loss = share.of_tokens(run.logprobs, rows, slice(0, run.logprobs.shape[1])) + share.of_rewards(run.rewards)
        return DualLosses(loss, share.parts)

    def backward(
        self,
        batch: RolloutBatch,
        tokens: float | None = None,
        comparisons: float | None = None,
        budget: int | None = None,
        scale: float = 1.0,
        autocast: Callable[[], AbstractContextManager[object]] = nullcontext,
    ) -> dict[str, torch.Tensor]:
        """Add the gradients of `forward`'s loss to those of the trained weights, in chunks; return its `parts`.

        Args:
            tokens, comparisons: as of `forward`.
            budget: slots of rollouts that go forward and backward at a time, see `trainer.rollouts.in_chunks`; None for all.
            scale: a factor of the loss.
            autocast: entered for what goes forward.
        """
        share = _Share(self.config, batch, tokens, comparisons)
        backward_in_chunks(
            self.model,
            batch.prompts,
            batch.rollouts,
            plan_chunks(batch.rollouts, budget),
            lambda logprobs, rows, span: share.of_tokens(logprobs, rows, span) * scale,
            lambda rewards: share.of_rewards(rewards) * scale,
            batch.vision,
            self.config.temperature,
            autocast,
        )
        return share.parts


class _Share:
    """The losses of some of a batch's tokens and rewards, as shares of the step's sums.

    Attributes:
        parts: figures for the log, added up over the calls.
    """

    def __init__(
        self, config: DualObjectiveConfig, batch: RolloutBatch, tokens: float | None, comparisons: float | None
    ) -> None:
        self._config, self._batch = config, batch
        self._tokens = max(batch.tokens if tokens is None else tokens, 1)
        self._comparisons = max(batch.comparisons if comparisons is None else comparisons, 1)
        self.parts: dict[str, torch.Tensor] = {}

    def of_tokens(self, logprobs: torch.Tensor, rows: torch.Tensor, span: slice) -> torch.Tensor:
        """GRPO and the KL of tokens; logprobs (n, t), rows (n,) among the N, span among the T."""
        config, batch, mask = self._config, self._batch, self._batch.rollouts.mask[rows, span]
        old = logprobs.detach() if batch.old_logprobs is None else batch.old_logprobs[rows, span]
        policy = grpo(
            logprobs,
            old,
            batch.advantages[rows],
            mask,
            epsilon=config.epsilon,
            epsilon_high=config.epsilon_high,
            dual_clip=config.dual_clip,
            total=self._tokens,
            weights=self._weights(old, rows, span),
        )
        loss = policy.loss
        self._add(policy=policy.loss, clip_share=policy.clip_share * mask.sum() / self._tokens)
        if batch.reference is not None:
            kl = (low_variance_kl(logprobs, batch.reference[rows, span]) * mask).sum() / self._tokens
            loss = loss + config.beta * kl
            self._add(kl=kl)
        self._add(loss=loss)
        return loss

    def _weights(self, old: torch.Tensor, rows: torch.Tensor, span: slice) -> torch.Tensor | None:
        """Compare probabilities at the time of sampling with the rollout engine's; return weights where it needs any."""
        config, batch, mask = self._config, self._batch, self._batch.rollouts.mask[rows, span]
        if batch.sampler_logprobs is None:
            return None
        ratio = sampler_ratio(old, batch.sampler_logprobs[rows, span], mask)
        figures = ratio_figures(ratio, mask, config.epsilon, config.epsilon_high)
        largest = figures.pop("largest_ratio")
        self._add(**figures)
        self.parts["largest_ratio"] = torch.maximum(largest, self.parts.get("largest_ratio", largest))
        corrects = not batch.by_trained_model and config.importance_cap > 0
        return importance_weights(ratio, config.importance_cap) if corrects else None

    def of_rewards(self, rewards: torch.Tensor) -> torch.Tensor:
        """Bradley-Terry of rollout i of A against rollout i of B; rewards (V, g) of any g rollouts of each video."""
        reward_a, reward_b = rewards[::2], rewards[1::2]
        labels = self._batch.labels[:, None].expand_as(reward_a)
        preference = bradley_terry(reward_a, reward_b, labels, total=self._comparisons)
        loss = self._config.bt_weight * preference
        lead = labels * (reward_a - reward_b)
        self._add(bradley_terry=preference, right=((lead > 0) & (labels != 0)).sum(), margin=lead.sum(), loss=loss)
        self._add(rewards=rewards.sum(), squared_rewards=rewards.square().sum())
        return loss

    def _add(self, **values: torch.Tensor) -> None:
        for name, value in values.items():
            found = value.detach().float()
            self.parts[name] = self.parts[name] + found if name in self.parts else found
