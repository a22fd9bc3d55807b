"""Two readers of one truth: PyAV's exact two passes for every file, decord for those it is proven to read
exactly.

Which frame is shown at a time is decided from the packets' display times alone (`video_scan`). The readers
only fetch those frames. PyAV decodes in order and compares what came out with what was announced; where they
differ (streams that begin in mid-group, hidden frames, packets without times) the choice is made again from
the decoded frames.

decord counts frames from key frame marks instead of looking at display times, and gives wrong frames without
a word on open groups of pictures, HEVC, transport streams and trimmed clips. `decord_refusal` lists what must
hold.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import pairwise
from typing import Any

import av
import numpy as np

from descore.video_scan import Track, open_container, scan, video_stream
from descore.video_types import (
    FramePolicy,
    VideoClip,
    VideoEmpty,
    VideoLimits,
    VideoTruncated,
    VideoUnreadable,
)

# Frames larger than this leave the decoding process at reduced size, see `shipped_size`.
MIN_SHIPPED_PIXELS = 1024 * 1024
_DECORD_MIN_WIDTH = 65


@dataclass(frozen=True)
class Look:
    """How the first decoded frame wants to be shown.

    width, height: coded size. matrix: 2x2 integer display matrix (a, b, c, d), identity (1, 0, 0, 1).
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


def read(path: str, policy: FramePolicy, limits: VideoLimits, use_decord: bool = True) -> VideoClip:
    """The frames that `policy` asks for, as a player shows them.

    Raises:
        VideoError: any of its subclasses.
    """
    track = scan(path, limits)
    look = first_look(track, limits)
    if use_decord and decord_refusal(track, look, policy) is None:
        indices = policy.sample_indices(track.starts(), track.duration)
        frames = _decord_frames(track, look, indices)
        if frames is not None:
            return _clip(track, indices, frames, "decord")
    return _read_pyav(track, look, policy, limits)


def shipped_size(look: Look, policy: FramePolicy) -> tuple[int, int]:
    """Coded (width, height) at which frames leave the decoder: the native one, unless it is far over the
    budget.

    64 frames of 4K are 1.6 GB, and the processor's own resize brings them to `max_pixels_per_frame` anyway.
    Frames of more than 4 x that budget AND more than about a megapixel are reduced to that bound by area
    averaging; all others are handed over untouched.
    """
    bound = max(4 * policy.max_pixels_per_frame, MIN_SHIPPED_PIXELS)
    stretched = look.width * look.aspect
    pixels = stretched * look.height
    scale = 1.0 if pixels <= bound else float(bound / pixels) ** 0.5
    return max(1, round(float(stretched) * scale)), max(1, round(look.height * scale))


def decord_refusal(track: Track, look: Look, policy: FramePolicy) -> str | None:
    """Why decord may not read this file, or None where it is proven exact.

    decord lists all packets by display time, seeks to a key frame, checks where it landed by that frame's
    time, and counts decoded frames from there. That is exact if every packet gives one shown picture, every
    key frame starts a closed group (so that file order and display order agree across it), and a backward
    seek to a key frame's display time can't land on the next one.
    """
    if platform.machine().lower() not in ("x86_64", "amd64"):
        return "decord was tried on x86-64 only"
    if not track.container.startswith(("mov", "matroska")) or track.codec not in (
        "h264",
        "vp9",
        "libvpx-vp9",
    ):
        return f"{track.codec} in {track.container} is not proven"
    if track.video_streams != 1:
        return "it may choose another video stream"
    if look.pix_fmt != "yuv420p" or look.interlaced or not look.plain:
        return "turned, stretched, interlaced or not 8-bit 4:2:0"
    if look.width < _DECORD_MIN_WIDTH or look.width % 2 or look.height % 2:
        return "decord misreads the rows of small and odd sizes"
    if shipped_size(look, policy) != (look.width, look.height):
        return "frames are to be reduced while decoding"
    return _structure_refusal(track)


def _structure_refusal(track: Track) -> str | None:
    packets = track.packets
    if any(p.discarded or p.pts is None or p.dts is None for p in packets) or len(track.shown) != len(
        packets
    ):
        return "trimmed, or display times are missing or repeated"
    if track.shown[0] != 0:
        return "it doesn't start at time 0"
    if not all(p.one_picture for p in packets):
        return "a packet may not give exactly one picture"
    times = [p.pts or 0 for p in packets]
    if any(b.dts <= a.dts for a, b in pairwise(packets) if a.dts is not None and b.dts is not None):
        return "decoding times don't rise"
    keys = [i for i, p in enumerate(packets) if p.key]
    if not keys or keys[0] != 0 or not all(packets[i].closed for i in keys):
        return "a key frame is not proven to start a closed group of pictures"
    earlier_max = list(_running_max(times))
    later_min = list(_running_max([-t for t in reversed(times)]))[::-1]
    for key, following in zip(keys, [*keys[1:], None], strict=True):
        if (key and earlier_max[key - 1] >= times[key]) or -later_min[key] < times[key]:
            return "frames around a key frame are shown in another order than they are stored"
        if following is not None and (packets[following].dts or 0) <= times[key]:
            return "groups of pictures are too short for seeking by time"
    return None


def _running_max(values: list[int]) -> list[int]:
    result: list[int] = []
    for value in values:
        result.append(value if not result else max(result[-1], value))
    return result


def first_look(track: Track, limits: VideoLimits) -> Look:
    """Decode one frame and see how it is to be shown.

    Raises:
        VideoUnreadable: no frame can be decoded.
    """
    for _, frame, stream in decoded_frames(track, limits, threads=1):
        aspect = stream.sample_aspect_ratio or Fraction(1)
        return Look(
            frame.width,
            frame.height,
            frame.format.name,
            bool(frame.interlaced_frame),
            _display_matrix(frame),
            Fraction(aspect) if aspect > 0 else Fraction(1),
        )
    raise VideoUnreadable(track.path, "none of its frames can be decoded; the file may be damaged")


def _read_pyav(track: Track, look: Look, policy: FramePolicy, limits: VideoLimits) -> VideoClip:
    indices = policy.sample_indices(track.starts(), track.duration)
    size = shipped_size(look, policy)
    decoded, pictures = decode(track, look, size, {track.shown[i] for i in indices}, limits)
    if decoded != list(track.shown):
        track = _retimed(track, decoded)
        indices = policy.sample_indices(track.starts(), track.duration)
        _, pictures = decode(track, look, size, {track.shown[i] for i in indices}, limits)
    frames = np.stack([pictures[track.shown[i]] for i in indices])
    return _clip(track, indices, frames, "pyav")


def _retimed(track: Track, decoded: list[int]) -> Track:
    if not decoded:
        raise VideoUnreadable(track.path, "none of its frames can be decoded; the file may be damaged")
    last = track.end - track.shown[-1]
    return replace(track, shown=tuple(decoded), end=decoded[-1] + last)


def decode(
    track: Track, look: Look, size: tuple[int, int], wanted: Collection[int], limits: VideoLimits
) -> tuple[list[int], dict[int, np.ndarray]]:
    """Decode the whole file in order.

    wanted: ticks at which frames are kept. size: (width, height) to keep them at, before turning.
    Returns the display ticks of all frames that came out, ascending, and the kept frames, uint8 (H, W, 3),
    upright.

    Raises:
        VideoTruncated: the last frame is damaged.  VideoUnreadable: damaged data after the first good frame.
    """
    ticks: list[int] = []
    kept: dict[int, np.ndarray] = {}
    damaged = False
    for tick, frame, _ in decoded_frames(track, limits):
        ticks.append(tick)
        damaged = frame.is_corrupt
        if tick in wanted and tick not in kept:
            kept[tick] = picture_of(frame, look, size)
    if damaged:
        raise VideoTruncated(track.path, "its last frame is incomplete; the end of the file is missing")
    return sorted(set(ticks)), kept


def decoded_frames(track: Track, limits: VideoLimits, threads: int = 0) -> Iterator[tuple[int, Any, Any]]:
    """(display tick, PyAV frame, stream) of every frame, in display order. threads: 0 takes up to four.

    Errors before the first frame are a stream joined in mid-group.

    Raises:
        VideoUnreadable: damaged data after the first frame.
    """
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
                    raise VideoUnreadable(track.path, reason) from error
                continue
            for frame in frames:
                tick = _display_tick(track, index, frame)
                index += 1
                if tick is not None:
                    yield tick, frame, stream


def _display_tick(track: Track, index: int, frame: Any) -> int | None:
    # AVI stores no display times: those of its packets are guessed from the file order and wrong where frames
    # are reordered. The order in which frames leave the decoder is the display order.
    if track.container != "avi":
        return frame.pts
    return track.shown[index] if index < len(track.shown) else None


def picture_of(frame: Any, look: Look, size: tuple[int, int]) -> np.ndarray:
    """A decoded frame as uint8 (H, W, 3) RGB, brought to `size` (width, height), then turned upright."""
    width, height = size
    smooth = "AREA" if width * height < frame.width * frame.height else "BICUBIC"
    picture = frame.reformat(width=width, height=height, format="rgb24", interpolation=smooth, threads=1)
    return upright(picture.to_ndarray(), look.matrix)


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


def _decord_frames(track: Track, look: Look, indices: list[int]) -> np.ndarray | None:
    """The frames by decord, or None where its own list of frames differs from the packets'."""
    import decord

    decord.logging.set_level(decord.logging.QUIET)
    try:
        reader = decord.VideoReader(os.path.abspath(track.path), num_threads=min(4, os.cpu_count() or 1))
        if len(reader) != len(track.shown) or not _same_times(reader, track):
            return None
        frames = [reader[i].asnumpy() for i in indices]
    except (decord.DECORDError, RuntimeError, IndexError, StopIteration):
        return None
    if any(frame.shape != (look.height, look.width, 3) for frame in frames):
        return None
    return np.stack(frames)


def _same_times(reader: Any, track: Track) -> bool:
    theirs = np.asarray(reader.get_frame_timestamp(range(len(reader))), dtype=np.float64)[:, 0]
    ours = np.array([float(t) for t in track.starts()])
    steps = np.diff(ours)
    return bool(np.all(np.abs(theirs - ours) < (steps.min() / 4 if len(steps) else 1e-3)))


def _clip(track: Track, indices: list[int], frames: np.ndarray, reader: str) -> VideoClip:
    starts = track.starts()
    if not len(frames):
        raise VideoEmpty(track.path, "it shows no frame")
    times = np.array([float(starts[i]) for i in indices], dtype=np.float64)
    return VideoClip(frames=frames, timestamps=times, duration=float(track.duration), reader=reader)
