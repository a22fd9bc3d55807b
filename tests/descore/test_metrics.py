"""The accuracies against their definitions written out, and the intervals against what is known of them."""

from __future__ import annotations

import json
import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from descore.metrics import (
    MetricsError,
    accuracy_with_ties_at,
    accuracy_without_ties,
    best_tie_threshold,
    bootstrap_mean,
    bootstrap_proportion,
    bootstrap_with_ties,
    margins_of,
    preference_report,
    wilson_interval,
)

# Margins from a small grid, so that equal ones, opposite ones and zeros are common.
pairs = st.lists(
    st.tuples(st.one_of(st.integers(-3, 3).map(float), st.floats(-5, 5)), st.sampled_from((-1, 0, 1))),
    min_size=1,
    max_size=40,
)


def right(margin: float, label: int, eps: float) -> bool:
    """The protocol, word for word: a tie when |m| <= eps, else the sign of m; m = 0 is no preference."""
    if abs(margin) <= eps:
        return label == 0
    return label * margin > 0


def by_definition(data: list[tuple[float, int]]) -> tuple[float, float]:
    """(best accuracy, smallest eps that reaches it), trying every threshold on every pair."""
    tries = [-1.0, 0.0, *sorted({abs(margin) for margin, _ in data})]
    scored = [(sum(right(m, h, eps) for m, h in data) / len(data), eps) for eps in tries]
    best = max(score for score, _ in scored)
    return best, min(eps for score, eps in scored if score == best)


@given(pairs)
def test_the_best_threshold_is_the_one_of_a_full_search(data: list[tuple[float, int]]) -> None:
    margins, labels = zip(*data, strict=True)
    found = best_tie_threshold(margins, labels)
    accuracy, eps = by_definition(data)
    assert found.accuracy == pytest.approx(accuracy, abs=1e-12)
    assert found.eps == max(eps, 0.0)


@given(pairs)
def test_the_best_threshold_keeps_its_promise_when_applied(data: list[tuple[float, int]]) -> None:
    margins, labels = zip(*data, strict=True)
    found = best_tie_threshold(margins, labels)
    assert accuracy_with_ties_at(margins, labels, found.eps) == pytest.approx(found.accuracy, abs=1e-12)


@given(pairs, st.floats(-1, 6))
def test_accuracy_at_a_threshold_is_its_definition(data: list[tuple[float, int]], eps: float) -> None:
    margins, labels = zip(*data, strict=True)
    expected = sum(right(m, h, eps) for m, h in data) / len(data)
    assert accuracy_with_ties_at(margins, labels, eps) == pytest.approx(expected)


@given(pairs)
def test_accuracy_without_ties_is_its_definition(data: list[tuple[float, int]]) -> None:
    margins, labels = zip(*data, strict=True)
    decided = [(m, h) for m, h in data if h]
    if not decided:
        with pytest.raises(MetricsError, match="tie"):
            accuracy_without_ties(margins, labels)
        return
    assert accuracy_without_ties(margins, labels) == pytest.approx(np.mean([h * m > 0 for m, h in decided]))


@given(pairs)
def test_swapping_the_sides_changes_nothing(data: list[tuple[float, int]]) -> None:
    margins, labels = (np.array(column) for column in zip(*data, strict=True))
    assert best_tie_threshold(margins, labels) == best_tie_threshold(-margins, -labels)


def test_equal_margins_change_sides_together() -> None:
    # Counted in the middle of the equal margins, all four would seem right: the tie won, nothing lost yet.
    found = best_tie_threshold([1.0, 1.0, 1.0, 2.0], [0, 1, 1, 1])
    assert (found.accuracy, found.eps) == (0.75, 0.0)
    found = best_tie_threshold([1.0, -1.0, 1.0], [0, 0, 1])
    assert (found.accuracy, found.eps) == (pytest.approx(2 / 3), 1.0)


def test_no_tie_is_predicted_where_people_see_none() -> None:
    found = best_tie_threshold([0.5, -0.2, 3.0], [1, -1, 1])
    assert (found.accuracy, found.eps) == (1.0, 0.0)
    assert accuracy_with_ties_at([0.5, -0.2, 3.0], [1, -1, 1], found.eps) == 1.0


def test_a_margin_of_zero_is_wrong_without_ties_and_a_tie_with() -> None:
    assert accuracy_without_ties([0.0, 1.0], [1, 1]) == 0.5
    assert accuracy_with_ties_at([0.0, 1.0], [0, 1], 0.0) == 1.0
    assert accuracy_with_ties_at([0.0, 1.0], [0, 1], -1.0) == 0.5


def test_a_large_set_takes_no_quadratic_time() -> None:
    rng = np.random.default_rng(0)
    margins, labels = rng.normal(size=300_000), rng.integers(-1, 2, 300_000)
    begin = time.process_time()
    best_tie_threshold(margins, labels)
    assert time.process_time() - begin < 10, "processor time, so that a busy machine does not count"


def test_margins_are_taken_in_double_precision() -> None:
    a, b = np.float32([16777216.0]), np.float32([0.25])
    assert margins_of(a, b)[0] == 16777215.75


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_rewards_that_are_not_finite_are_refused_by_name(bad: float) -> None:
    with pytest.raises(MetricsError, match=r"rewards_b\[1\]"):
        preference_report([0.0, 1.0], [0.0, bad], [1, -1])
    with pytest.raises(MetricsError, match=r"margins\[0\]"):
        best_tie_threshold([bad], [0])


@pytest.mark.parametrize(
    ("margins", "labels"),
    [([], []), ([1.0], []), ([1.0], [2]), ([1.0], [0.5]), ([[1.0]], [[1]]), ([1.0], [float("nan")])],
)
def test_inputs_that_are_no_pairs_are_refused(margins: list[float], labels: list[int]) -> None:
    with pytest.raises(MetricsError):
        best_tie_threshold(margins, labels)


def test_unequal_numbers_of_rewards_are_refused() -> None:
    with pytest.raises(MetricsError, match="2 rewards for A but 1 for B"):
        preference_report([1.0, 2.0], [1.0], [1, 1])


def test_the_report_holds_the_whole_protocol_and_is_json() -> None:
    report = preference_report([2.0, 0.0, 1.0, 0.1], [0.0, 1.0, 3.0, 0.0], [1, -1, 1, 0], fitted_eps=5.0)
    data = json.loads(json.dumps(report.to_dict()))
    assert (data["pairs"], data["ties"]) == (4, 1)
    assert data["accuracy_without_ties"] == pytest.approx(2 / 3)
    assert data["accuracy_with_ties"] == 0.75
    assert data["eps"] == pytest.approx(0.1)
    assert data["accuracy_with_ties_at_fitted_eps"] == 0.25
    low, high = data["accuracy_without_ties_interval"]
    assert 0 <= low <= 2 / 3 <= high <= 1


def test_a_set_of_ties_only_has_no_accuracy_without_ties() -> None:
    report = preference_report([1.0, 2.0], [1.0, 0.0], [0, 0])
    assert report.accuracy_without_ties is None
    assert report.accuracy_without_ties_interval is None
    assert (report.accuracy_with_ties, report.eps) == (1.0, 2.0)


def test_intervals_repeat_with_their_seed() -> None:
    rng = np.random.default_rng(1)
    a, b, labels = rng.normal(size=200), rng.normal(size=200), rng.integers(-1, 2, 200)
    assert preference_report(a, b, labels, seed=3) == preference_report(a, b, labels, seed=3)
    assert preference_report(a, b, labels, seed=3) != preference_report(a, b, labels, seed=4)


def test_the_bootstrap_of_a_proportion_is_as_wide_as_theory_says() -> None:
    low, high = bootstrap_proportion(np.arange(1000) < 700, resamples=20_000)
    half = 1.96 * np.sqrt(0.7 * 0.3 / 1000)
    assert low == pytest.approx(0.7 - half, abs=0.003)
    assert high == pytest.approx(0.7 + half, abs=0.003)


def test_the_bootstrap_with_ties_is_that_of_resampled_pairs() -> None:
    rng = np.random.default_rng(5)
    labels = rng.integers(-1, 2, 120)
    margins = labels + rng.normal(size=120)
    draws = []
    for _ in range(400):
        chosen = rng.integers(0, 120, 120)
        draws.append(best_tie_threshold(margins[chosen], labels[chosen]).accuracy)
    expected = np.quantile(draws, [0.025, 0.975])
    assert bootstrap_with_ties(margins, labels, resamples=2000) == pytest.approx(expected, abs=0.03)


def test_resampling_in_portions_covers_every_draw(monkeypatch: pytest.MonkeyPatch) -> None:
    margins, labels = [1.0, -2.0, 0.3, 0.1], [1, -1, 0, 1]
    whole = bootstrap_with_ties(margins, labels, resamples=50)
    monkeypatch.setattr("descore.metrics._CELLS_AT_ONCE", 12)
    assert bootstrap_with_ties(margins, labels, resamples=50) == whole


def test_the_interval_of_a_mean_is_wider_where_observations_hang_together() -> None:
    hits = np.random.default_rng(0).random(200) < 0.8
    alone = bootstrap_mean(hits)
    together = bootstrap_mean(np.repeat(hits[::10], 10).reshape(20, 10).mean(axis=1))
    assert alone[0] < hits.mean() < alone[1]
    assert together[1] - together[0] > 2 * (alone[1] - alone[0])
    expected = 1.96 * hits.std() / np.sqrt(len(hits))
    assert alone[1] - alone[0] == pytest.approx(2 * expected, rel=0.15)
    with pytest.raises(MetricsError):
        bootstrap_mean([])


def test_wilson_intervals_have_the_known_values() -> None:
    assert wilson_interval(8, 10) == pytest.approx((0.4902, 0.9433), abs=1e-4)
    assert wilson_interval(100, 100) == pytest.approx((0.9630, 1.0), abs=1e-4)
    assert wilson_interval(0, 5)[0] == 0.0
    for successes, trials in ((1, 0), (3, 2), (-1, 2)):
        with pytest.raises(MetricsError):
            wilson_interval(successes, trials)
