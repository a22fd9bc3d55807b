"""Types of the video modules: frame policy, clip, file information, limits, and errors.

    policy = FramePolicy(fps=2.0, max_frames=64)
    policy.sample_times(duration=3.0, available_frames=72)      # array([0.25, 0.75, ..., 2.75])

Only numpy is needed here, so that the decoding process starts quickly.
"""

from __future__ import annotations

import bisect
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np


@dataclass(frozen=True)
class FramePolicy:
    """Which frames of a clip a model sees, and how large. It is part of a checkpoint.

    Attributes:
        fps: frames sampled per second of video.
        min_frames: at least so many samples; a clip with fewer frames gives all that it has.
        max_frames: at most so many samples.
        max_pixels_per_frame: area budget, in pixels, of one frame after the processor's resize.
        min_pixels_per_frame: least area, in pixels, of one frame after the processor's resize.

    Raises:
        ValueError: a setting that can't be met (fps not positive, bounds crossed).
    """

    fps: float = 2.0
    min_frames: int = 4
    max_frames: int = 64
    max_pixels_per_frame: int = 448 * 448
    min_pixels_per_frame: int = 64 * 64

    def __post_init__(self) -> None:
        if not (math.isfinite(self.fps) and self.fps > 0):
            raise ValueError(f"fps must be a positive number, not {self.fps!r}")
        if not 1 <= self.min_frames <= self.max_frames:
            raise ValueError(f"need 1 <= min_frames <= max_frames, not {self.min_frames} and {self.max_frames}")
        if not 1 <= self.min_pixels_per_frame <= self.max_pixels_per_frame:
            raise ValueError(
                "need 1 <= min_pixels_per_frame <= max_pixels_per_frame, not "
                f"{self.min_pixels_per_frame} and {self.max_pixels_per_frame}"
            )

    def to_dict(self) -> dict[str, float | int]:
        """Return the policy as plain JSON values."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> FramePolicy:
        """Build the policy from the mapping that `to_dict` returns.

        Raises:
            ValueError: a key this version doesn't know, or a value that can't be met.
        """
        unknown = sorted(set(values) - {field.name for field in fields(cls)})
        if unknown:
            raise ValueError(f"unknown frame policy settings: {', '.join(unknown)}")
        return cls(**values)

    def sample_count(self, duration: float | Fraction, available_frames: int) -> int:
        """Return the number of samples: duration x fps, within the bounds, no more than there are frames.

        Above one it is made even by leaving one out, because video backbones merge frames in pairs.
        """
        samples = round(Fraction(duration) * Fraction(self.fps))
        samples = min(max(samples, self.min_frames), self.max_frames)
        count = max(1, min(samples, available_frames))
        return count if count == 1 else count - count % 2

    def sample_times(self, duration: float | Fraction, available_frames: int) -> np.ndarray:
        """Return sample times in seconds after the first displayed frame, float64 (n,): (i + 0.5) * duration / n."""
        count = self.sample_count(duration, available_frames)
        return np.array([float(t) for t in exact_times(Fraction(duration), count)], dtype=np.float64)

    def sample_indices(self, starts: Sequence[Fraction], duration: Fraction) -> list[int]:
        """Return the index of the frame on screen at each sample time: the last one that starts at or before it.

        starts: ascending display times of all frames in seconds, the first one 0. Exact rational arithmetic,
        since sample times often fall on the very instant at which a frame appears.
        """
        times = exact_times(Fraction(duration), self.sample_count(duration, len(starts)))
        return [max(0, bisect.bisect_right(starts, t) - 1) for t in times]

    def constant_rate_indices(self, frames: int, fps: float | Fraction) -> list[int]:
        """Return `sample_indices` for `frames` frames shown at a constant `fps`, e.g. frames rendered in memory."""
        step = 1 / as_rate(fps)
        return self.sample_indices([i * step for i in range(frames)], frames * step)


def exact_times(duration: Fraction, count: int) -> list[Fraction]:
    """Return the middles of `count` equal parts of `duration` seconds."""
    return [Fraction(2 * i + 1, 2 * count) * duration for i in range(count)]


def as_rate(fps: float | Fraction) -> Fraction:
    """Return a frame rate as the fraction it stands for: 23.976 is 24000/1001, 12.5 is 25/2.

    Raises:
        ValueError: not a positive finite number.
    """
    if not math.isfinite(fps) or fps <= 0:
        raise ValueError(f"a frame rate must be a positive number, not {fps!r}")
    if isinstance(fps, Fraction):
        return fps.limit_denominator(60000)
    ntsc = Fraction(round(fps * 1001 / 1000) * 1000, 1001)
    if abs(float(ntsc) - fps) < 5e-4 and fps != round(fps):
        return ntsc
    return Fraction(fps).limit_denominator(1000)


@dataclass(frozen=True)
class VideoClip:
    """The sampled frames of one video, as a player shows them.

    frames: uint8 (T, H, W, 3) RGB, upright. timestamps: float64 (T,), display time of each sampled frame in
    seconds, the first displayed frame of the file being 0. duration: seconds the whole video is on screen.
    reader: "decord" or "pyav".
    """

    frames: np.ndarray
    timestamps: np.ndarray
    duration: float
    reader: str


@dataclass(frozen=True)
class VideoInfo:
    """The properties of a video file, from its packets and its first frame.

    Attributes:
        width: pixels as displayed, i.e. after rotation.
        height: pixels as displayed, i.e. after rotation.
        fps: average display rate.
        duration: seconds on screen.
        frames: number of displayed frames.
        codec: plain name, e.g. h264, vp9, av1.
        pix_fmt: ffmpeg's name.
        container: ffmpeg's name of the demuxer; webm where the file says so.
        rotation: degrees counter-clockwise (0, 90, 180, 270) that a player turns the coded picture.
        browser_playable: today's browsers can show it without re-encoding.
    """

    width: int
    height: int
    fps: float
    duration: float
    frames: int
    codec: str
    pix_fmt: str
    container: str
    rotation: int
    browser_playable: bool


@dataclass(frozen=True)
class VideoLimits:
    """Bounds on one video; a file beyond them is refused before it is decoded.

    Attributes:
        max_pixels: coded width x height of a frame.
        max_seconds: duration on screen.
        max_packets: coded frames.
        max_bytes: size of the file.
        max_decoded_pixels: width x height x frames of all frames that have to be decoded.
        max_aspect: the longer side of a frame over the shorter one, as displayed.
    """

    max_pixels: int = 4096 * 2304
    max_seconds: float = 600.0
    max_packets: int = 40_000
    max_bytes: int = 2 * 1024**3
    # Each bound alone lets a file of 0.8 MB ask for 35,000 frames of 3000 x 3000, which is 315e9 pixels. What people bring:
    # 3840 x 2160 x 30 fps x 60 s = 15e9, twice that at 60 fps; 1920 x 1080 x 30 fps x 600 s (the longest clip) = 37e9.
    max_decoded_pixels: int = 40 * 10**9
    # The processors of Qwen's video models take 200, after they have rounded the shorter side.
    max_aspect: int = 190


class VideoError(ValueError):
    """A video that can't be used.

    Attributes:
        path: the file.
        reason: one sentence on what is wrong with it.
    """

    def __init__(self, path: str | os.PathLike[str], reason: str) -> None:
        super().__init__(f"{Path(path).name or os.fspath(path)}: {reason}")
        self.path = os.fspath(path)
        self.reason = reason

    def __reduce__(self) -> tuple[type[VideoError], tuple[str, str]]:
        return type(self), (self.path, self.reason)


class VideoMissingError(VideoError):
    """There is no regular local file at this path."""


class VideoEmptyError(VideoError):
    """The file holds zero bytes, or no frame at all."""


class VideoUnreadableError(VideoError):
    """The file is not a video, or its codec can't be decoded, or its data is damaged."""


class VideoFramesError(VideoError):
    """Frames in memory of a kind or shape that can't be used, or whose rate is not known."""


class VideoHasNoStreamError(VideoError):
    """The file is a media file without a video stream."""


class VideoTruncatedError(VideoError):
    """The file ends before the video does."""


class VideoTooLargeError(VideoError):
    """The frame size, its shape, the file size or all pixels that have to be decoded exceed the limits."""


class VideoIsPointerError(VideoUnreadableError):
    """The file only names the video: a pointer of Git LFS or git-annex, or a page that a download gave instead."""


class VideoTooLongError(VideoError):
    """The video lasts longer, or holds more frames, than the limits allow."""


class VideoTimeoutError(VideoError):
    """Decoding did not end within its time limit."""
