"""Frames in memory: all kinds of them, never a guessed rate, and the frames that a file of them would give."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from descore.video import FramePolicy, Frames, VideoError, VideoFramesError, read_clip
from descore.video.memory_frames import as_videos, clip_of, video_name, write_lossless
from descore.video.types import VideoTooLargeError, VideoTooLongError


def noise(count: int, height: int = 36, width: int = 54) -> np.ndarray:
    return np.random.default_rng(count).integers(0, 256, (count, height, width, 3), dtype=np.uint8)


@pytest.mark.parametrize("rate", [8, 12.5, 23.976, 30])
@pytest.mark.parametrize("count", [1, 3, 40])
def test_the_frames_are_those_of_a_lossless_file(rate: float, count: int, tmp_path: Path) -> None:
    video, policy = Frames(noise(count), rate), FramePolicy(fps=2.0, max_frames=8)
    memory, file = clip_of(video, policy), read_clip(write_lossless(video, tmp_path / "x.mp4"), policy)
    assert np.array_equal(memory.frames, file.frames)
    assert np.allclose(memory.timestamps, file.timestamps, atol=1e-9)
    assert memory.duration == pytest.approx(file.duration, abs=1e-9)


@pytest.mark.slow
def test_large_frames_are_reduced_as_those_of_a_file(tmp_path: Path) -> None:
    video, policy = Frames(noise(4, 1200, 1600), 4), FramePolicy(max_pixels_per_frame=64 * 64)
    memory, file = clip_of(video, policy), read_clip(write_lossless(video, tmp_path / "x.mp4"), policy)
    assert memory.frames.shape == file.frames.shape
    assert memory.frames.shape[1:3] != (1200, 1600)
    assert np.abs(memory.frames.astype(int) - file.frames).max() <= 1


def test_every_kind_is_the_same_video() -> None:
    frames = noise(5)
    tensor = torch.from_numpy(frames)
    kinds: list[Any] = [frames, tensor, tensor.permute(0, 3, 1, 2), [Image.fromarray(f) for f in frames], list(frames)]
    for kind in kinds:
        assert np.array_equal(Frames(kind, fps=8).frames, frames)
    assert Frames(frames, 23.976).fps == Fraction(24000, 1001)
    assert repr(Frames(frames, 8)) == video_name(Frames(frames, 8)) == "Frames(5 of 54 x 36, fps=8)"


@pytest.mark.parametrize("rate", [None, 0, -1, float("nan"), "24"])
def test_a_rate_is_never_guessed(rate: Any) -> None:
    with pytest.raises(VideoFramesError, match="fps"):
        Frames(noise(4), rate)


@pytest.mark.parametrize(
    ("frames", "reason"),
    [
        (lambda: noise(4).astype(np.float32), "uint8"),
        (lambda: torch.zeros(4, 3, 8, 8), "uint8"),
        (lambda: noise(4)[..., 0], "shape"),
        (lambda: noise(4)[:0], "shape"),
        (list, "shape"),
        (lambda: [noise(1)[0], noise(1, 8, 8)[0]], "one size"),
        (lambda: 7, "numpy array"),
        (lambda: "a.mp4", "numpy array"),
    ],
)
def test_what_is_no_video_is_refused(frames: Callable[[], Any], reason: str) -> None:
    with pytest.raises(VideoFramesError, match=reason):
        Frames(frames(), fps=8)


def test_the_limits_are_those_of_files() -> None:
    with pytest.raises(VideoTooLargeError):
        Frames(np.zeros((2, 1, 500, 3), np.uint8), 8)
    with pytest.raises(VideoTooLongError):
        Frames(np.zeros((700, 2, 2, 3), np.uint8), 1)


def test_a_single_video_is_a_list_of_one() -> None:
    frames = Frames(noise(2), 8)
    for one in ("a.mp4", Path("a.mp4"), b"bytes", frames):
        assert as_videos(one) == [one]
    assert as_videos(name for name in ("a.mp4", b"x")) == ["a.mp4", b"x"]
    bare: list[Any] = [noise(2), torch.from_numpy(noise(2)), [Image.fromarray(f) for f in noise(2)], list(noise(2))]
    for pixels in bare:
        with pytest.raises(VideoFramesError, match=r"descore\.Frames\(frames, fps="):
            as_videos(pixels)
    with pytest.raises(VideoError, match="a video is a path"):
        as_videos(7)
