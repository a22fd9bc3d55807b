"""Rollouts in chunks: values and gradients of the whole, whatever the budget, and no more memory than it allows."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch

from descore.encode import collate, pad_token_id
from descore.modeling.transformers_versions import checkpoint_activations
from tests.helpers.tiny_rollouts import prompt_rows, tiny_rollouts
from trainer.rollouts.in_chunks import backward_in_chunks, chosen, logprobs_in_chunks, plan_chunks, rows_of
from trainer.rollouts.shared_prefix import Rollouts, rollout_forward

if TYPE_CHECKING:
    from descore.modeling.model import DeScoreModel

WIDTHS = (6, 9, 4)  # of the rollouts: the longer one of both videos, with its query token


def weights_of(packed: Rollouts) -> torch.Tensor:
    """A weight of its own for each token."""
    return torch.linspace(-1, 1, packed.tokens.numel()).reshape(packed.tokens.shape)


def loss_of_rewards(rewards: torch.Tensor) -> torch.Tensor:
    """As Bradley-Terry does, it takes the rewards of both videos together; its gradient is another for each of them."""
    return (rewards[0] * rewards[1] + rewards[0] ** 2).sum()


def whole(model: DeScoreModel) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    packed = tiny_rollouts(model)
    of_tokens = weights_of(packed)
    run = rollout_forward(model, collate(prompt_rows(), pad_token_id(model.processor)), packed)
    model.zero_grad()
    ((run.logprobs * of_tokens).sum() + loss_of_rewards(run.rewards)).backward()
    return run.logprobs.detach(), {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def in_chunks(model: DeScoreModel, budget: int | None) -> dict[str, torch.Tensor]:
    packed = tiny_rollouts(model)
    of_tokens, rewarded = weights_of(packed), list[int]()
    seen = torch.zeros_like(of_tokens)

    def token_loss(logprobs: torch.Tensor, rows: torch.Tensor, span: slice) -> torch.Tensor:
        if logprobs.requires_grad:
            seen[rows, span] += 1
        return (logprobs * of_tokens[rows, span]).sum()

    def reward_loss(rewards: torch.Tensor) -> torch.Tensor:
        rewarded.append(rewards.numel())
        return loss_of_rewards(rewards)

    model.zero_grad()
    prompts = collate(prompt_rows(), pad_token_id(model.processor))
    backward_in_chunks(model, prompts, packed, plan_chunks(packed, budget), token_loss, reward_loss)
    assert (seen[packed.mask.bool()] == 1).all()
    assert sum(rewarded) == len(packed.lengths)
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


# All in one; the long ones alone; a rollout of each video at a time; the long ones in pieces; all in pieces of one slot.
@pytest.mark.slow
@pytest.mark.parametrize("budget", [None, 60, 24, 18, 10, 2, 1])
@pytest.mark.parametrize("way", ["shared", "checkpointing", "cache"])
def test_gradients_are_those_of_the_whole(
    model: DeScoreModel, budget: int | None, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:  # fmt: skip
    if way == "cache":
        monkeypatch.setattr("trainer.rollouts.shared_prefix.takes_prefixes", lambda _backbone: False)
        monkeypatch.setattr("trainer.rollouts.in_chunks.takes_prefixes", lambda _backbone: False)
    _, expected = whole(model)
    if way == "checkpointing":
        model.train()
        checkpoint_activations(model.backbone)
    found = in_chunks(model, budget)
    assert found.keys() == expected.keys() == {name for name, _ in model.named_parameters()}
    for name, gradient in expected.items():
        assert (found[name] - gradient).norm() <= 1e-5 * gradient.norm() + 1e-6, name


@pytest.mark.slow
@pytest.mark.parametrize("budget", [None, 18, 6, 1])
def test_log_probabilities_without_gradients_are_those_of_the_whole(model: DeScoreModel, budget: int | None) -> None:
    expected, _ = whole(model)
    packed = tiny_rollouts(model)
    prompts = collate(prompt_rows(), pad_token_id(model.processor))
    found = logprobs_in_chunks(model, prompts, packed, plan_chunks(packed, budget))
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    assert not found.requires_grad


@pytest.mark.parametrize("budget", [None, 60, 18, 10, 7, 2, 1])
def test_each_slot_goes_forward_once_and_no_piece_is_over_the_budget(model: DeScoreModel, budget: int | None) -> None:
    packed = tiny_rollouts(model)
    chunks = plan_chunks(packed, budget)
    assert sorted(column for chunk in chunks for column in chunk.columns) == [0, 1, 2]
    for chunk in chunks:
        assert chunk.width == max(WIDTHS[column] for column in chunk.columns)
        assert [start for start, _ in chunk.pieces] == [0, *(end for _, end in chunk.pieces[:-1])]
        assert chunk.pieces[-1][1] == chunk.width
        for start, end in chunk.pieces:
            slots = 2 * len(chunk.columns) * (end - start)
            assert budget is None or slots <= max(budget, 2)
        kept = chosen(packed, chunk)
        assert torch.equal(kept.lengths, packed.lengths[rows_of(chunk, packed)])


def test_the_longest_rollouts_go_first_and_alike_ones_together(model: DeScoreModel) -> None:
    assert [chunk.columns for chunk in plan_chunks(tiny_rollouts(model), 24)] == [(1,), (0, 2)]
