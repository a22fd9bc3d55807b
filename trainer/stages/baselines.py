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

from descore.answer import AnswerError, parse_tolerant
from trainer.objectives.group_rewards import GroupRewards
from trainer.objectives.rollout_reward import RolloutReward, format_reward, length_reward
from trainer.stages.dual_rl import RLStage

if TYPE_CHECKING:
    from trainer.config import ColdStartConfig, DualRLConfig
    from trainer.data.pairs import TrainingPair
    from trainer.rollouts.sampling import SampledThoughts


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

    def _rewards(self, pairs: Sequence[TrainingPair], sampled: SampledThoughts) -> GroupRewards:
        """Reward rollouts by the order of their scores; in the log, the preference stands in the place of the quality.

        A tie rewards nothing, and other rollouts of its pair could not change that.
        """
        scores = []
        for index, pair in enumerate(pairs):
            texts, ids = sampled.texts[2 * index : 2 * index + 2], sampled.ids[2 * index : 2 * index + 2]
            overall = [[overall_score(text) for text in group] for group in texts]
            for side, rewards in enumerate(preference_rewards(overall[0], overall[1], pair.label)):
                scores.append(tuple(map(self._score, rewards, texts[side], ids[side])))
        return GroupRewards(tuple(scores), tuple(pair.label != 0 for pair in pairs for _ in range(2)))

    def _score(self, reward: float, text: str, ids: Sequence[int]) -> RolloutReward:
        settings = self.config.reward
        length = length_reward(len(ids), settings.length_low, settings.length_high)
        return RolloutReward(reward, format_reward(text), length, reward)
