"""The anytime-valid test: its guarantee, its outcomes, its forecasts."""

from __future__ import annotations

import math

import numpy as np
import pytest

from storage.training.sequential_test import PRIOR, SequentialTest, chance_interval, log_e_value

TEST = SequentialTest(differing_share=0.2, margin=0.03)


@pytest.mark.parametrize("p", [0.1, 0.5, 0.83])
def test_the_e_value_is_fair_whenever_one_stops(p: float) -> None:
    """Under p its expectation is 1 after any number of pairs, and a stop at 20 doesn't change that: computed, not drawn."""
    fair = np.array([1.0])  # chance of each count of better pairs, of those not stopped yet
    stopped_mass = stopped_mean = 0.0
    for pairs in range(1, 201):
        fair = np.append(fair * (1 - p), 0.0) + np.append(0.0, fair * p)
        values = np.exp([log_e_value(better, pairs - better, p) for better in range(pairs + 1)])
        over = values >= 20
        stopped_mass += fair[over].sum()
        stopped_mean += (fair * values)[over].sum()
        assert stopped_mean + (fair * values)[~over].sum() == pytest.approx(1, abs=1e-6)
        fair = np.where(over, 0.0, fair)
    assert 0 < stopped_mass <= 0.05


def test_without_labels_nothing_is_known() -> None:
    look = TEST.look(0, 0)
    assert look.e_value == 1
    assert look.interval == (-0.2, 0.2)
    assert look.outcome is look.difference is TEST.labels_left(look) is None


def test_sides_can_be_exchanged() -> None:
    for better, worse in ((3, 1), (30, 8), (120, 119)):
        one, other = TEST.look(better, worse), TEST.look(worse, better)
        assert one.e_value == pytest.approx(other.e_value)
        assert one.interval == pytest.approx((-other.interval[1], -other.interval[0]))
    assert TEST.look(30, 8).outcome == "better"
    assert TEST.look(8, 30).outcome == "worse"


def test_it_is_decided_where_the_interval_leaves_out_zero_and_only_there() -> None:
    for better in range(40):
        for worse in range(40):
            look = TEST.look(better, worse)
            leaves_out = look.interval[0] > 0 or look.interval[1] < 0
            assert leaves_out == (look.outcome in ("better", "worse")) == (look.e_value >= 20)


def test_an_interval_ends_where_the_evidence_reaches_twenty() -> None:
    low, high = chance_interval(31, 9)
    assert low < 31 / 40 < high
    assert log_e_value(31, 9, low) == pytest.approx(math.log(20), abs=1e-6)
    assert log_e_value(31, 9, high) == pytest.approx(math.log(20), abs=1e-6)
    assert chance_interval(12, 0)[1] == 1.0


def test_enough_pairs_on_both_sides_show_that_there_is_no_difference_that_matters() -> None:
    assert TEST.look(100, 100).outcome is None
    look = TEST.look(700, 700)
    assert look.outcome == "no difference"
    assert max(map(abs, look.interval)) <= 0.03
    # Few differing pairs can't move the agreement by much, however they fall.
    assert SequentialTest(differing_share=0.02, margin=0.03).look(1, 1).outcome == "no difference"


def test_the_first_outcome_stays_whatever_comes_after() -> None:
    sides = [0, *[1] * 12, *[-1] * 60]
    first = TEST.first_outcome(sides)
    assert first is not None
    assert (first.outcome, first.ties, first.worse) == ("better", 1, 0)
    assert first.better <= 12
    assert TEST.first_outcome([1, -1, 0] * 5) is None


def test_forecasts_are_what_the_path_takes() -> None:
    look = TEST.look(20, 10, ties=10)
    left = TEST.labels_left(look)
    assert left is not None
    assert 5 < left < 200
    # As many more in the same proportions decide it; ties take a quarter of them.
    pairs = left * 3 / 4
    assert log_e_value(20 + pairs * 21 / 32, 10 + pairs * 11 / 32) >= math.log(20) - 0.1
    assert TEST.labels_left(TEST.look(30, 8)) == 0
    small, large = TEST.labels_for(0.05), TEST.labels_for(0.15)
    assert small is not None
    assert large is not None
    assert large < 40 < small < 400
    assert TEST.labels_for(-0.15) == large


def test_wrong_settings_are_refused() -> None:
    for settings in ({"differing_share": 0.0}, {"differing_share": 0.2, "margin": 0.0}):
        with pytest.raises(ValueError, match="between 0 and 1"):
            SequentialTest(**settings)
    assert PRIOR > 0
