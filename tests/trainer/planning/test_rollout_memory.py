"""What the plan says that rollouts hold is what they hold, measured tensor by tensor."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch

from benchmarks.rollout_memory import build_prompts, build_rollouts, checkpointed, measured_bytes, planned_bytes
from descore.judge import DeScore
from trainer.planning.layer_costs import language_costs, meta_backbone
from trainer.planning.rollout_memory import RolloutShape

if TYPE_CHECKING:
    from descore.encode import Batch
    from descore.modeling.model import DeScoreModel


@pytest.fixture(scope="module")
def pair() -> tuple[DeScoreModel, Batch]:
    judge = DeScore.from_pretrained("bundled")
    return checkpointed(judge.model), build_prompts(judge, 8)


@pytest.mark.training
def test_the_plan_is_what_is_measured_and_the_number_of_rollouts_makes_no_difference(
    pair: tuple[DeScoreModel, Batch],
) -> None:
    model, prompts = pair
    backbone = meta_backbone("bundled", torch.float32)
    costs, length = language_costs(backbone, torch.float32), prompts["input_ids"].shape[1]
    found = {}
    for generations, thought, budget in [(3, 200, 800), (9, 200, 800), (2, 900, 800), (3, 200, None)]:
        shape = RolloutShape(2, length, generations, thought, budget)
        measured = measured_bytes(model, prompts, build_rollouts(model, generations, thought), budget)
        found[generations, thought, budget] = measured
        assert measured == pytest.approx(planned_bytes(backbone, costs, shape), rel=0.12), (generations, thought, budget)
    assert found[9, 200, 800] == pytest.approx(found[3, 200, 800], rel=0.01)
    assert found[3, 200, None] > 1.2 * found[3, 200, 800]


def test_a_chunk_has_as_many_rollouts_as_the_budget_holds() -> None:
    assert RolloutShape(2, 100, 8, 99, None).slots == 2 * 8 * 100
    assert RolloutShape(2, 100, 8, 99, 650).slots == 3 * 200
    assert RolloutShape(2, 100, 2, 99, 650).slots == 2 * 200


def test_what_is_longer_than_the_budget_is_cut() -> None:
    cut, whole = RolloutShape(2, 100, 8, 999, 500), RolloutShape(2, 100, 8, 249, 500)
    assert (cut.slots, cut.is_cut) == (500, True)
    assert (whole.slots, whole.is_cut) == (500, False)
    assert RolloutShape(4, 100, 8, 9, 1).slots == 4  # a slot of each video at the least
