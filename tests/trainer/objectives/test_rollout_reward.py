"""The rollout reward by rule: its parts, and what becomes of their sum where no sub-score is known."""

from __future__ import annotations

import pytest

from descore.answer import render_answer
from tests.helpers.tiny_runs import TRUTH
from trainer.objectives.rollout_reward import RolloutRewardConfig, length_reward, rollout_reward, self_check


@pytest.mark.parametrize(
    ("tokens", "low", "high", "expected"),
    [(499, 500, 2000, 0.0), (500, 500, 2000, 0.0), (1250, 500, 2000, 0.5), (2000, 500, 2000, 1.0), (3000, 500, 2000, 1.0)],
)
def test_the_length_reward_rises_between_its_bounds(tokens: int, low: int, high: int, expected: float) -> None:
    assert length_reward(tokens, low, high) == pytest.approx(expected)


def test_equal_bounds_are_a_step() -> None:
    assert [length_reward(tokens, 60, 60) for tokens in (0, 59, 60, 61)] == [0.0, 0.0, 1.0, 1.0]
    assert [length_reward(tokens, 0, 0) for tokens in (0, 1)] == [1.0, 1.0]
    self_check(RolloutRewardConfig(length_low=60, length_high=60))


def test_the_sum_has_the_methods_weights() -> None:
    config, text = RolloutRewardConfig(), render_answer("I see it.", TRUTH, 3.5)
    wrong = {name: "0" if value == "2" else value for name, value in TRUTH.items()}  # two of the five
    assert rollout_reward(text, 1250, TRUTH, config).total == pytest.approx(0.7 + 0.1 + 0.2 / 2)
    assert rollout_reward(text, 2000, wrong, config).total == pytest.approx(0.7 * 3 / 5 + 0.1 + 0.2)
    assert rollout_reward("no answer", 2000, TRUTH, config).total == pytest.approx(0.2)
    untold = rollout_reward(text, 1250, {}, config)
    assert untold.quality is None
    assert untold.total == pytest.approx((0.1 + 0.2 / 2) / 0.3)
