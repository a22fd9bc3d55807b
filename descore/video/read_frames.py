"""The frames of a policy: by PyAV's two exact passes for every file, by decord where it is proven exact.

Which frame is shown at a time is decided from the packets' display times alone (`demux.scan`). The readers
only fetch those frames. PyAV decodes in order and compares what came out with what was announced; where they
differ (streams that begin in mid-group, hidden frames) the choice is made again from the decoded frames.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from descore.video.decord_reader import decord_frames, decord_refusal
from descore.video.demux import Track, require_budget, scan
from descore.video.pyav_reader import FrameGeometry, decode, read_geometry
from descore.video.types import FramePolicy, VideoClip, VideoLimits, VideoUnreadableError

# Frames larger than this leave the decoding process at reduced size, see `shipped_size`.
MIN_SHIPPED_PIXELS = 1024 * 1024


def read(path: str, policy: FramePolicy, limits: VideoLimits, use_decord: bool = True) -> VideoClip:
    """Read the frames that `policy` asks for, as a player shows them.

    Raises:
        VideoError: any of its subclasses.
    """
    track = scan(path, limits)
    indices = policy.sample_indices(track.starts(), track.duration)
    require_budget(track, frames_before(track, indices), limits)
    geometry = read_geometry(track, limits)
    whole_frames = shipped_size(geometry, policy) == (geometry.width, geometry.height)
    if use_decord and whole_frames and decord_refusal(track, geometry) is None:
        frames = decord_frames(track, geometry, indices)
        if frames is not None:
            return _clip(track, indices, frames, "decord")
    require_budget(track, len(track.packets), limits)
    return _read_pyav(track, geometry, policy, limits)


def frames_before(track: Track, indices: list[int]) -> int:
    """Return how many frames lead to the samples: those from the key frame before each one up to it, each counted once.

    decord decodes these; PyAV decodes the whole file, since it compares all frames with what was announced.
    """
    sampled = {track.shown[index] for index in indices}
    needed = waiting = 0
    for packet in track.packets:
        waiting = 1 if packet.key else waiting + 1
        if packet.pts in sampled:
            needed += waiting
            waiting = 0
    return needed


def shipped_size(geometry: FrameGeometry, policy: FramePolicy) -> tuple[int, int]:
    """Return the coded (width, height) at which frames leave the decoder: the native one, unless far over the budget.

    64 frames of 4K are 1.6 GB, and the processor's own resize brings them to `max_pixels_per_frame` anyway.
    Frames of more than 4 x that budget AND more than about a megapixel are reduced to that bound by area
    averaging; all others are handed over untouched.
    """
    bound = max(4 * policy.max_pixels_per_frame, MIN_SHIPPED_PIXELS)
    stretched = geometry.width * geometry.aspect
    pixels = stretched * geometry.height
    scale = 1.0 if pixels <= bound else float(bound / pixels) ** 0.5
    return max(1, round(float(stretched) * scale)), max(1, round(geometry.height * scale))


def _read_pyav(track: Track, geometry: FrameGeometry, policy: FramePolicy, limits: VideoLimits) -> VideoClip:
    indices = policy.sample_indices(track.starts(), track.duration)
    size = shipped_size(geometry, policy)
    decoded, pictures = decode(track, geometry, size, {track.shown[i] for i in indices}, limits)
    if decoded != list(track.shown):
        track = _retimed(track, decoded)
        indices = policy.sample_indices(track.starts(), track.duration)
        _, pictures = decode(track, geometry, size, {track.shown[i] for i in indices}, limits)
    frames = np.stack([pictures[track.shown[i]] for i in indices])
    return _clip(track, indices, frames, "pyav")


def _retimed(track: Track, decoded: list[int]) -> Track:
    if not decoded:
        raise VideoUnreadableError(track.path, "none of its frames can be decoded; the file may be damaged")
    last = track.end - track.shown[-1]
    return replace(track, shown=tuple(decoded), end=decoded[-1] + last)


def _clip(track: Track, indices: list[int], frames: np.ndarray, reader: str) -> VideoClip:
    starts = track.starts()
    times = np.array([float(starts[i]) for i in indices], dtype=np.float64)
    return VideoClip(frames=frames, timestamps=times, duration=float(track.duration), reader=reader)
