"""The first pass over a video file: open it safely and demux it for display times, without decoding.

A file comes from anybody, so only regular local files are opened, by an ffmpeg that may use no protocol but
`file:` and no demuxer that follows references (playlists, concat scripts, image patterns).
"""

from __future__ import annotations

import stat
from dataclasses import dataclass
from fractions import Fraction
from itertools import accumulate, pairwise
from pathlib import Path
from typing import Any

import av

from descore.video.bitstream import starts_closed_gop
from descore.video.truncation import truncation
from descore.video.types import (
    VideoEmptyError,
    VideoHasNoStreamError,
    VideoIsPointerError,
    VideoLimits,
    VideoMissingError,
    VideoTooLargeError,
    VideoTooLongError,
    VideoTruncatedError,
    VideoUnreadableError,
)
from descore.video.webp import MILLISECOND, is_webp, webp_timing

# Containers that hold their own timing and their own data; names as ffmpeg's demuxers have them.
CONTAINERS = "mov,mp4,matroska,webm,avi,mpegts,mpeg,flv,ogg,asf,gif"
# What a file begins with that stands in the place of a video, and what to do about it.
_POINTERS = (
    (b"version https://git-lfs.github.com/spec/", "this is a Git LFS pointer, not the video itself; run `git lfs pull`"),
    (b"/annex/objects/", "this is a git-annex pointer, not the video itself; run `git annex get`"),
    (b"<!doctype html", "this is a web page, not a video; its download may need a sign-in"),
    (b"<html", "this is a web page, not a video; its download may need a sign-in"),
)


@dataclass(frozen=True)
class CodedFrame:
    """One video packet in file order; times are ticks of the track's time base.

    Attributes:
        pts: display time; None where unknown.
        dts: decoding time; None where unknown.
        duration: 0 where unknown.
        key: the container marks it as a seek point.
        discarded: decoded but never shown (edit lists).
        closed: it starts a closed group of pictures, proven from its bits (False where unproven).
        one_picture: it yields exactly one shown picture, proven from its bits (False where unproven).
    """

    pts: int | None
    dts: int | None
    duration: int
    key: bool
    discarded: bool
    closed: bool
    one_picture: bool


@dataclass(frozen=True)
class Track:
    """The video stream of a file, as demuxing shows it.

    Attributes:
        path: the file.
        container: ffmpeg's names of the demuxer, separated by commas.
        codec: ffmpeg's name of the decoder.
        time_base: seconds of one tick.
        width: coded pixels.
        height: coded pixels.
        video_streams: number of video streams in the file.
        extradata: the stream's codec configuration.
        packets: every coded frame in file order.
        shown: ascending ticks at which a player shows a new frame.
        end: the tick at which the last frame leaves the screen.
        rate: frames a second by the container; None where unknown.
    """

    path: str
    container: str
    codec: str
    time_base: Fraction
    width: int
    height: int
    video_streams: int
    extradata: bytes
    packets: tuple[CodedFrame, ...]
    shown: tuple[int, ...]
    end: int
    rate: Fraction | None

    @property
    def duration(self) -> Fraction:
        """Seconds on screen."""
        return (self.end - self.shown[0]) * self.time_base

    def starts(self) -> list[Fraction]:
        """Return the display times of all shown frames, in seconds after the first."""
        return [(pts - self.shown[0]) * self.time_base for pts in self.shown]


def require_local_file(path: str, limits: VideoLimits) -> int:
    """Return the size in bytes of a regular local file that is worth opening.

    Raises:
        VideoMissingError: no such path, or a directory, pipe or device.
        VideoEmptyError: zero bytes.
        VideoTooLargeError: more bytes than the limits allow.
    """
    try:
        status = Path(path).stat()
    except (OSError, ValueError) as error:
        hint = "only local files are read, never addresses" if "://" in path else "check the path"
        raise VideoMissingError(path, f"there is no such file; {hint}") from error
    if not stat.S_ISREG(status.st_mode):
        kind = "a folder" if stat.S_ISDIR(status.st_mode) else "a pipe or device"
        raise VideoMissingError(path, f"this is {kind}, not a video file")
    if status.st_size == 0:
        raise VideoEmptyError(path, "the file holds zero bytes; upload it again")
    if status.st_size > limits.max_bytes:
        raise VideoTooLargeError(path, f"{status.st_size / 1e9:.1f} GB is over the limit of {limits.max_bytes / 1e9:.1f} GB")
    return status.st_size


def require_whole_file(path: str) -> None:
    """Look at a file's own words and sizes.

    Raises:
        VideoIsPointerError: it stands in the place of a video.
        VideoTruncatedError: its structure says that its end is missing.
    """
    with Path(path).open("rb") as file:
        head = file.read(256).lstrip().lower()
    for beginning, reason in _POINTERS:
        if head.startswith(beginning):
            raise VideoIsPointerError(path, reason)
    cut = truncation(path)
    if cut:
        raise VideoTruncatedError(path, cut)


# PyAV before 19 refuses a title that is not UTF-8 unless it is told otherwise; later ones don't know the word.
_ANY_METADATA: dict[str, Any] = {"metadata_errors": "replace"} if int(av.__version__.partition(".")[0]) < 19 else {}


def open_container(path: str) -> Any:
    """Open a local media file with PyAV; the caller closes it.

    Raises:
        VideoIsPointerError: the file stands in the place of a video.
        VideoTruncatedError: the file's own structure says that its end is missing.
        VideoUnreadableError: no known video container.
    """
    require_whole_file(path)
    options = {"protocol_whitelist": "file", "format_whitelist": CONTAINERS}
    try:
        return av.open(f"file:{Path(path).absolute()}", "r", options=options, **_ANY_METADATA)
    except (av.FFmpegError, OSError, ValueError) as error:
        reason = f"this is not a readable video file ({_words(error)}); convert it to MP4 (H.264) or WebM"
        raise VideoUnreadableError(path, reason) from error


def video_stream(container: Any, path: str) -> Any:
    """Return the first video stream that isn't a cover picture.

    Raises:
        VideoHasNoStreamError: there is none.
        VideoUnreadableError: its codec has no decoder here.
    """
    streams = [s for s in container.streams.video if not s.disposition & av.stream.Disposition.attached_pic]
    if not streams:
        raise VideoHasNoStreamError(path, "the file has no video stream; sound or a cover picture alone can't be judged")
    if streams[0].codec_context is None:
        raise VideoUnreadableError(path, "its video codec can't be decoded here")
    return streams[0]


def scan(path: str, limits: VideoLimits) -> Track:
    """Demux the whole file once, decoding nothing.

    Raises:
        VideoError: any of its subclasses; the message says what is wrong.
    """
    size = require_local_file(path, limits)
    track = _scan_webp(path, limits) if is_webp(path) else _scan_container(path, limits, size)
    if track.duration > limits.max_seconds:
        raise VideoTooLongError(path, f"it lasts {float(track.duration):.0f} s; the limit is {limits.max_seconds:.0f} s")
    return track


def _scan_webp(path: str, limits: VideoLimits) -> Track:
    require_whole_file(path)
    width, height, durations = webp_timing(path, limits)
    _check_size(path, width, height, limits)
    times = [0, *accumulate(durations)]
    packets = [
        CodedFrame(start, start, duration, key=start == 0, discarded=False, closed=False, one_picture=True)
        for start, duration in zip(times, durations, strict=False)
    ]
    return Track(
        path=path,
        container="webp",
        codec="webp",
        time_base=MILLISECOND,
        width=width,
        height=height,
        video_streams=1,
        extradata=b"",
        packets=tuple(packets),
        shown=tuple(times[:-1]),
        end=times[-1],
        rate=None,
    )


def _scan_container(path: str, limits: VideoLimits, size: int) -> Track:
    with open_container(path) as container:
        stream = video_stream(container, path)
        context = stream.codec_context
        _check_size(path, context.width, context.height, limits)
        packets = _demux(container, stream, path, limits)
        _check_index(path, container, stream, size)
        shown, end = _display_times(path, stream, packets)
        rate = stream.average_rate or stream.guessed_rate
        return Track(
            path=path,
            container=container.format.name,
            codec=context.name,
            time_base=stream.time_base,
            width=context.width,
            height=context.height,
            video_streams=len(container.streams.video),
            extradata=bytes(context.extradata or b""),
            packets=tuple(packets),
            shown=tuple(shown),
            end=end,
            rate=Fraction(rate) if rate else None,
        )


def require_budget(track: Track, frames: int, limits: VideoLimits) -> None:
    """Refuse work before it begins: `frames` frames of a file have to be decoded.

    Raises:
        VideoTooLargeError: they hold more pixels than the limits allow.
    """
    pixels = track.width * track.height * frames
    if pixels > limits.max_decoded_pixels:
        raise VideoTooLargeError(
            track.path,
            f"{frames} frames of {track.width} x {track.height} are {pixels / 1e9:.1f} billion pixels to decode; "
            f"the limit is {limits.max_decoded_pixels / 1e9:g} billion. Make it shorter or smaller",
        )


def _demux(container: Any, stream: Any, path: str, limits: VideoLimits) -> list[CodedFrame]:
    packets: list[CodedFrame] = []
    corrupt_last = False
    extradata = bytes(stream.codec_context.extradata or b"")
    codec = stream.codec_context.name
    try:
        for packet in container.demux(stream):
            if not packet.size:
                continue
            if len(packets) >= limits.max_packets:
                raise VideoTooLongError(path, f"it holds more than {limits.max_packets} frames, the limit")
            corrupt_last = packet.is_corrupt
            closed, one_picture = starts_closed_gop(codec, extradata, packet)
            packets.append(
                CodedFrame(
                    pts=packet.pts,
                    dts=packet.dts,
                    duration=packet.duration or 0,
                    key=packet.is_keyframe,
                    discarded=packet.is_discard,
                    closed=closed,
                    one_picture=one_picture,
                )
            )
    except av.FFmpegError as error:
        raise VideoUnreadableError(path, f"its data breaks off after {len(packets)} frames ({_words(error)})") from error
    if corrupt_last:
        raise VideoTruncatedError(path, "the last frame is incomplete; the end of the file is missing")
    if not packets:
        raise VideoEmptyError(path, "its video stream holds no frames")
    return packets


def _check_size(path: str, width: int, height: int, limits: VideoLimits) -> None:
    if width * height > limits.max_pixels:
        raise VideoTooLargeError(path, f"frames of {width} x {height} are over the limit of {limits.max_pixels} pixels")
    if width <= 0 or height <= 0:
        raise VideoUnreadableError(path, "it doesn't say how large its frames are; its beginning may be missing")


def _check_index(path: str, container: Any, stream: Any, size: int) -> None:
    if not container.format.name.startswith("mov"):
        return
    if any(entry.pos + entry.size > size for entry in stream.index_entries):
        raise VideoTruncatedError(path, "its index lists frames beyond the end of the file")


def _display_times(path: str, stream: Any, packets: list[CodedFrame]) -> tuple[list[int], int]:
    step = _usual_step(stream, packets)
    if all(p.pts is None for p in packets):
        raise VideoUnreadableError(path, "its frames carry no display times")
    visible = [p for p in packets if p.pts is not None and not p.discarded]
    if not visible:
        raise VideoEmptyError(path, "its edit list leaves no frame to show")
    last = max(visible, key=lambda p: p.pts or 0)
    shown = sorted({p.pts for p in visible if p.pts is not None})
    return shown, shown[-1] + (last.duration or step)


def _usual_step(stream: Any, packets: list[CodedFrame]) -> int:
    times = sorted({p.pts for p in packets if p.pts is not None})
    steps = sorted(b - a for a, b in pairwise(times))
    if steps:
        return steps[len(steps) // 2]
    rate = stream.average_rate or stream.guessed_rate or Fraction(25)
    return max(1, round(1 / Fraction(rate * stream.time_base)))


def _words(error: Exception) -> str:
    return str(getattr(error, "strerror", None) or error).strip() or type(error).__name__
