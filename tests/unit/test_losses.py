"""Bradley-Terry: its value, its gradient, and what it does with ties."""

from __future__ import annotations

import math

import pytest
import torch

from trainer.losses import bradley_terry


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
