"""Writing of frames as H.264 that every browser plays.

    encode_h264(frames, "clip.mp4", fps=24)             # frames: uint8 (H, W, 3) RGB, one after the other

PyAV's own libx264 does the work; no ffmpeg program is needed.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

import av
import numpy as np

from descore.video.types import as_rate

if TYPE_CHECKING:
    import os
    from fractions import Fraction

_BT709 = 1
_LIMITED_RANGE = 1
# Pixels of a frame above which x264 looks fewer frames ahead: forty of 3000 x 3000 took 1.7 GB, ten take half of that.
_LARGE = 1920 * 1088


def encode_h264(
    frames: Iterable[np.ndarray],
    path: str | os.PathLike[str],
    fps: float | Fraction,
    crf: int = 20,
) -> Path:
    """Write frames as an mp4 file: H.264, yuv420p, BT.709 limited range, closed GOPs, index in front.

    The file appears at `path` only when it is complete. The same frames give the same bytes (of one encoder version).

    Args:
        frames: uint8 (H, W, 3) RGB arrays of one size; an odd width or height is made even by repeating the last column or
            row, since yuv420p can't hold it.
        path: the file to write.
        fps: frames a second.
        crf: x264's constant rate factor; lower is better and larger.

    Raises:
        ValueError: no frames, frames of another type or of differing sizes, or an fps that isn't positive.
    """
    rate = as_rate(fps)
    with H264Writer(path, rate, 1 / rate, crf) as writer:
        for index, frame in enumerate(frames):
            writer.write(frame, index)
    return Path(path)


class H264Writer:
    """A writer of frames at given times; the file appears when the `with` block ends without an error."""

    def __init__(self, path: str | os.PathLike[str], rate: Fraction, time_base: Fraction, crf: int = 20) -> None:
        """Prepare a writer; the file is opened by the `with` block.

        Args:
            path: the file to write.
            rate: average frames a second, as a hint to the encoder.
            time_base: seconds in one tick.
            crf: x264's constant rate factor.
        """
        self.frames = 0
        self._path = Path(path)
        self._partial = self._path.with_name(f".{self._path.name}.{uuid.uuid4().hex[:8]}.part")
        self._rate, self._time_base, self._crf = rate, time_base, crf
        self._shape: tuple[int, ...] | None = None
        self._out: Any = None
        self._stream: Any = None

    def __enter__(self) -> H264Writer:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        options = {"movflags": "+faststart", "fflags": "+bitexact"}
        self._out = av.open(str(self._partial), "w", format="mp4", options=options)
        return self

    def write(self, frame: np.ndarray, tick: int) -> None:
        """Show `frame`, uint8 (H, W, 3) RGB, from `tick` on; ticks rise from 0."""
        self._shape = _checked_shape(frame, self._shape)
        if self._stream is None:
            self._stream = self._add_stream()
        picture = _to_yuv420(_even(frame))
        picture.pts, picture.time_base = tick, self._time_base
        self._out.mux(self._stream.encode(picture))
        self.frames += 1

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        try:
            if self._stream is not None:
                self._out.mux(self._stream.encode())
            self._out.close()
            if kind is None:
                if not self.frames:
                    raise ValueError("a video needs at least one frame")
                self._partial.replace(self._path)
        finally:
            self._partial.unlink(missing_ok=True)

    def _add_stream(self) -> Any:
        height, width = (side + side % 2 for side in (self._shape or (0, 0))[:2])
        # A key frame every two seconds makes scrubbing in a browser quick.
        keyint = max(1, round(self._rate * 2))
        params = f"keyint={keyint}:open-gop=0:threads=1"
        if height * width > _LARGE:
            params += ":rc-lookahead=10"
        stream = self._out.add_stream(
            "libx264",
            rate=self._rate,
            options={"crf": str(self._crf), "preset": "medium", "x264-params": params},
        )
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.codec_context.time_base = self._time_base
        for name in ("colorspace", "color_primaries", "color_trc"):
            setattr(stream.codec_context, name, _BT709)
        stream.codec_context.color_range = _LIMITED_RANGE
        return stream


def _to_yuv420(frame: np.ndarray) -> Any:
    picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")
    return picture.reformat(
        format="yuv420p", dst_colorspace="ITU709", dst_color_range="MPEG", interpolation="BICUBIC", threads=1
    )


def _checked_shape(frame: np.ndarray, first: tuple[int, ...] | None) -> tuple[int, ...]:
    if not isinstance(frame, np.ndarray) or frame.dtype != np.uint8 or frame.ndim != 3 or frame.shape[2] != 3:
        described = f"{frame.dtype} {frame.shape}" if isinstance(frame, np.ndarray) else type(frame).__name__
        raise ValueError(f"frames must be uint8 arrays of shape (height, width, 3), not {described}")
    if first is not None and frame.shape != first:
        raise ValueError(f"all frames of a video must have one size: {frame.shape} after {first}")
    return frame.shape


def _even(frame: np.ndarray) -> np.ndarray:
    height, width = frame.shape[:2]
    if height % 2 or width % 2:
        return np.pad(frame, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
    return frame
