"""Losses of the two stages. Stage 1: Bradley-Terry on the rewards of a pair."""

from __future__ import annotations

import torch
import torch.nn.functional as F


def bradley_terry(reward_a: torch.Tensor, reward_b: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
    """Mean of -log sigmoid(r_chosen - r_rejected) over the pairs that have a preference.

    Args:
        reward_a, reward_b: (B,) rewards, any scale.
        label: (B,) +1 where A is preferred, -1 where B is, 0 for a tie. Ties give no gradient and do not count.

    Returns:
        A scalar; zero (with a graph) if every pair is a tie.

    Source: Bradley and Terry (1952); DeScore (arXiv 2605.05922), discriminative cold start.
    """
    decided = label != 0
    losses = -F.logsigmoid(label * (reward_a - reward_b)) * decided
    return losses.sum() / decided.sum().clamp(min=1)
