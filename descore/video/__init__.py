"""Reading of videos: the right frames of a file, safely.

    clip = read_clip("a.mp4", FramePolicy())     # clip.frames: uint8 (T, H, W, 3), clip.timestamps: (T,)

Every frame is the one that a player shows at its sample time, whatever the container, codec or edit list.
Files are decoded in separate processes with a wall-clock limit; a file that can't be used raises one
`VideoError`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from descore.video.h264_writer import encode_h264
from descore.video.memory_frames import Frames, Video
from descore.video.types import (
    FramePolicy,
    VideoClip,
    VideoEmptyError,
    VideoError,
    VideoFramesError,
    VideoHasNoStreamError,
    VideoInfo,
    VideoIsPointerError,
    VideoLimits,
    VideoMissingError,
    VideoTimeoutError,
    VideoTooLargeError,
    VideoTooLongError,
    VideoTruncatedError,
    VideoUnreadableError,
)
from descore.video.worker_pool import (
    IMPORTS,
    JUDGING,
    PROCESSES,
    TABLE_PROCESSES,
    TABLES,
    UPLOADS,
    Lane,
    as_frames,
    ask,
    shut_down,
    warm_up,
)

if TYPE_CHECKING:
    import os

__all__ = [
    "IMPORTS",
    "JUDGING",
    "TABLES",
    "TABLE_PROCESSES",
    "UPLOADS",
    "FramePolicy",
    "Frames",
    "Lane",
    "Video",
    "VideoClip",
    "VideoEmptyError",
    "VideoError",
    "VideoFramesError",
    "VideoHasNoStreamError",
    "VideoInfo",
    "VideoIsPointerError",
    "VideoLimits",
    "VideoMissingError",
    "VideoTimeoutError",
    "VideoTooLargeError",
    "VideoTooLongError",
    "VideoTruncatedError",
    "VideoUnreadableError",
    "content_hash",
    "encode_h264",
    "make_playable",
    "probe",
    "read_clip",
    "read_clips",
    "shut_down",
    "validate_full",
    "warm_up",
]

LIMITS = VideoLimits()


def read_clip(
    path: str | os.PathLike[str],
    policy: FramePolicy,
    timeout: float = 30.0,
    limits: VideoLimits = LIMITS,
    use_decord: bool = True,
    lane: Lane = JUDGING,
) -> VideoClip:
    """Read the frames of `path` that `policy` asks for.

    Frames of more than 4 x `policy.max_pixels_per_frame` and more than a megapixel arrive reduced to the larger of the two
    bounds, all others at their own size.

    Args:
        path: a local video file.
        policy: which frames.
        timeout: seconds of decoding allowed.
        limits: bounds on the file.
        use_decord: False reads every file with PyAV; the frames are the same.
        lane: whose decoding processes read it.

    Raises:
        VideoError: the file can't be used; its subclass and message say why.
    """
    header, payload = ask(
        "read",
        path,
        timeout,
        lane,
        policy=policy.to_dict(),
        limits=asdict(limits),
        use_decord=use_decord,
    )
    timestamps = np.array(header["timestamps"], dtype=np.float64)
    return VideoClip(as_frames(header, payload), timestamps, header["duration"], header["reader"])


def read_clips(
    paths: Sequence[str | os.PathLike[str]],
    policy: FramePolicy,
    timeout: float = 30.0,
    limits: VideoLimits = LIMITS,
    lane: Lane = JUDGING,
) -> list[VideoClip]:
    """Read several files at once with `read_clip`, in their order; the first bad one raises."""
    with ThreadPoolExecutor(max_workers=max(1, min(PROCESSES, len(paths)))) as threads:
        return list(threads.map(lambda path: read_clip(path, policy, timeout, limits, lane=lane), paths))


def probe(
    path: str | os.PathLike[str], timeout: float = 30.0, limits: VideoLimits = LIMITS, lane: Lane = JUDGING
) -> VideoInfo:
    """Return size, length, codec and playability of a file.

    Raises:
        VideoError: the file can't be used.
    """
    header, _ = ask("probe", path, timeout, lane, limits=asdict(limits))
    return VideoInfo(**_without_size(header))


def validate_full(
    path: str | os.PathLike[str], timeout: float = 120.0, limits: VideoLimits = LIMITS, lane: Lane = JUDGING
) -> int:
    """Decode the file once in full; return the number of frames that it shows.

    Raises:
        VideoError: anything in it is missing or damaged.
    """
    header, _ = ask("validate", path, timeout, lane, limits=asdict(limits))
    return int(header["frames"])


def make_playable(
    path: str | os.PathLike[str],
    out: str | os.PathLike[str],
    timeout: float = 300.0,
    limits: VideoLimits = LIMITS,
    lane: Lane = JUDGING,
) -> Path:
    """Return a file that every browser plays: `path` itself, or `out`, re-encoded to H.264 without sound.

    Raises:
        VideoError: the file can't be used.
    """
    if probe(path, timeout, limits, lane).browser_playable:
        return Path(path)
    ask("reencode", path, timeout, lane, limits=asdict(limits), out=str(Path(out).absolute()))
    return Path(out)


def content_hash(path: str | os.PathLike[str]) -> str:
    """Return the SHA-256 of the file's bytes, 64 hexadecimal digits.

    Raises:
        VideoMissingError: there is no such regular file.
    """
    if not Path(path).is_file():
        raise VideoMissingError(path, "there is no such file; check the path")
    digest = hashlib.sha256()
    with Path(path).open("rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


def _without_size(header: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in header.items() if name != "bytes"}
