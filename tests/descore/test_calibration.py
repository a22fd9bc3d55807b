"""The readable scale: what is fitted, what it means, and that odd data give no odd scale."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from descore.calibration import (
    Calibration,
    CalibrationError,
    ModeCalibration,
    carried_over,
    fit_mode,
    higher_reward,
    probability_source,
    reward_std,
)
from descore.metrics import best_tie_threshold

ONE = ModeCalibration(mean=2.0, std=0.5, temperature=1.5, tie_threshold=0.25, reference_videos=10, validation_pairs=20)
finite = st.floats(-1e6, 1e6)


def bt_loss(temperature: float, margins: np.ndarray, labels: np.ndarray) -> float:
    """Bradley-Terry log-loss, a tie counted half for each side."""
    wins = (labels + 1) / 2
    x = margins / temperature
    return float(np.mean(wins * np.logaddexp(0, -x) + (1 - wins) * np.logaddexp(0, x)))


def sampled_pairs(temperature: float, n: int = 4000, ties: float = 0.0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rewards of A and B, and labels drawn from the Bradley-Terry model at a known temperature."""
    rng = np.random.default_rng(0)
    a, b = rng.normal(0, 2, (2, n))
    labels = np.where(rng.random(n) < 1 / (1 + np.exp((b - a) / temperature)), 1, -1)
    labels[rng.random(n) < ties] = 0
    return a, b, labels


def test_a_known_temperature_is_found_again() -> None:
    for temperature in (0.5, 1.0, 4.0):
        a, b, labels = sampled_pairs(temperature)
        assert fit_mode(a, b, labels, a).temperature == pytest.approx(temperature, rel=0.1)


def test_the_temperature_minimises_the_loss_with_ties_as_halves() -> None:
    a, b, labels = sampled_pairs(1.0, n=500, ties=0.2)
    found = fit_mode(a, b, labels, a).temperature
    least = bt_loss(found, a - b, labels)
    assert all(bt_loss(found * factor, a - b, labels) > least for factor in (0.5, 0.9, 0.99, 1.01, 1.1, 2.0))


def test_rewards_in_other_units_give_the_same_probabilities() -> None:
    a, b, labels = sampled_pairs(1.0, n=300)
    small, large = fit_mode(a, b, labels, a), fit_mode(1000 * a, 1000 * b, labels, 1000 * a)
    assert large.temperature == pytest.approx(1000 * small.temperature)
    assert large.p_first(1700, 400) == pytest.approx(small.p_first(1.7, 0.4))
    assert large.standardise(1700) == pytest.approx(small.standardise(1.7))


def test_the_threshold_is_the_one_of_the_metric() -> None:
    a, b, labels = sampled_pairs(1.0, n=300, ties=0.3)
    assert fit_mode(a, b, labels, a).tie_threshold == best_tie_threshold(a - b, labels).eps


def test_mean_and_spread_are_those_of_the_reference_videos() -> None:
    fitted = fit_mode([1.0, 3.0], [0.0, 4.0], [1, -1], [1.0, 2.0, 6.0])
    assert (fitted.mean, fitted.std) == (pytest.approx(3.0), pytest.approx(np.std([1.0, 2.0, 6.0])))
    assert (fitted.reference_videos, fitted.validation_pairs) == (3, 2)
    assert fitted.standardise(fitted.mean + fitted.std) == pytest.approx(1.0)


def test_separable_pairs_give_a_bounded_certainty_that_grows_with_their_number() -> None:
    certainties = []
    for n in (2, 20, 2000):
        fitted = fit_mode(np.ones(n), np.zeros(n), np.ones(n), np.arange(n))
        certainties.append(fitted.p_first(1.0, 0.0))
        assert certainties[-1] == pytest.approx(1 - 1 / (n + 2))
    assert certainties == sorted(certainties)


def test_rewards_against_the_labels_give_no_confidence() -> None:
    fitted = fit_mode([0.0, 0.0, 0.0], [1.0, 2.0, 3.0], [1, 1, 1], [0.0, 1.0])
    assert fitted.temperature > 0
    assert fitted.p_first(2.0, 0.0) == pytest.approx(0.5, abs=0.01)


@pytest.mark.parametrize("labels", [[1, 1], [0, 0], [1, -1]])
def test_rewards_that_are_all_equal_give_a_usable_scale(labels: list[int]) -> None:
    fitted = fit_mode([0.1, 0.1], [0.1, 0.1], labels, [0.1, 0.1, 0.1])
    assert fitted.std == 1.0
    assert fitted.standardise(0.1) == pytest.approx(0.0)
    assert fitted.p_first(0.1, 0.1) == 0.5
    assert fitted.outcome(0.1, 0.1) == "tie"


@given(st.lists(st.tuples(finite, finite, st.sampled_from((-1, 0, 1))), min_size=1, max_size=20))
def test_any_data_give_a_valid_scale(data: list[tuple[float, float, int]]) -> None:
    a, b, labels = zip(*data, strict=True)
    fitted = fit_mode(a, b, labels, a)
    assert 0 < fitted.temperature < math.inf
    text = json.dumps(Calibration({"think": fitted}).to_dict())
    assert Calibration.from_dict(json.loads(text)) == Calibration({"think": fitted})


@given(finite, finite)
def test_swapping_the_videos_swaps_probability_and_verdict(a: float, b: float) -> None:
    assert ONE.p_first(a, b) == pytest.approx(1 - ONE.p_first(b, a))
    assert 0 <= ONE.p_first(a, b) <= 1
    assert ONE.outcome(b, a) == {"A": "B", "B": "A", "tie": "tie"}[ONE.outcome(a, b)]


def test_probability_and_verdict_at_known_points() -> None:
    assert ONE.p_first(1.5, 0.0) == pytest.approx(1 / (1 + math.exp(-1)))
    assert ONE.outcome(1.0, 0.75) == "tie"
    assert ONE.outcome(1.01, 0.75) == "A"
    assert ONE.outcome(0.0, 1.0) == "B"
    assert replace(ONE, tie_threshold=0.0).outcome(3.0, 3.0) == "tie"
    assert ONE.p_first(1e9, -1e9) == 1.0


def test_a_scale_that_is_carried_over_gives_stretched_rewards_the_same_probability() -> None:
    rewards = np.array([0.5, -1.0, 2.0, 1.5])
    carried = carried_over(ONE, "parent", reward_std(rewards), 3 * rewards + 7)
    assert carried is not None
    assert carried.p_first(3 * 1.5, 3 * 0.5) == pytest.approx(ONE.p_first(1.5, 0.5))
    assert carried.tie_threshold == pytest.approx(3 * ONE.tie_threshold)
    assert carried.standardise(7 + 3 * float(rewards.mean())) == pytest.approx(0)
    assert (carried.reference_videos, carried.validation_pairs) == (4, ONE.validation_pairs)
    assert probability_source(carried).startswith("carried over from parent, rescaled")
    grandchild = carried_over(carried, "child", carried.std, rewards)
    assert grandchild is not None
    assert grandchild.source == "parent", "what was fitted is named, not who handed it on"
    assert Calibration.from_dict(json.loads(json.dumps(Calibration({"think": carried}).to_dict())))["think"] == carried


def test_equal_rewards_carry_no_scale_over() -> None:
    assert carried_over(ONE, "parent", 0.0, [1.0, 2.0]) is None
    assert carried_over(ONE, "parent", 1.0, [0.1 + 0.2, 0.3, 0.3]) is None
    with pytest.raises(CalibrationError, match="not finite"):
        carried_over(ONE, "parent", 1.0, [1.0, float("nan")])


def test_a_fitted_scale_is_written_as_earlier_versions_read_it() -> None:
    assert "source" not in ONE.to_dict()
    assert ModeCalibration.from_dict(ONE.to_dict()) == ONE
    assert probability_source(ONE) == f"fitted on {ONE.validation_pairs} validation pairs"


def test_without_a_scale_the_higher_reward_is_all_there_is() -> None:
    assert [higher_reward(*rewards) for rewards in ((1.0, 0.0), (0.0, 1e-9), (2.0, 2.0))] == ["A", "B", "tie"]
    with pytest.raises(CalibrationError, match="not finite"):
        higher_reward(float("nan"), 0.0)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_no_verdict_from_a_reward_that_is_no_number(bad: float) -> None:
    with pytest.raises(CalibrationError, match="not finite"):
        ONE.outcome(bad, 0.0)


def test_k_borrows_the_scale_of_think_and_quick_does_not() -> None:
    calibration = Calibration({"think": ONE})
    assert calibration.for_mode("k") is ONE
    assert calibration.for_mode("quick") is None
    own = replace(ONE, mean=1.0)
    assert Calibration({"think": ONE, "k": own}).for_mode("k") is own
    assert Calibration({}).for_mode("k") is None


@pytest.mark.parametrize(
    "change",
    [
        {"std": 0.0},
        {"std": float("nan")},
        {"temperature": -1.0},
        {"temperature": "1"},
        {"tie_threshold": -0.1},
        {"mean": None},
        {"reference_videos": 0},
        {"validation_pairs": 2.5},
        {"surprise": 1},
        {"source": 3},
    ],
)
def test_a_damaged_calibration_is_refused_with_its_mode(change: dict[str, object]) -> None:
    with pytest.raises(CalibrationError, match="'think'"):
        Calibration.from_dict({"think": {**ONE.to_dict(), **change}})


def test_a_missing_field_is_refused() -> None:
    data = ONE.to_dict()
    del data["std"]
    with pytest.raises(CalibrationError, match="std"):
        ModeCalibration.from_dict(data)
    with pytest.raises(CalibrationError, match="not an object"):
        Calibration.from_dict({"think": 3})


@pytest.mark.parametrize(
    ("a", "b", "labels", "reference"),
    [
        ([], [], [], [1.0]),
        ([1.0], [0.0], [1], []),
        ([1.0], [0.0, 1.0], [1], [1.0]),
        ([float("nan")], [0.0], [1], [1.0]),
        ([1.0], [0.0], [1], [float("inf")]),
        ([1.0], [0.0], [3], [1.0]),
    ],
)
def test_data_that_no_scale_can_come_from_are_refused(
    a: list[float], b: list[float], labels: list[int], reference: list[float]
) -> None:
    with pytest.raises(CalibrationError, match="can't calibrate"):
        fit_mode(a, b, labels, reference)
