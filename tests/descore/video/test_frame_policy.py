"""Which times and frames a policy asks for."""

from fractions import Fraction

import numpy as np
import pytest

from descore.video import FramePolicy
from descore.video.types import as_rate


@pytest.mark.parametrize(
    ("duration", "available", "count"),
    [
        (3.0, 72, 6),
        (4.0, 96, 8),
        (0.5, 12, 4),  # at least min_frames
        (100.0, 2400, 64),  # at most max_frames
        (2.6, 60, 4),  # 5 is made even
        (0.2, 3, 2),  # no more than there are
        (0.04, 1, 1),  # a single frame stays one
        (0.0, 1, 1),
    ],
)
def test_sample_count(duration: float, available: int, count: int) -> None:
    assert len(FramePolicy().sample_times(duration, available)) == count


def test_sample_times_are_the_middles_of_equal_parts() -> None:
    times = FramePolicy().sample_times(3.0, 72)
    np.testing.assert_allclose(times, [0.25, 0.75, 1.25, 1.75, 2.25, 2.75], atol=0)
    assert times.dtype == np.float64


def test_a_frame_that_appears_at_the_sample_time_is_the_one_taken() -> None:
    # 0.25 s is exactly when frame 6 of 24 a second appears; in floating point 6 * (1 / 24) may fall on either
    # side.
    for fps in (12, 24, 25, 30, 48, 60, Fraction(30000, 1001), Fraction(24000, 1001)):
        policy = FramePolicy(fps=2.0)
        frames = round(3 * fps)
        duration = frames / Fraction(fps)
        expected = [
            (2 * i + 1) * duration * fps // (2 * policy.sample_count(duration, frames))
            for i in range(policy.sample_count(duration, frames))
        ]
        assert policy.constant_rate_indices(frames, fps) == expected


def test_indices_for_uneven_display_times() -> None:
    starts = [Fraction(t, 1000) for t in (0, 100, 150, 700, 710, 1500)]
    policy = FramePolicy(fps=100.0, min_frames=1)
    assert policy.sample_indices(starts, Fraction(16, 10)) == [1, 2, 2, 4, 4, 4]


def test_constant_rate_accepts_the_usual_decimal_rates() -> None:
    assert as_rate(23.976) == Fraction(24000, 1001)
    assert as_rate(29.97) == Fraction(30000, 1001)
    assert as_rate(24) == as_rate(24.0) == 24
    assert as_rate(12.5) == Fraction(25, 2)
    for wrong in (0, -1, float("nan"), float("inf")):
        with pytest.raises(ValueError, match="frame rate"):
            as_rate(wrong)


def test_policy_survives_json() -> None:
    policy = FramePolicy(fps=3.5, min_frames=2, max_frames=10, max_pixels_per_frame=4096, min_pixels_per_frame=64)
    assert FramePolicy.from_dict(policy.to_dict()) == policy
    with pytest.raises(ValueError, match="frame_rate"):
        FramePolicy.from_dict({**policy.to_dict(), "frame_rate": 2})


@pytest.mark.parametrize(
    "settings",
    [
        {"fps": 0},
        {"fps": float("nan")},
        {"min_frames": 0},
        {"min_frames": 10, "max_frames": 5},
        {"min_pixels_per_frame": 0},
        {"max_pixels_per_frame": 10, "min_pixels_per_frame": 20},
    ],
)
def test_impossible_policies_are_refused(settings: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=r"must be|need"):
        FramePolicy(**settings)
