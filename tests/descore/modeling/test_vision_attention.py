"""Batched vision attention gives the numbers of transformers' own loop over frames."""

from __future__ import annotations

import copy

import pytest
import torch

from descore.modeling.vision_attention import batch_equal_frames
from tests.helpers.tiny import PATCH, tiny_backbone


@pytest.mark.parametrize("grid", [[[3, 4, 4]], [[2, 4, 4], [3, 4, 4], [2, 2, 6]]], ids=["equal", "mixed"])
def test_forward_and_gradients_equal_the_loop(grid: list[list[int]]) -> None:
    loop = tiny_backbone().model.visual
    batched = copy.deepcopy(loop)
    assert batch_equal_frames(batched) == len(batched.blocks)
    grid_thw = torch.tensor(grid)
    pixels = torch.randn(int(grid_thw.prod(-1).sum()), 3 * 2 * PATCH * PATCH)
    outputs = [tower(pixels, grid_thw) for tower in (loop, batched)]
    for expected, found in zip(
        [outputs[0].pooler_output, *outputs[0].deepstack_features],
        [outputs[1].pooler_output, *outputs[1].deepstack_features],
        strict=True,
    ):
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
    for output in outputs:
        output.pooler_output.square().sum().backward()
    for (name, expected_parameter), found_parameter in zip(loop.named_parameters(), batched.parameters(), strict=True):
        if expected_parameter.grad is None:
            assert found_parameter.grad is None, name  # the deepstack mergers, which this loss does not read
            continue
        scale = float(expected_parameter.grad.abs().max()) + 1e-6
        torch.testing.assert_close(found_parameter.grad / scale, expected_parameter.grad / scale, atol=1e-5, rtol=1e-4)


def test_one_attention_call_for_a_clip_of_equal_frames(monkeypatch: pytest.MonkeyPatch) -> None:
    tower = tiny_backbone().model.visual
    batch_equal_frames(tower)
    shapes = []
    original = torch.nn.functional.scaled_dot_product_attention

    def counting(query: torch.Tensor, *args: object, **kwargs: object) -> torch.Tensor:
        shapes.append(tuple(query.shape))
        return original(query, *args, **kwargs)

    monkeypatch.setattr(torch.nn.functional, "scaled_dot_product_attention", counting)
    tower(torch.randn(5 * 16, 3 * 2 * PATCH * PATCH), torch.tensor([[5, 4, 4]]))
    assert shapes == [(5, 2, 16, 16)] * len(tower.blocks)


def test_other_models_are_left_alone() -> None:
    assert batch_equal_frames(torch.nn.Sequential(torch.nn.Linear(2, 2))) == 0
