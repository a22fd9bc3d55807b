"""Stage 2, dual-objective RL: GRPO on the thoughts and Bradley-Terry on the rewards, from one forward.

One step, as DeScore (arXiv 2605.05922) has it:

    1. sample      G thoughts of each video of the step, one prefill a video                  `rollout_batch`
    2. reward      each by rule: R = 0.7 R_qual + 0.1 R_fmt + 0.2 R_len; advantages within a video's group, zero where
                   no sub-score of the video is known                                         `group_rewards`
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

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import nn

from trainer.objectives.losses import (
    bradley_terry,
    grpo,
    importance_weights,
    low_variance_kl,
    ratio_figures,
    sampler_ratio,
)
from trainer.rollouts.in_chunks import backward_in_chunks, plan_chunks
from trainer.rollouts.shared_prefix import rollout_forward

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from descore.modeling.model import DeScoreModel
    from trainer.objectives.dual_objective_config import DualObjectiveConfig
    from trainer.objectives.rollout_batch import RolloutBatch


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
        self._config, self._batch, self._mask = config, batch, batch.loss_mask
        self._tokens = max(batch.tokens if tokens is None else tokens, 1)
        self._comparisons = max(batch.comparisons if comparisons is None else comparisons, 1)
        self.parts: dict[str, torch.Tensor] = {}

    def of_tokens(self, logprobs: torch.Tensor, rows: torch.Tensor, span: slice) -> torch.Tensor:
        """GRPO and the KL of tokens; logprobs (n, t), rows (n,) among the N, span among the T."""
        config, batch, mask = self._config, self._batch, self._mask[rows, span]
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
