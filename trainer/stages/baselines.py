"""Two other paradigms as baselines on the same backbone, data and loop.

    discriminative   no thought: Bradley-Terry on the reward that follows the prompt and the video at once (stage 1 with
                     every thought masked)
    generative       no scoring module: the score is the `overall_score` that the thought ends in, trained by GRPO; a
                     rollout is rewarded where its score orders the pair as people did

Source: the comparison of DeScore (arXiv 2605.05922), figure 1b.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import torch

from descore.answer import AnswerError, parse_tolerant
from trainer.objectives.losses import group_advantages
from trainer.objectives.rollout_reward import RolloutReward, format_reward
from trainer.stages.dual_rl import RLStage

if TYPE_CHECKING:
    from trainer.config import ColdStartConfig, DualRLConfig
    from trainer.data.pairs import TrainingPair
    from trainer.objectives.dual_objective import RolloutBatch


def without_thoughts(settings: ColdStartConfig) -> ColdStartConfig:
    """Change the settings of stage 1 to those of the discriminative baseline."""
    return replace(settings, mask_probability=1.0, anchor_weight=0.0)


def without_scoring(settings: DualRLConfig) -> DualRLConfig:
    """Change the settings of stage 2 to those of the generative baseline: no auxiliary loss on rewards."""
    return replace(settings, objective=replace(settings.objective, bt_weight=0.0))


def overall_score(text: str) -> float | None:
    """Read the overall_score that a thought ends in; None where it has none."""
    try:
        return parse_tolerant(text).overall_score
    except AnswerError:
        return None


def preference_rewards(
    scores_a: Sequence[float | None], scores_b: Sequence[float | None], label: int
) -> tuple[list[float], list[float]]:
    """Reward rollouts whose score, against the mean score of the other video's rollouts, orders the pair as people did.

    Args:
        scores_a, scores_b: of the rollouts of A and of B, None where a rollout has none; such a rollout gets 0.
        label: +1 A preferred, -1 B preferred; a tie (0) rewards nothing.

    Returns:
        1 or 0 for each rollout of A and of B.
    """
    return _against(scores_a, scores_b, label), _against(scores_b, scores_a, -label)


def _against(own: Sequence[float | None], other: Sequence[float | None], label: int) -> list[float]:
    readable = [score for score in other if score is not None]
    if not readable or label == 0:
        return [0.0] * len(own)
    mean = sum(readable) / len(readable)
    return [float(score is not None and label * (score - mean) > 0) for score in own]


class GenerativeStage(RLStage):
    """GRPO on the generated score with the preference reward."""

    name = "generative RL"

    def _reward(self, batch: RolloutBatch, pairs: tuple[TrainingPair, ...]) -> None:
        texts = batch.thoughts.texts
        rewards: list[float] = []
        for index, pair in enumerate(pairs):
            scores = [[overall_score(text) for text in texts[2 * index + side]] for side in (0, 1)]
            for side in preference_rewards(scores[0], scores[1], pair.label):
                rewards += side
        flat = [text for group in texts for text in group]
        # In the log, the preference stands in the place of the quality.
        batch.scores = [
            RolloutReward(reward, format_reward(text), score.length, reward)
            for reward, text, score in zip(rewards, flat, batch.scores, strict=True)
        ]
        groups = torch.tensor(rewards).reshape(-1, batch.rollouts.group)
        batch.advantages = group_advantages(groups).flatten().to(batch.advantages.device)
