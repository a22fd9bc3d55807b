"""Which videos a checkpoint knows: the limit, what lies beyond it, and the file."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from descore.errors import CheckpointError
from descore.familiarity import FAMILIARITY_FILE, LEAST_VIDEOS, MOST_VIDEOS, Familiarity, fit_familiarity, read_familiarity

CHANNELS = 12


def draw(count: int, seed: int = 0, shift: float = 0.0) -> np.ndarray:
    """Features whose channels have very different scales, and depend on each other."""
    rng = np.random.default_rng(seed)
    scales = 10.0 ** np.linspace(-2, 2, CHANNELS)
    latent = rng.normal(size=(count, 4)) @ np.random.default_rng(99).normal(size=(4, CHANNELS))
    return (latent + 0.1 * rng.normal(size=(count, CHANNELS)) + shift) * scales


def fitted(features: np.ndarray, groups: np.ndarray | None = None) -> Familiarity:
    known = fit_familiarity(features, np.arange(len(features)) if groups is None else groups)
    assert known is not None
    return known


@pytest.fixture(scope="module")
def known() -> Familiarity:
    return fitted(draw(400))


def test_about_one_in_twenty_of_new_videos_like_its_own_lies_beyond_the_limit(known: Familiarity) -> None:
    beyond = np.mean([known.distance(feature) > 1 for feature in draw(400, seed=1)])
    assert 0.02 <= beyond <= 0.09


def test_videos_of_another_kind_lie_beyond_it(known: Familiarity) -> None:
    assert all(known.distance(feature) > 1.5 for feature in draw(50, seed=2, shift=4.0))
    odd = draw(1, seed=3)[0]
    odd[0] += 30 * odd[0].std() + 1.0  # one channel, the one with the smallest numbers
    assert known.distance(odd) > 1


def test_videos_of_a_reference_videos_own_prompt_do_not_make_it_familiar() -> None:
    pairs = np.repeat(draw(60), 4, axis=0) + 5e-2 * draw(240, seed=5)
    groups = np.repeat(np.arange(60), 4)
    assert fitted(pairs, groups).limit > 3 * fitted(pairs).limit, "four versions of each would look like neighbours"


@pytest.mark.parametrize("count", [0, 2, LEAST_VIDEOS - 1])
def test_few_videos_have_no_limit(count: int) -> None:
    assert fit_familiarity(draw(count), np.arange(count)) is None


def test_videos_of_one_prompt_or_all_the_same_have_no_limit() -> None:
    assert fit_familiarity(draw(60), np.zeros(60)) is None
    assert fit_familiarity(np.ones((60, 3)), np.arange(60)) is None
    with pytest.raises(ValueError, match="finite"):
        fit_familiarity(np.full((60, 3), np.nan), np.arange(60))


def test_many_videos_are_thinned_out() -> None:
    assert len(fitted(draw(2 * MOST_VIDEOS)).references) == MOST_VIDEOS


def test_joined_it_knows_both_kinds(known: Familiarity) -> None:
    other = draw(100, seed=6, shift=4.0)
    both = known.joined(other, np.arange(100))
    for feature in (*draw(20, seed=7), *draw(20, seed=8, shift=4.0)):
        assert both.distance(feature) < 1.5
    assert both.distance(draw(1, seed=9, shift=-6.0)[0]) > 1.5
    assert len(set(both.groups.tolist())) == 500, "prompts of both stay apart"


def test_the_file_gives_the_same_distances(known: Familiarity, tmp_path: Path) -> None:
    assert read_familiarity(tmp_path) is None
    replace(known, measured={"AUROC": 0.5}).save(tmp_path / FAMILIARITY_FILE)
    back = read_familiarity(tmp_path)
    assert back is not None
    assert back.measured == {"AUROC": 0.5}
    for feature in draw(20, seed=10):
        assert back.distance(feature) == pytest.approx(known.distance(feature), rel=1e-6)


@pytest.mark.parametrize("change", [{"limit": float("nan")}, {"limit": 0.0}, {"groups": np.zeros(3, dtype=np.int64)}])
def test_a_file_with_other_values_is_refused(change: dict[str, object], known: Familiarity, tmp_path: Path) -> None:
    replace(known, **change).save(tmp_path / FAMILIARITY_FILE)  # type: ignore[arg-type]
    with pytest.raises(CheckpointError, match="can't be read"):
        read_familiarity(tmp_path)


def test_a_damaged_file_is_refused(known: Familiarity, tmp_path: Path) -> None:
    path = tmp_path / FAMILIARITY_FILE
    known.save(path)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(CheckpointError, match="fetch it again"):
        read_familiarity(tmp_path)
