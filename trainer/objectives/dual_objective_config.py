"""Settings of the losses of stage 2. Commands that train nothing read them too, so nothing here loads torch.

config = DualObjectiveConfig(num_generations=8, groups_without_spread="leave_out")
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from trainer.objectives.rollout_reward import RolloutRewardConfig


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
        groups_without_spread: what becomes of groups without an advantage, since all of their rollouts got the same reward
            or nothing is known of the video. "keep": their tokens count in the token mean, and their KL. "leave_out": they
            are in neither. "sample_again": other rollouts are sampled for those that could have a spread, and what is
            still without one is left out (DAPO's dynamic sampling).
        extra_samplings: how often a group is sampled again at most.
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
    groups_without_spread: Literal["keep", "leave_out", "sample_again"] = "keep"
    extra_samplings: int = 3
    reward: RolloutRewardConfig = field(default_factory=RolloutRewardConfig)

    def __post_init__(self) -> None:
        if self.num_generations < 2:
            raise ValueError("GRPO compares the rollouts of a video with each other: num_generations must be at least 2")
        if self.temperature <= 0 or self.max_tokens < 1:
            raise ValueError("temperature and max_tokens must be above 0")
        if self.importance_cap < 0:
            raise ValueError(f"importance_cap must be at least 0, not {self.importance_cap}")
        if self.extra_samplings < 1:
            raise ValueError(f"extra_samplings must be at least 1, not {self.extra_samplings}")
