"""Which scale a trained checkpoint gets: its own, its parent's, or none."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest

from descore.calibration import Calibration, ModeCalibration
from descore.familiarity import LEAST_VIDEOS
from trainer.evaluation.held_out import LEAST_CALIBRATION_PAIRS, LEAST_CARRIED_PAIRS, JudgedPair, JudgedPairs, ParentScale

if TYPE_CHECKING:
    from trainer.paradigm import Paradigm

PARENT = ModeCalibration(0.0, 1.0, 0.5, 0.1, reference_videos=600, validation_pairs=300)


def judged(count: int, label: int = 1, stretch: float = 1.0, paradigm: Paradigm = "think-then-score") -> JudgedPairs:
    rng = np.random.default_rng(0)
    rewards = stretch * rng.normal(size=(count, 4))
    empty: dict[str, str] = {}
    pairs = [
        JudgedPair(str(index), label, (row[0], row[1]), (row[2], row[3]), ("", ""), (empty, empty))
        for index, row in enumerate(rewards.tolist())
    ]
    return JudgedPairs(tuple(pairs), paradigm)


def parent_of(pairs: JudgedPairs, scale: Calibration | None = None) -> ParentScale:
    both = Calibration({"think": PARENT, "quick": PARENT})
    return ParentScale("bundled", both if scale is None else scale, pairs.report()["reward_std"])


def test_enough_pairs_with_a_preference_have_a_scale_of_their_own() -> None:
    own = judged(LEAST_CALIBRATION_PAIRS).calibration(parent_of(judged(LEAST_CALIBRATION_PAIRS)))
    assert {mode: (scale.source, scale.validation_pairs) for mode, scale in own.items()} == {
        "think": ("", LEAST_CALIBRATION_PAIRS),
        "quick": ("", LEAST_CALIBRATION_PAIRS),
    }
    ties = judged(LEAST_CALIBRATION_PAIRS, label=0)
    assert ties.calibration(parent_of(ties))["think"].source == "bundled", "ties say nothing about a temperature"


def test_few_pairs_carry_the_scale_of_the_parent_over_stretched() -> None:
    before, after = judged(8), judged(8, stretch=4.0)
    carried = after.calibration(parent_of(before))
    for mode in ("think", "quick"):
        scale = carried[mode]
        assert (scale.source, scale.reference_videos) == ("bundled", 16)
        assert scale.temperature == pytest.approx(4 * PARENT.temperature)
        assert scale.tie_threshold == pytest.approx(4 * PARENT.tie_threshold)


@pytest.mark.parametrize("count", [0, LEAST_CARRIED_PAIRS - 1])
def test_too_few_pairs_have_none(count: int) -> None:
    assert not judged(count).calibration(parent_of(judged(8)))


def test_without_a_parents_scale_there_is_none() -> None:
    few = judged(8)
    assert not few.calibration(parent_of(few, Calibration({})))
    assert not few.calibration()
    assert not few.calibration(ParentScale("begun by an earlier version", Calibration({"think": PARENT}), {}))


def test_equal_rewards_have_no_scale() -> None:
    flat = judged(LEAST_CALIBRATION_PAIRS, stretch=0.0)
    assert not flat.calibration(parent_of(judged(8)))


def test_a_paradigm_has_scales_of_its_own_modes_only() -> None:
    assert list(judged(8, paradigm="discriminative").calibration(parent_of(judged(8)))) == ["quick"]
    assert not judged(40, paradigm="generative").calibration(parent_of(judged(8)))


def test_the_videos_of_held_out_pairs_are_those_that_the_checkpoint_knows() -> None:
    rng = np.random.default_rng(1)
    pairs = judged(LEAST_VIDEOS // 2)
    seen = tuple(replace(pair, prompt=pair.identity, features=rng.normal(size=(2, 6))) for pair in pairs.pairs)
    known = replace(pairs, pairs=seen).familiarity()
    assert known is not None
    assert known.groups.tolist()[:4] == [0, 0, 1, 1]
    few = replace(pairs, pairs=tuple(replace(pair, features=rng.normal(size=(2, 6))) for pair in seen[:2]))
    assert few.familiarity() is None
    joined = few.familiarity(known)
    assert joined is not None
    assert len(joined.references) == LEAST_VIDEOS + 4
    again = replace(pairs, pairs=seen).familiarity(known)
    assert again is not None
    assert len(again.references) == LEAST_VIDEOS, "videos of an earlier run count once"
    assert again.limit == pytest.approx(known.limit)
    assert pairs.familiarity(known) is known, "a backbone that does not give its features apart"
