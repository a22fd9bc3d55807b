"""Decoding with PyAV: every frame of a file, in display order, upright."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import av
import numpy as np

from descore.video.demux import Track, open_container, video_stream
from descore.video.types import VideoLimits, VideoTooLargeError, VideoTruncatedError, VideoUnreadableError
from descore.video.webp import webp_frames


@dataclass(frozen=True)
class FrameGeometry:
    """Geometry and pixel format of the frames, taken from the first decoded one.

    Attributes:
        width: coded pixels.
        height: coded pixels.
        pix_fmt: ffmpeg's name.
        interlaced: a frame holds two fields.
        matrix: 2x2 integer display matrix (a, b, c, d), identity (1, 0, 0, 1).
        aspect: width over height of one pixel.
    """

    width: int
    height: int
    pix_fmt: str
    interlaced: bool
    matrix: tuple[int, int, int, int]
    aspect: Fraction

    @property
    def plain(self) -> bool:
        """Neither turned nor stretched."""
        return self.matrix == (1, 0, 0, 1) and self.aspect == 1

    @property
    def rotation(self) -> int:
        """Degrees counter-clockwise that the coded picture is turned for display (mirroring left aside)."""
        a, b, _, _ = self.matrix
        if a:
            return 180 if a < 0 else 0
        return 90 if b < 0 else 270

    @property
    def shown_size(self) -> tuple[int, int]:
        """(width, height) on screen."""
        width, height = max(1, round(self.width * self.aspect)), self.height
        return (width, height) if self.matrix[0] else (height, width)


def read_geometry(track: Track, limits: VideoLimits) -> FrameGeometry:
    """Decode one frame and read how it must be displayed.

    Raises:
        VideoUnreadableError: no frame can be decoded.
        VideoTooLargeError: it is too long and narrow for the limits.
    """
    for _, frame, aspect in decoded_frames(track, limits, threads=1):
        geometry = FrameGeometry(
            frame.width,
            frame.height,
            frame.format.name,
            bool(frame.interlaced_frame),
            _display_matrix(frame),
            aspect if aspect > 0 else Fraction(1),
        )
        width, height = geometry.shown_size
        if max(width, height) > limits.max_aspect * min(width, height):
            reason = f"its frames ({width} x {height}) are too narrow: one side may be {limits.max_aspect} times the other"
            raise VideoTooLargeError(track.path, reason)
        return geometry
    raise VideoUnreadableError(track.path, "none of its frames can be decoded; the file may be damaged")


def decode(
    track: Track, geometry: FrameGeometry, size: tuple[int, int], kept_ticks: Collection[int], limits: VideoLimits
) -> tuple[list[int], dict[int, np.ndarray]]:
    """Decode the whole file in order.

    Args:
        track: as `scan` returns it.
        geometry: as `read_geometry` returns it.
        size: (width, height) to keep frames at, before they are turned.
        kept_ticks: display ticks of the frames to keep.
        limits: bounds on the file.

    Returns:
        The display ticks of all frames that came out, ascending, and the kept frames, uint8 (H, W, 3), upright.

    Raises:
        VideoTruncatedError: the last frame is damaged.
        VideoUnreadableError: damaged data after the first good frame.
    """
    ticks: list[int] = []
    kept: dict[int, np.ndarray] = {}
    damaged = False
    for tick, frame, _ in decoded_frames(track, limits):
        ticks.append(tick)
        damaged = frame.is_corrupt
        if tick in kept_ticks and tick not in kept:
            kept[tick] = picture_of(frame, geometry, size)
    if damaged:
        raise VideoTruncatedError(track.path, "its last frame is incomplete; the end of the file is missing")
    return sorted(set(ticks)), kept


def decoded_frames(track: Track, limits: VideoLimits, threads: int = 0) -> Iterator[tuple[int, Any, Fraction]]:
    """Yield (display tick, PyAV frame, width over height of one pixel) of every frame, in display order.

    Errors before the first frame come from a stream joined in mid-group and are skipped.

    Args:
        track: as `scan` returns it.
        limits: bounds on the file.
        threads: of the decoder; 0 takes up to four.

    Raises:
        VideoUnreadableError: damaged data after the first frame.
        VideoTooLargeError: more pixels come out than the limits allow.
    """
    pixels = 0
    for tick, frame, aspect in _frames_of(track, limits, threads):
        # A stream can change its size, and a packet can hold several frames: the packets promise less than what comes out.
        pixels += frame.width * frame.height
        if pixels > limits.max_decoded_pixels:
            limit = f"{limits.max_decoded_pixels / 1e9:g} billion pixels, the limit"
            raise VideoTooLargeError(track.path, f"it decodes to more than {limit}. Make it shorter or smaller")
        if tick is not None:
            yield tick, frame, aspect


def _frames_of(track: Track, limits: VideoLimits, threads: int) -> Iterator[tuple[int | None, Any, Fraction]]:
    if track.container == "webp":
        for start, picture in zip(track.shown, webp_frames(track.path), strict=False):
            yield start, picture, Fraction(1)
        return
    index = 0
    with open_container(track.path) as container:
        stream = video_stream(container, track.path)
        stream.codec_context.options = {"max_pixels": str(limits.max_pixels)}
        stream.thread_type = "AUTO"
        stream.codec_context.thread_count = threads or min(4, os.cpu_count() or 1)
        for packet in container.demux(stream):
            try:
                frames = packet.decode()
            except av.FFmpegError as error:
                if index:
                    reason = f"its data is damaged after frame {index} ({error.strerror})"
                    raise VideoUnreadableError(track.path, reason) from error
                continue
            for frame in frames:
                tick = _display_tick(track, index, frame)
                index += 1
                yield tick, frame, Fraction(stream.sample_aspect_ratio or 1)


def _display_tick(track: Track, index: int, frame: Any) -> int | None:
    # AVI stores no display times: those of its packets are guessed from the file order and wrong where frames
    # are reordered. The order in which frames leave the decoder is the display order.
    if track.container != "avi":
        return None if frame.pts is None else int(frame.pts)
    return track.shown[index] if index < len(track.shown) else None


def picture_of(frame: Any, geometry: FrameGeometry, size: tuple[int, int]) -> np.ndarray:
    """Convert a decoded frame to uint8 (H, W, 3) RGB, scale it to `size` (width, height), then turn it upright."""
    width, height = size
    smooth = "AREA" if width * height < frame.width * frame.height else "BICUBIC"
    picture = frame.reformat(width=width, height=height, format="rgb24", interpolation=smooth, threads=1)
    return upright(picture.to_ndarray(), geometry.matrix)


def upright(image: np.ndarray, matrix: tuple[int, int, int, int]) -> np.ndarray:
    """Turn and mirror (H, W, 3) by a display matrix of quarter turns.

    Source: ISO 14496-12, 6.2.2, a point (x, y) goes to (ax + cy, bx + dy).
    """
    a, b, c, d = matrix
    if a:
        x_sign, y_sign = a, d
    else:
        image, x_sign, y_sign = image.transpose(1, 0, 2), c, b
    return np.ascontiguousarray(image[:: 1 if y_sign > 0 else -1, :: 1 if x_sign > 0 else -1])


def _display_matrix(frame: Any) -> tuple[int, int, int, int]:
    data = frame.side_data.get("DISPLAYMATRIX")
    if data is None:
        return (1, 0, 0, 1)
    values = np.frombuffer(bytes(data), dtype=np.int32)[:5].astype(np.int64)
    a, b, c, d = int(values[0]), int(values[1]), int(values[3]), int(values[4])
    # An angle between quarter turns goes to the nearest one, as no player tilts a picture.
    if abs(a) >= abs(b):
        return (1 if a >= 0 else -1, 0, 0, 1 if d >= 0 else -1)
    return (0, 1 if b > 0 else -1, 1 if c > 0 else -1, 0)
