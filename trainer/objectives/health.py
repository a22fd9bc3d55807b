"""Figures of health of sampled thoughts: what tells a stage that goes wrong before its accuracy does.

    sums = health_sums(sampled, rewards)    # of one process; those of all processes are added up
    health_figures(sums)                    # {"cut_off": 0.02, "entropy": 0.61, "repetition": 0.08, "no_spread": 0.25}

All come from what was sampled anyway; nothing goes forward for them. Bounds are those of `storage.training.alarms`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from trainer.objectives.group_rewards import GroupRewards
    from trainer.rollouts.sampling import SampledThoughts

NGRAM = 4


def repeated_ngrams(ids: Sequence[int], size: int = NGRAM) -> float:
    """Compute the share of n-grams of tokens that have occurred before in the same text; 0 where it is too short for one.

    Source: seq-rep-n of Welleck et al. (arXiv 1908.04319), section 6: 1 - unique n-grams / n-grams, with n = 4.
    """
    ngrams = [tuple(ids[start : start + size]) for start in range(len(ids) - size + 1)]
    return 1 - len(set(ngrams)) / len(ngrams) if ngrams else 0.0


def health_sums(sampled: SampledThoughts, rewards: GroupRewards) -> dict[str, float]:
    """Add up what `health_figures` needs of some videos' rollouts.

    Returns:
        `sampled`: rollouts. `cut_off`: of them, those cut off at the limit. `repetition`: sum of their repeated shares.
        `surprise`: sum of -log p over the sampled tokens, `sampled_tokens`: their number, end tokens included.
        `groups`: groups with a truth. `no_spread`: of them, those whose rollouts all got the same reward.
    """
    log_probs = [log_prob for group in sampled.log_probs for row in group for log_prob in row]
    return {
        "sampled": sum(len(group) for group in sampled.ids),
        "cut_off": sum(not ended for group in sampled.ended for ended in group),
        "repetition": sum(repeated_ngrams(ids) for group in sampled.ids for ids in group),
        "surprise": -sum(log_probs),
        "sampled_tokens": len(log_probs),
        "groups": sum(rewards.known),
        "no_spread": len(rewards.without_spread),
    }


def health_figures(sums: Mapping[str, float]) -> dict[str, float | None]:
    """Compute the figures from sums over all processes; None where there was nothing to measure.

    Returns:
        `cut_off`: share of rollouts that the limit of tokens ended. `repetition`: mean share of repeated 4-grams in a
        rollout. `entropy`: of the policy, in nats a token: the mean of -log p of the sampled tokens under the distribution
        that they were drawn from (the rollout engine's, at its temperature), whose expectation is that entropy. `no_spread`:
        share of the groups with a truth whose rollouts all got the same reward, so that none has an advantage.
    """

    def share(name: str, of: str) -> float | None:
        return sums[name] / sums[of] if sums[of] else None

    return {
        "cut_off": share("cut_off", "sampled"),
        "entropy": share("surprise", "sampled_tokens"),
        "repetition": share("repetition", "sampled"),
        "no_spread": share("no_spread", "groups"),
    }
