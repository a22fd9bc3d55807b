"""The rule-based reward of one rollout: R = 0.7 R_qual + 0.1 R_fmt + 0.2 R_len.

    config = RolloutRewardConfig()
    reward = rollout_reward(text, tokens=812, truth={"subject": "2"}, config=config)
    reward.total, reward.quality, reward.format, reward.length

Each part is a pure function with values in 0 .. 1; `self_check` shows that the gold answer scores 1.0 in all of them.
Source: DeScore (arXiv 2605.05922), rollout reward; the weights and bounds from the authors' settings.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from descore.answer import DIMENSIONS, AnswerError, parse_strict, parse_tolerant, render_answer


@dataclass(frozen=True)
class RolloutRewardConfig:
    """Weights of the parts, and the bounds in tokens between which R_len rises from 0 to 1."""

    quality_weight: float = 0.7
    format_weight: float = 0.1
    length_weight: float = 0.2
    length_low: int = 500
    length_high: int = 2000

    def __post_init__(self) -> None:
        if min(self.quality_weight, self.format_weight, self.length_weight) < 0:
            raise ValueError("the weights of the rollout reward must not be negative")
        if not 0 <= self.length_low <= self.length_high:
            raise ValueError(f"R_len needs 0 <= low <= high, not {self.length_low} and {self.length_high}")


@dataclass(frozen=True)
class RolloutReward:
    """The parts and their weighted sum; quality is None, and weighs nothing, where no sub-score has a truth."""

    quality: float | None
    format: float
    length: float
    total: float


def format_reward(text: str) -> float:
    """Compute R_fmt: 1 if the text is strictly `<think>...</think>` plus the JSON of the five sub-scores, else 0."""
    try:
        parse_strict(text)
    except AnswerError:
        return 0.0
    return 1.0


def quality_reward(text: str, truth: Mapping[str, str]) -> float | None:
    """Compute R_qual: the share of sub-scores that equal the truth; N/A is a value like the others.

    Args:
        truth: the dimensions that have a ground truth, not necessarily all five.

    Returns:
        None where `truth` is empty. An answer that can't be read has nothing right.
    """
    if not truth:
        return None
    try:
        answer = parse_tolerant(text).sub_scores
    except AnswerError:
        return 0.0
    return sum(answer[name] == value for name, value in truth.items()) / len(truth)


def length_reward(tokens: int, low: int, high: int) -> float:
    """Compute R_len: 0 below `low` tokens, 1 from `high`, linear between."""
    if tokens >= high:
        return 1.0
    return 0.0 if tokens <= low else (tokens - low) / (high - low)


def rollout_reward(text: str, tokens: int, truth: Mapping[str, str], config: RolloutRewardConfig) -> RolloutReward:
    """Compute all parts of the reward of one rollout of `tokens` tokens.

    Without any truth the weight of R_qual goes to the other two in proportion, so that the total still reaches 1; such
    rollouts get no advantage (`trainer.objectives.group_rewards`).
    """
    quality = quality_reward(text, truth)
    form = format_reward(text)
    length = length_reward(tokens, config.length_low, config.length_high)
    weights = {"quality": config.quality_weight if quality is not None else 0.0}
    weights |= {"format": config.format_weight, "length": config.length_weight}
    whole = sum(weights.values())
    total = weights["quality"] * (quality or 0.0) + weights["format"] * form + weights["length"] * length
    return RolloutReward(quality, form, length, total / whole if whole else 0.0)


def self_check(config: RolloutRewardConfig) -> None:
    """Raise ValueError unless the gold answer of sufficient length scores 1.0 in every part."""
    truth = dict(zip(DIMENSIONS, ("2", "1", "0", "N/A", "2"), strict=True))
    scored = rollout_reward(render_answer("gold", truth, 3.33), config.length_high, truth, config)
    if (scored.quality, scored.format, scored.length) != (1.0, 1.0, 1.0) or abs(scored.total - 1) > 1e-9:
        raise ValueError(f"the gold answer must score 1.0 in every part of the rollout reward; it scores {scored}")
