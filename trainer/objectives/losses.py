"""Losses of both stages, as pure functions of tensors.

Stage 1: Bradley-Terry on the rewards of a pair, plainly, with ties (Rao-Kupper), or with a margin.
Stage 2: GRPO on the tokens of the rollouts, and the low-variance KL estimate.

Shapes: B pairs, N rollouts (all groups one after the other), T tokens.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F

RAO_KUPPER_TIE = 5.0


def bradley_terry(
    reward_a: torch.Tensor,
    reward_b: torch.Tensor,
    label: torch.Tensor,
    margin: torch.Tensor | float = 0.0,
    total: float | None = None,
) -> torch.Tensor:
    """Mean of -log sigmoid(r_chosen - r_rejected - margin) over the pairs that have a preference.

    Args:
        reward_a, reward_b: (B,) rewards, any scale.
        label: (B,) +1 where A is preferred, -1 where B is, 0 for a tie. Ties give no gradient and do not count.
        margin: (B,) or a number: the lead that the chosen one is to have, in the unit of the rewards.
        total: divisor of the sum where this batch is a part of a larger one; by default the number of its preferences.

    Returns:
        A scalar; zero (with a graph) if every pair is a tie.

    Source: Bradley and Terry (1952); DeScore (arXiv 2605.05922), discriminative cold start.
    """
    decided = label != 0
    losses = -F.logsigmoid(label * (reward_a - reward_b) - margin) * decided
    return losses.sum() / (decided.sum().clamp(min=1) if total is None else max(total, 1))


def bradley_terry_ties(
    reward_a: torch.Tensor,
    reward_b: torch.Tensor,
    label: torch.Tensor,
    tie: float = RAO_KUPPER_TIE,
    total: float | None = None,
) -> torch.Tensor:
    """Mean negative log-likelihood of win, loss and tie under Rao and Kupper's model.

    P(A wins) = s_A / (s_A + tie s_B) with s = exp(reward), P(B wins) likewise, and the rest is a tie:
    P(tie) = (tie^2 - 1) s_A s_B / ((s_A + tie s_B)(s_B + tie s_A)).

    Args:
        label: (B,) +1, -1 or 0 for a tie, which counts here.
        tie: Rao and Kupper's parameter, above 1; 5 as VideoAlign sets it.
        total: as in `bradley_terry`, here of all pairs.

    Source: Rao and Kupper (1967), equations 2.3 and 2.4.
    """
    if tie <= 1:
        raise ValueError(f"the tie parameter of Rao and Kupper must be above 1, not {tie}")
    lead = reward_a - reward_b
    a_wins = F.logsigmoid(lead - math.log(tie))
    b_wins = F.logsigmoid(-lead - math.log(tie))
    neither = a_wins + b_wins + math.log(tie**2 - 1)
    losses = -torch.where(label > 0, a_wins, torch.where(label < 0, b_wins, neither))
    return losses.sum() / (len(label) if total is None else max(total, 1))


def group_advantages(rewards: torch.Tensor, eps: float = 1e-6) -> torch.Tensor:
    """(R - mean) / (std + eps) within each group.

    Args:
        rewards: (groups, G) rollout rewards; a group is the rollouts of one video.

    Returns:
        (groups, G); zero where all of a group got the same reward. The standard deviation is the unbiased one.

    Source: DeepSeekMath (arXiv 2402.03300), equation 3.
    """
    # In float32 the mean of equal rewards may miss them by a bit, and so little divided by eps is no longer little.
    exact = rewards.double()
    centred = exact - exact.mean(-1, keepdim=True)
    return (centred / (exact.std(-1, keepdim=True) + eps)).to(rewards.dtype)


@dataclass(frozen=True)
class PolicyLoss:
    """Result of `grpo`: a scalar loss to minimise, and the share of tokens whose ratio was clipped."""

    loss: torch.Tensor
    clip_share: torch.Tensor


def grpo(
    logprobs: torch.Tensor,
    old_logprobs: torch.Tensor,
    advantages: torch.Tensor,
    mask: torch.Tensor,
    *,
    epsilon: float = 0.2,
    epsilon_high: float = 0.3,
    dual_clip: float = 3.0,
    total: float | None = None,
    weights: torch.Tensor | None = None,
) -> PolicyLoss:
    """Compute the clipped policy loss, averaged over tokens.

    Args:
        logprobs, old_logprobs: (N, T) of the sampled tokens, now and when they were sampled.
        advantages: (N,).
        mask: (N, T), 1 on the tokens of a rollout, its end token included.
        epsilon, epsilon_high: the ratio is clipped to [1 - epsilon, 1 + epsilon_high].
        dual_clip: for a negative advantage the loss is at most `dual_clip` times its size.
        total: tokens that the sum is divided by, where this batch is a part of a larger one.
        weights: (N, T) of each token's loss, such as `importance_weights`; None: 1.

    Source: DAPO (arXiv 2503.14476), equation 8 (token mean, asymmetric clip); dual clip: arXiv 1912.09729, equation 6.
    """
    ratio = (logprobs - old_logprobs).exp()
    advantage = advantages[:, None]
    plain = -advantage * ratio
    clipped = -advantage * ratio.clamp(1 - epsilon, 1 + epsilon_high)
    losses = torch.maximum(plain, clipped)
    losses = torch.where(advantage < 0, torch.minimum(losses, -advantage * dual_clip), losses)
    if weights is not None:
        losses = losses * weights
    count = mask.sum().clamp(min=1)
    clip_share = ((clipped > plain) * mask).sum() / count
    return PolicyLoss((losses * mask).sum() / (count if total is None else max(total, 1)), clip_share.detach())


def sampler_ratio(logprobs: torch.Tensor, sampler_logprobs: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Return by how much likelier each sampled token is for the trained model than for the rollout engine, (N, T).

    An engine that is the model gives 1 up to rounding. One that is not, by other kernels, a narrower dtype, or weights that
    it did not get, samples from another policy than the one whose gradient is taken.

    Args:
        logprobs: (N, T) of the sampled tokens under the weights that they were sampled with, by the trained model.
        sampler_logprobs: (N, T) of the same, as the engine gave them.
        mask: (N, T), 1 on the tokens of a rollout, its end token included; 1 is returned elsewhere.

    Returns:
        Without a graph: the ratio is no part of the policy's gradient.
    """
    difference = (logprobs - sampler_logprobs).detach().float().clamp(-20, 20)
    return (difference * mask).exp()


def importance_weights(ratio: torch.Tensor, cap: float = 2.0) -> torch.Tensor:
    """Truncate importance weights: the ratio of `sampler_ratio`, at most `cap`.

    Source: Yao et al. (2025), "Your efficient RL framework secretly brings you off-policy RL training"; token level, as TRL
    (`vllm_importance_sampling_cap`) and verl (`rollout_is`) apply it.
    """
    return ratio.clamp(max=cap)


def ratio_figures(ratio: torch.Tensor, mask: torch.Tensor, epsilon: float, epsilon_high: float) -> dict[str, torch.Tensor]:
    """Return scalars of a ratio (N, T) over the tokens of `mask`.

    Returns:
        `ratio`: its sum. `ratio_tokens`: number of tokens. `ratio_outside`: of those whose ratio lies outside
        [1 - epsilon, 1 + epsilon_high]. `largest_ratio`: the largest one; 0 without tokens.
    """
    chosen = ratio * mask
    outside = ((ratio < 1 - epsilon) | (ratio > 1 + epsilon_high)) * mask
    largest = chosen.amax() if chosen.numel() else chosen.new_zeros(())
    figures = {"ratio": chosen.sum(), "ratio_tokens": mask.sum(), "ratio_outside": outside.sum(), "largest_ratio": largest}
    return {name: value.float() for name, value in figures.items()}


def low_variance_kl(logprobs: torch.Tensor, reference: torch.Tensor) -> torch.Tensor:
    """Schulman's k3 estimate of KL(policy || reference) for each sampled token: exp(d) - d - 1, d = ref - log p.

    Args:
        logprobs, reference: log-probabilities of the same sampled tokens, any shape.

    Source: http://joschu.net/blog/kl-approx.html; DeepSeekMath (arXiv 2402.03300), equation 4.
    """
    difference = (reference - logprobs).clamp(-20, 20)
    return difference.exp() - difference - 1
