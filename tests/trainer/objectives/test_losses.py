"""Both stages' losses: Bradley-Terry and its ties against direct formulas, GRPO and KL against the ones TRL publishes."""

from __future__ import annotations

import math

import pytest
import torch

from trainer.objectives.losses import (
    bradley_terry,
    bradley_terry_ties,
    group_advantages,
    grpo,
    importance_weights,
    low_variance_kl,
    ratio_figures,
    sampler_ratio,
)


def test_it_is_the_mean_negative_log_likelihood_of_the_preferences() -> None:
    loss = bradley_terry(torch.tensor([2.0, 0.0]), torch.tensor([1.0, 3.0]), torch.tensor([1.0, 1.0]))
    expected = (math.log(1 + math.exp(-1)) + math.log(1 + math.exp(3))) / 2
    assert loss.item() == pytest.approx(expected)


def test_swapping_the_sides_with_the_label_changes_nothing() -> None:
    a, b, label = torch.randn(8), torch.randn(8), torch.tensor([1.0, -1] * 4)
    assert bradley_terry(a, b, label).item() == pytest.approx(bradley_terry(b, a, -label).item())


def test_ties_give_no_gradient_and_do_not_dilute_the_mean() -> None:
    a = torch.tensor([0.3, 5.0], requires_grad=True)
    loss = bradley_terry(a, torch.tensor([0.0, 0.0]), torch.tensor([1.0, 0.0]))
    loss.backward()
    assert loss.item() == pytest.approx(math.log(1 + math.exp(-0.3)))
    assert a.grad is not None
    assert a.grad[1] == 0
    assert a.grad[0] < 0


def test_a_batch_of_ties_is_zero_and_still_has_a_graph() -> None:
    a = torch.zeros(2, requires_grad=True)
    loss = bradley_terry(a, torch.ones(2), torch.zeros(2))
    loss.backward()
    assert loss.item() == 0


def test_gradient_pulls_the_rewards_apart() -> None:
    a, b = torch.zeros(1, requires_grad=True), torch.zeros(1, requires_grad=True)
    bradley_terry(a, b, torch.tensor([-1.0])).backward()
    assert a.grad is not None
    assert b.grad is not None
    assert a.grad.item() == pytest.approx(0.5)
    assert b.grad.item() == pytest.approx(-0.5)


# TRL's GRPO as the oracle: the formulas that `GRPOTrainer._compute_loss` of TRL 1.16 computes, written out (epsilon,
# epsilon_high, delta; loss_type "bnpo" and "dapo"; the k3 estimate of the KL). github.com/huggingface/trl, Apache-2.0.


def trl_per_token_loss(
    logps: torch.Tensor, old: torch.Tensor, advantages: torch.Tensor, low: float, high: float, delta: float | None
) -> torch.Tensor:
    coef_1 = torch.exp(logps - old)
    coef_2 = torch.clamp(coef_1, 1 - low, 1 + high)
    if delta is not None:
        coef_1 = torch.clamp(coef_1, max=delta)
    return -torch.min(coef_1 * advantages.unsqueeze(1), coef_2 * advantages.unsqueeze(1))


def trl_kl(logps: torch.Tensor, reference: torch.Tensor) -> torch.Tensor:
    return torch.exp(reference - logps) - (reference - logps) - 1


def trl_token_mean(per_token_loss: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Compute the mean of "bnpo", and of "dapo" where num_items_in_batch are the tokens of this batch on one process."""
    return (per_token_loss * mask).sum() / mask.sum().clamp(min=1.0)


def rollouts(seed: int = 0) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """logps, old, advantages, mask: ratios from 0.1 to 10, so that every bound is met."""
    generator = torch.Generator().manual_seed(seed)
    logps = torch.randn(12, 30, generator=generator) - 2
    old = logps + torch.randn(12, 30, generator=generator)
    advantages = torch.randn(12, generator=generator)
    lengths = torch.randint(1, 31, (12,), generator=generator)
    return logps, old, advantages, (torch.arange(30) < lengths[:, None]).long()


def test_grpo_is_trls_loss_where_the_dual_clip_is_out_of_reach() -> None:
    for seed in range(5):
        logps, old, advantages, mask = rollouts(seed)
        ours = grpo(logps, old, advantages, mask, epsilon=0.2, epsilon_high=0.3, dual_clip=1e9).loss
        theirs = trl_token_mean(trl_per_token_loss(logps, old, advantages, 0.2, 0.3, None), mask)
        torch.testing.assert_close(ours, theirs)


def test_the_dual_clip_is_trls_delta() -> None:
    """For negative advantages min(r A, clip(r) A) with r at most delta is what the dual clip bounds the loss to.

    For positive ones delta changes nothing either, as it lies above 1 + epsilon_high.
    """
    logps, old, advantages, mask = rollouts()
    assert float((logps - old).exp().max()) > 3
    ours = grpo(logps, old, advantages, mask, epsilon=0.2, epsilon_high=0.3, dual_clip=3.0).loss
    theirs = trl_token_mean(trl_per_token_loss(logps, old, advantages, 0.2, 0.3, 3.0), mask)
    torch.testing.assert_close(ours, theirs)
    unbounded = trl_token_mean(trl_per_token_loss(logps, old, advantages, 0.2, 0.3, None), mask)
    assert float(unbounded - theirs) > 1e-3


def test_its_gradient_is_trls_too() -> None:
    logps, old, advantages, mask = rollouts(3)
    one, other = logps.clone().requires_grad_(), logps.clone().requires_grad_()
    grpo(one, old, advantages, mask).loss.backward()
    trl_token_mean(trl_per_token_loss(other, old, advantages, 0.2, 0.3, 3.0), mask).backward()
    torch.testing.assert_close(one.grad, other.grad)


def test_parts_with_the_total_of_all_are_trls_dapo() -> None:
    """With "dapo" the sum is divided by the tokens of the whole step, over passes and processes."""
    logps, old, advantages, mask = rollouts(1)
    total = float(mask.sum())
    parts = [slice(0, 3), slice(3, 8), slice(8, 12)]
    found = sum(grpo(logps[p], old[p], advantages[p], mask[p], total=total).loss for p in parts)
    per_token = trl_per_token_loss(logps, old, advantages, 0.2, 0.3, 3.0)
    torch.testing.assert_close(found, (per_token * mask).sum() / total)


def test_at_the_sampling_policy_the_loss_is_the_mean_advantage_of_the_tokens() -> None:
    logps, _, advantages, mask = rollouts(2)
    found = grpo(logps, logps, advantages, mask)
    torch.testing.assert_close(found.loss, -(advantages[:, None] * mask).sum() / mask.sum())
    assert found.clip_share == 0


def test_the_kl_is_trls_k3() -> None:
    logps, reference, _, _ = rollouts()
    torch.testing.assert_close(low_variance_kl(logps, reference), trl_kl(logps, reference))
    assert low_variance_kl(logps, logps).abs().max() == 0
    assert low_variance_kl(logps, reference).min() > 0


def test_advantages_are_trls_group_ones_with_the_methods_small_number() -> None:
    """TRL adds 1e-4 to the standard deviation, the method 1e-6."""
    rewards = torch.tensor([[0.0, 1.0, 0.5, 0.5], [0.7, 0.7, 0.7, 0.7]])
    mean, std = rewards.mean(1, keepdim=True), rewards.std(1, keepdim=True)
    torch.testing.assert_close(group_advantages(rewards), (rewards - mean) / (std + 1e-6))
    assert not group_advantages(rewards)[1].any()


def test_equal_rewards_have_no_advantage_at_all() -> None:
    for size in range(2, 17):
        rewards = torch.linspace(0, 1, 301)[:, None].expand(-1, size)
        assert not group_advantages(rewards).any(), size
    assert group_advantages(torch.tensor([[0.0, 1.0]])).dtype == torch.float32


# The engine that sampled against the model that is trained, token by token in plain Python.


def by_hand(
    logps: torch.Tensor, sampler: torch.Tensor, advantages: torch.Tensor, mask: torch.Tensor, cap: float
) -> tuple[float, list[float]]:
    """The loss where the policy has not moved since sampling, importance weights included; and all ratios."""
    total, ratios = 0.0, []
    for row in range(len(mask)):
        for token in range(int(mask[row].sum())):
            ratio = math.exp(float(logps[row, token]) - float(sampler[row, token]))
            total -= min(ratio, cap) * float(advantages[row])
            ratios.append(ratio)
    return total / len(ratios), ratios


def test_importance_weights_are_the_truncated_ratio_of_each_token() -> None:
    logps, sampler, advantages, mask = rollouts(4)
    sampler = sampler * mask  # as it is packed: zeros behind the last token
    expected, ratios = by_hand(logps, sampler, advantages, mask, 2.0)
    assert max(ratios) > 2 > 1 > min(ratios)
    ratio = sampler_ratio(logps, sampler, mask)
    found = grpo(logps, logps, advantages, mask, weights=importance_weights(ratio, 2.0))
    assert found.loss.item() == pytest.approx(expected, rel=1e-5)
    figures = ratio_figures(ratio, mask, 0.2, 0.3)
    assert figures["ratio"].item() == pytest.approx(sum(ratios), rel=1e-5)
    assert figures["ratio_tokens"].item() == len(ratios)
    assert figures["largest_ratio"].item() == pytest.approx(max(ratios), rel=1e-5)
    assert figures["ratio_outside"].item() == sum(not 0.8 <= each <= 1.3 for each in ratios)


def test_an_engine_that_is_the_model_changes_nothing() -> None:
    logps, old, advantages, mask = rollouts(5)
    ratio = sampler_ratio(logps, logps * mask, mask)
    assert torch.equal(ratio, torch.ones_like(ratio))
    weighed = grpo(logps, old, advantages, mask, weights=importance_weights(ratio))
    assert torch.equal(weighed.loss, grpo(logps, old, advantages, mask).loss)


def test_the_gradient_takes_the_weights_for_constants() -> None:
    logps, sampler, advantages, mask = rollouts(6)
    trained = logps.clone().requires_grad_()
    weights = importance_weights(sampler_ratio(trained, sampler, mask))
    grpo(trained, logps, advantages, mask, weights=weights).loss.backward()
    expected = -advantages[:, None] * weights * mask / mask.sum()
    torch.testing.assert_close(trained.grad, expected)


# Rao and Kupper against the probabilities themselves.


@pytest.mark.parametrize("tie", [1.5, 5.0])
def test_rao_kupper_is_minus_the_log_of_its_three_probabilities(tie: float) -> None:
    a, b = torch.tensor([1.0, -2.0, 0.3]), torch.tensor([0.5, 1.0, 0.1])
    strength_a, strength_b = a.exp(), b.exp()
    wins = strength_a / (strength_a + tie * strength_b)
    loses = strength_b / (strength_b + tie * strength_a)
    for label, probability in ((1, wins), (-1, loses), (0, 1 - wins - loses)):
        found = bradley_terry_ties(a, b, torch.full((3,), label), tie)
        torch.testing.assert_close(found, -probability.log().mean())


def test_a_tie_pulls_the_rewards_together() -> None:
    a, b = torch.tensor([2.0], requires_grad=True), torch.tensor([0.0], requires_grad=True)
    bradley_terry_ties(a, b, torch.tensor([0])).backward()
    assert a.grad is not None
    assert b.grad is not None
    assert a.grad.item() > 0 > b.grad.item()


def test_a_tie_parameter_without_ties_is_refused() -> None:
    with pytest.raises(ValueError, match="above 1"):
        bradley_terry_ties(torch.zeros(1), torch.zeros(1), torch.zeros(1), tie=1.0)


def test_a_margin_asks_for_a_lead() -> None:
    a, b, label = torch.tensor([1.0]), torch.tensor([0.0]), torch.tensor([1])
    assert bradley_terry(a, b, label, margin=1.0).item() == pytest.approx(math.log(2))
    assert bradley_terry(-a, b, -label, margin=torch.tensor([1.0])).item() == pytest.approx(math.log(2))


def test_parts_with_the_total_of_all_add_up() -> None:
    a, b, label = torch.randn(8), torch.randn(8), torch.tensor([1, -1, 0, 1, 1, 0, -1, -1])
    found = sum(bradley_terry(a[p], b[p], label[p], total=6) for p in (slice(0, 3), slice(3, 8)))
    torch.testing.assert_close(found, bradley_terry(a, b, label))
