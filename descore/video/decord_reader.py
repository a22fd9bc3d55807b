"""The decord reader, for the files that it is proven to read exactly.

decord counts frames from key frame marks instead of looking at display times, and gives wrong frames without
an error on open groups of pictures, HEVC, transport streams and trimmed clips. `decord_refusal` lists what must
hold. Where it may read, it skips whole groups of pictures between samples, which saves most on long clips.
"""

from __future__ import annotations

import importlib.util
import os
import platform
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from descore.video.demux import Track
    from descore.video.pyav_reader import FrameGeometry

_MIN_WIDTH = 65


@cache
def usable() -> bool:
    """Tell whether decord is installed, on the kind of machine on which its exactness was tried."""
    proven_machine = platform.machine().lower() in ("x86_64", "amd64")
    return proven_machine and importlib.util.find_spec("decord") is not None


def load() -> Any:
    """Import the decord module and silence it."""
    import decord

    decord.logging.set_level(decord.logging.QUIET)
    return decord


def decord_refusal(track: Track, geometry: FrameGeometry) -> str | None:
    """Say why decord may not read this file, or None where it is proven exact.

    decord lists all packets by display time, seeks to a key frame, checks where it landed by that frame's
    time, and counts decoded frames from there. That is exact if every packet gives one shown picture, every
    key frame starts a closed group (so that file order and display order agree across it), and a backward
    seek to a key frame's display time can't land on the next one.
    """
    if not usable():
        return "decord is not installed, or this is not the x86-64 on which it was proven"
    if not track.container.startswith(("mov", "matroska")) or track.codec not in (
        "h264",
        "vp9",
        "libvpx-vp9",
    ):
        return f"{track.codec} in {track.container} is not proven"
    if track.video_streams != 1:
        return "it may choose another video stream"
    if geometry.pix_fmt != "yuv420p" or geometry.interlaced or not geometry.plain:
        return "turned, stretched, interlaced or not 8-bit 4:2:0"
    if geometry.width < _MIN_WIDTH or geometry.width % 2 or geometry.height % 2:
        return "decord misreads the rows of small and odd sizes"
    return _structure_refusal(track)


def _structure_refusal(track: Track) -> str | None:
    packets = track.packets
    if any(p.discarded or p.pts is None or p.dts is None for p in packets) or len(track.shown) != len(packets):
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


def decord_frames(track: Track, geometry: FrameGeometry, indices: list[int]) -> np.ndarray | None:
    """Read frames by decord; None where its own list of frames differs from the packets'."""
    decord = load()
    try:
        reader = decord.VideoReader(str(Path(track.path).absolute()), num_threads=min(4, os.cpu_count() or 1))
        if len(reader) != len(track.shown) or not _same_times(reader, track):
            return None
        frames = [reader[i].asnumpy() for i in indices]
    except (decord.DECORDError, RuntimeError, IndexError, StopIteration):
        return None
    if any(frame.shape != (geometry.height, geometry.width, 3) for frame in frames):
        return None
    return np.stack(frames)


def _same_times(reader: Any, track: Track) -> bool:
    theirs = np.asarray(reader.get_frame_timestamp(range(len(reader))), dtype=np.float64)[:, 0]
    ours = np.array([float(t) for t in track.starts()])
    steps = np.diff(ours)
    return bool(np.all(np.abs(theirs - ours) < (steps.min() / 4 if len(steps) else 1e-3)))
