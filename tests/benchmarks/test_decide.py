"""The simulation of "Decide" in miniature: its orders of size and its false alarms."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.decide import simulation as decide
from storage.training.sequential_test import SequentialTest


@pytest.fixture(autouse=True)
def _short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decide, "LONGEST", 600)


def test_differing_pairs_take_fewer_labels_than_random_ones_and_than_a_fixed_number() -> None:
    case = decide.compare(decide.World(0.15, 0.2, noise=0.1, ties=0.2), 200, decide.PRIOR, np.random.default_rng(0))
    assert case["differing"]["better"] == 1
    assert case["differing"]["median"] * 3 < case["random"]["median"]
    assert case["differing"]["p90"] < case["fixed"]["p90"]
    assert case["with_margin"]["better"] > 0.9


def test_the_simulated_test_is_the_apps() -> None:
    """Both stop at the same pair, with and without the stop for differences that do not matter."""
    test = SequentialTest(differing_share=0.05, margin=0.03)
    half = test.margin / (2 * test.differing_share)
    for chance in (0.5, 0.8):
        stops = decide.simulate(chance, 1, np.random.default_rng(7), edges=(0.5 - half, 0.5 + half))
        sides = np.where(np.random.default_rng(7).random(600) < chance, 1, -1)
        look = test.first_outcome(sides.tolist())
        assert look is not None
        assert look.labels == stops.pairs[0]
        assert {"better": 1, "worse": -1, "no difference": 2}[look.outcome or ""] == stops.outcomes[0]


def test_without_a_difference_it_is_seldom_wrong_and_an_ordinary_test_often() -> None:
    alarms = decide.false_alarms(400, decide.PRIOR, np.random.default_rng(1))
    assert alarms["sequential"] <= 0.05
    assert alarms["sign_test_after_each_label"] > 0.2
