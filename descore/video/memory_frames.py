"""Frames in memory, in the place of a file.

    video = Frames(frames, fps=12)          # numpy (T, H, W, 3) uint8, a torch tensor, or a list of PIL images
    clip = clip_of(video, FramePolicy())    # the frames that the policy would choose from a file of them

Their rate is never guessed: which frames a model sees, and when, follows from it.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from descore.video.types import (
    FramePolicy,
    VideoClip,
    VideoFramesError,
    VideoLimits,
    VideoTooLargeError,
    VideoTooLongError,
    as_rate,
)

_NAME = "frames in memory"
_NO_RATE = "their rate is not known; pass descore.Frames(frames, fps=...), as they were rendered or recorded"
_LIMITS = VideoLimits()


@dataclass(frozen=True, eq=False, init=False, repr=False)
class Frames:
    """A video in memory, shown at a constant rate.

    Attributes:
        frames: uint8 (T, H, W, 3) RGB.
        fps: frames a second.
    """

    frames: npt.NDArray[np.uint8]
    fps: Fraction

    def __init__(self, frames: Any, fps: float | Fraction | None = None) -> None:
        """Take frames as they come.

        Args:
            frames: a numpy array (T, H, W, 3), a torch tensor (T, C, H, W) or (T, H, W, C) on any device, or a sequence of
                PIL images or (H, W, 3) arrays of one size. Values are whole numbers, 0 .. 255.
            fps: frames a second; 23.976 is 24000/1001.

        Raises:
            VideoFramesError: frames of another kind or shape, or no rate.
            VideoTooLongError, VideoTooLargeError: more than the limits of a file allow.
        """
        if fps is None:
            raise VideoFramesError(_NAME, _NO_RATE)
        try:
            rate = as_rate(fps)
        except (TypeError, ValueError) as error:
            raise VideoFramesError(_NAME, f"fps must be a positive number, not {fps!r}") from error
        array = _as_array(frames)
        _check_limits(array, rate)
        object.__setattr__(self, "frames", array)
        object.__setattr__(self, "fps", rate)

    def __repr__(self) -> str:
        count, height, width, _ = self.frames.shape
        return f"Frames({count} of {width} x {height}, fps={float(self.fps):g})"


# One video: the path of a file, the bytes of a file, or frames.
Video = str | os.PathLike[str] | bytes | Frames


def as_videos(videos: Any) -> list[Video]:
    """Return the videos of a call as a list: a single one is taken as a list of one, and iterables are read to their end.

    Raises:
        VideoFramesError: bare frames, whose rate nobody knows.
    """
    if isinstance(videos, (str, os.PathLike, bytes, Frames)):
        return [videos]
    if _is_pixels(videos) or not isinstance(videos, Iterable):
        return [check_video(videos)]
    items = list(videos)
    if items and all(_is_pixels(item) and _dimensions(item) < 4 for item in items):
        raise VideoFramesError(_NAME, _NO_RATE)  # a list of pictures is one video, not many
    return items


def check_video(video: Any) -> Video:
    """Return one video as it is.

    Raises:
        VideoFramesError: it is neither a path, nor bytes, nor `Frames`.
    """
    if isinstance(video, (str, os.PathLike, bytes, Frames)):
        return video
    if _is_pixels(video) or (isinstance(video, (list, tuple)) and video and all(map(_is_pixels, video))):
        raise VideoFramesError(_NAME, _NO_RATE)
    raise VideoFramesError(
        type(video).__name__, "a video is a path, the bytes of a file, or descore.Frames(frames, fps=...)"
    )


def video_name(video: Any) -> str:
    """Return how a result names a video: a path as it was given, the others by what they are."""
    if isinstance(video, (str, os.PathLike)):
        return os.fspath(video)
    return f"{len(video):,} bytes" if isinstance(video, bytes) else repr(video) if isinstance(video, Frames) else _NAME


def clip_of(video: Frames, policy: FramePolicy) -> VideoClip:
    """Choose the frames that `policy` asks for, exactly as from a file that shows these frames."""
    count, step = len(video.frames), 1 / video.fps
    indices = policy.constant_rate_indices(count, video.fps)
    pictures = [_shipped(video.frames[index], policy) for index in indices]
    times = np.array([float(index * step) for index in indices], dtype=np.float64)
    return VideoClip(np.stack(pictures), times, float(count * step), "memory")


def write_lossless(video: Frames, path: Path) -> Path:
    """Write the frames to an mp4 file that holds exactly their values (H.264 in RGB at quantiser 0)."""
    import av

    height, width = video.frames.shape[1:3]
    with av.open(str(path), "w", format="mp4") as out:
        stream: Any = out.add_stream("libx264rgb", rate=video.fps, options={"qp": "0", "preset": "ultrafast"})
        stream.width, stream.height, stream.pix_fmt = width, height, "rgb24"
        stream.codec_context.time_base = 1 / video.fps
        for index, picture in enumerate(video.frames):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")
            frame.pts, frame.time_base = index, 1 / video.fps
            out.mux(stream.encode(frame))
        out.mux(stream.encode())
    return path


def _shipped(picture: np.ndarray, policy: FramePolicy) -> np.ndarray:
    """Reduce a frame that a file's reader would reduce, by the same scaler."""
    import av

    from descore.video.pyav_reader import FrameGeometry, picture_of
    from descore.video.read_frames import shipped_size

    height, width = picture.shape[:2]
    geometry = FrameGeometry(width, height, "rgb24", False, (1, 0, 0, 1), Fraction(1))
    size = shipped_size(geometry, policy)
    if size == (width, height):
        return picture
    return picture_of(av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24"), geometry, size)


def _as_array(frames: Any) -> npt.NDArray[np.uint8]:
    """Bring frames to (T, H, W, 3) uint8."""
    if hasattr(frames, "detach"):  # a tensor, without importing torch
        tensor = frames.detach().cpu()
        if tensor.ndim == 4 and tensor.shape[1] == 3:
            tensor = tensor.permute(0, 2, 3, 1)
        array = np.asarray(tensor.numpy() if "bfloat" not in str(tensor.dtype) else tensor.float().numpy())
    elif isinstance(frames, np.ndarray):
        array = frames
    elif isinstance(frames, Iterable) and not isinstance(frames, (str, bytes)):
        pictures = [np.asarray(item.convert("RGB") if hasattr(item, "convert") else item) for item in frames]
        sizes = {picture.shape for picture in pictures}
        if len(sizes) > 1:
            raise VideoFramesError(_NAME, f"all of them must have one size, not {' and '.join(map(str, sorted(sizes)[:2]))}")
        array = np.stack(pictures) if pictures else np.zeros((0, 1, 1, 3), np.uint8)
    else:
        raise VideoFramesError(
            _NAME, f"a numpy array, a torch tensor or a list of pictures is needed, not {type(frames).__name__}"
        )
    if array.ndim != 4 or array.shape[-1] != 3 or 0 in array.shape:
        raise VideoFramesError(_NAME, f"the shape must be (frames, height, width, 3), not {tuple(array.shape)}")
    if array.dtype != np.uint8:
        raise VideoFramesError(_NAME, f"the values must be whole numbers of 0 to 255 (uint8), not {array.dtype}")
    return array


def _check_limits(array: npt.NDArray[np.uint8], rate: Fraction) -> None:
    count, height, width, _ = array.shape
    if max(height, width) > _LIMITS.max_aspect * min(height, width) or height * width > _LIMITS.max_pixels:
        raise VideoTooLargeError(_NAME, f"{width} x {height} pixels are more than a video may have, or too narrow")
    if count / rate > _LIMITS.max_seconds or count > _LIMITS.max_packets:
        raise VideoTooLongError(_NAME, f"{count:,} frames at {float(rate):g} a second are longer than a video may be")


def _is_pixels(value: Any) -> bool:
    """Whether a value is an array, a tensor or a picture."""
    return (
        isinstance(value, np.ndarray) or hasattr(value, "detach") or (hasattr(value, "convert") and hasattr(value, "size"))
    )


def _dimensions(value: Any) -> int:
    return int(getattr(value, "ndim", 2))
