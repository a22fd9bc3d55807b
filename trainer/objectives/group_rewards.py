"""Rewards of the rollouts of some videos, their advantages, and which groups have none.

    rewards = rule_rewards(sampled, truths, config)
    rewards.advantages()                # (N,), zero throughout a group without truth or without spread
    rewards.teaches                     # of each video, whether its group has an advantage

A group is the rollouts of one video. Shapes: V videos, G rollouts each, N = V * G.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from trainer.objectives.losses import group_advantages
from trainer.objectives.rollout_reward import RolloutReward, RolloutRewardConfig, rollout_reward

if TYPE_CHECKING:
    from trainer.rollouts.sampling import SampledThoughts


@dataclass(frozen=True)
class GroupRewards:
    """Rewards of V groups.

    Attributes:
        scores: of each rollout, group by group.
        known: of each video, whether it is known what its rollouts should say. Without a truth only format and length
            differ within a group, and its advantages would teach to write longer, so it gets none.
    """

    scores: tuple[tuple[RolloutReward, ...], ...]
    known: tuple[bool, ...]

    @property
    def flat(self) -> list[RolloutReward]:
        """The N rewards in order."""
        return [score for group in self.scores for score in group]

    @property
    def totals(self) -> torch.Tensor:
        """(V, G) total rewards, float32."""
        return torch.tensor([[score.total for score in group] for group in self.scores])

    @property
    def spread(self) -> list[bool]:
        """Of each video, whether its rollouts got different rewards."""
        if not self.scores:
            return []
        totals = self.totals
        varied: list[bool] = (totals != totals[:, :1]).any(-1).tolist()
        return varied

    @property
    def teaches(self) -> list[bool]:
        """Of each video, whether its rollouts have an advantage: there is a truth, and a spread."""
        return [known and spread for known, spread in zip(self.known, self.spread, strict=True)]

    @property
    def without_spread(self) -> list[int]:
        """The videos with a truth whose rollouts all got the same reward, which other rollouts could change."""
        return [
            index for index, (known, spread) in enumerate(zip(self.known, self.spread, strict=True)) if known and not spread
        ]

    def advantages(self) -> torch.Tensor:
        """Return (N,) advantages within each group, 0 where nothing is known."""
        return (group_advantages(self.totals) * torch.tensor(self.known)[:, None]).flatten()


def rule_rewards(sampled: SampledThoughts, truths: Sequence[Mapping[str, str]], config: RolloutRewardConfig) -> GroupRewards:
    """Reward rollouts by the method's rule. truths: known sub-scores of each video, maybe none."""
    scores = tuple(
        tuple(rollout_reward(text, len(ids), truth, config) for text, ids in zip(texts, thoughts, strict=True))
        for texts, thoughts, truth in zip(sampled.texts, sampled.ids, truths, strict=True)
    )
    return GroupRewards(scores, tuple(bool(truth) for truth in truths))
