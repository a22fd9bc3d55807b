"""Rollouts from one shared prefix: the same rewards, log-probabilities and gradients as with the prompt repeated."""

from __future__ import annotations

import pytest
import torch

from descore.encode import collate, pad_token_id, with_thought
from descore.modeling.model import DeScoreModel
from descore.modeling.transformers_versions import checkpoint_activations
from tests.helpers.tiny_families import qwen3_5
from tests.helpers.tiny_rollouts import ENDED, THOUGHTS, prompt_rows, tiny_rollouts
from trainer.rollouts.shared_prefix import pack_rollouts, rollout_forward


def repeated(model: DeScoreModel) -> tuple[torch.Tensor, torch.Tensor]:
    """Compute it plainly: each rollout alone, with its whole prompt."""
    end = model.processor.tokenizer.eos_token_id
    width = max(len(ids) + 1 for one in THOUGHTS for ids in one)
    rewards, logprobs = [], []
    for row, thoughts, ended in zip(prompt_rows(), THOUGHTS, ENDED, strict=True):
        for ids, end_here in zip(thoughts, ended, strict=True):
            batch = collate([with_thought(model.processor, row, ids)], pad_token_id(model.processor))
            run = model.forward(batch)
            rewards.append(run.rewards[0])
            target = torch.tensor([*ids, end] if end_here else ids, dtype=torch.long)
            start = len(row["input_ids"]) - 1
            logits = model.token_logits(run.hidden[0, start : start + len(target)]).float()
            logits = logits.masked_fill(model.never_sampled, -torch.inf)
            picked = logits.log_softmax(-1).gather(-1, target[:, None])[:, 0]
            logprobs.append(torch.nn.functional.pad(picked, (0, width - len(target))))
    return torch.stack(rewards).reshape(len(THOUGHTS), -1), torch.stack(logprobs)


def gradients(model: DeScoreModel, rewards: torch.Tensor, logprobs: torch.Tensor) -> dict[str, torch.Tensor]:
    """Of a scalar in which every reward and every log-probability has a weight of its own."""
    weights = torch.linspace(-1, 1, logprobs.numel()).reshape(logprobs.shape)
    model.zero_grad()
    ((logprobs * weights).sum() + (rewards * torch.linspace(-2, 1, rewards.numel()).reshape(rewards.shape)).sum()).backward()
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


@pytest.mark.slow
@pytest.mark.parametrize("way", ["shared", "cache", "states"])
def test_values_and_gradients_are_those_of_the_repeated_prompt(
    model: DeScoreModel, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if way == "cache":
        monkeypatch.setattr("trainer.rollouts.shared_prefix.takes_prefixes", lambda _backbone: False)
    if way == "states":
        model = DeScoreModel(*qwen3_5(), model.scoring).eval()
    plain_rewards, plain_logprobs = repeated(model)
    plain = gradients(model, plain_rewards, plain_logprobs)
    prompts = collate(prompt_rows(), pad_token_id(model.processor))
    run = rollout_forward(model, prompts, tiny_rollouts(model))
    torch.testing.assert_close(run.rewards, plain_rewards, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(run.logprobs, plain_logprobs, rtol=1e-4, atol=1e-5)
    shared = gradients(model, run.rewards, run.logprobs)
    assert shared.keys() == plain.keys() == {name for name, _ in model.named_parameters()}
    tolerance = 1e-3 if way == "states" else 1e-4  # linear attention solves systems of equations in float32
    for name, gradient in plain.items():
        assert (shared[name] - gradient).norm() <= tolerance * gradient.norm() + 1e-7, name


@pytest.mark.slow
def test_gradient_checkpointing_gives_the_same_gradients(model: DeScoreModel) -> None:
    prompts = collate(prompt_rows(), pad_token_id(model.processor))
    plain = rollout_forward(model, prompts, tiny_rollouts(model))
    expected = gradients(model, plain.rewards, plain.logprobs)
    model.train()
    checkpoint_activations(model.backbone)
    run = rollout_forward(model, prompts, tiny_rollouts(model))
    found = gradients(model, run.rewards, run.logprobs)
    for name, gradient in expected.items():
        assert (found[name] - gradient).norm() <= 1e-4 * gradient.norm() + 1e-7, name


def test_the_score_of_a_rollout_is_what_the_judge_gives(model: DeScoreModel) -> None:
    prompts = collate(prompt_rows(), pad_token_id(model.processor))
    uniforms = torch.rand(6, 12, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    state = model.repeat(model.prefill(prompts), 3)
    for _ in model.think(state, 12, uniforms):
        pass
    judged = model.score(state).reshape(2, 3)
    thoughts = [state.thoughts[:3], state.thoughts[3:]]
    packed = pack_rollouts(thoughts, [state.ends[:3], state.ends[3:]], model.device)
    with torch.no_grad():
        run = rollout_forward(model, prompts, packed)
    torch.testing.assert_close(run.rewards, judged, rtol=1e-4, atol=1e-5)


def test_videos_with_different_numbers_of_rollouts_are_refused() -> None:
    with pytest.raises(ValueError, match="same number"):
        pack_rollouts([[[1]], [[1], [2]]], [[0], [0, 0]], torch.device("cpu"))
