"""Ingest of a file: probe it, decode it once in full, re-encode what browsers can't play.

These functions run inside the decoding process; call them through `descore.video`.
"""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

from descore.video.demux import Track, require_budget, scan
from descore.video.h264_writer import H264Writer
from descore.video.pyav_reader import FrameGeometry, decoded_frames, picture_of, read_geometry
from descore.video.types import VideoInfo, VideoLimits, VideoTruncatedError, VideoUnreadableError

_BROWSER_CODECS = {"mov": {"h264", "av1", "vp9"}, "webm": {"vp8", "vp9", "av1"}}
_PLAIN_NAMES = {"libdav1d": "av1", "libvpx": "vp8", "libvpx-vp9": "vp9", "libaom-av1": "av1"}


def probe(path: str, limits: VideoLimits) -> VideoInfo:
    """Return the properties of a file: its packets are demuxed, one frame is decoded.

    Raises:
        VideoError: any of its subclasses.
    """
    track = _scan(path, limits)
    geometry = read_geometry(track, limits)
    width, height = geometry.shown_size
    codec = _PLAIN_NAMES.get(track.codec, track.codec)
    container = _container_name(track)
    return VideoInfo(
        width=width,
        height=height,
        fps=float(len(track.shown) / track.duration),
        duration=float(track.duration),
        frames=len(track.shown),
        codec=codec,
        pix_fmt=geometry.pix_fmt,
        container=container,
        rotation=geometry.rotation,
        browser_playable=codec in _BROWSER_CODECS.get(container, ()) and geometry.pix_fmt in ("yuv420p", "yuvj420p"),
    )


def validate(path: str, limits: VideoLimits) -> int:
    """Decode every frame once; return the number of frames shown.

    Raises:
        VideoTruncatedError: the last announced frames don't come.
        VideoUnreadableError: frames are missing elsewhere, or the decoder calls them damaged.
    """
    track = _scan(path, limits)
    ticks: list[int] = []
    damaged: list[int] = []
    for tick, frame, _ in decoded_frames(track, limits):
        if frame.is_corrupt:
            damaged.append(len(ticks))
        ticks.append(tick)
    if not ticks:
        raise VideoUnreadableError(path, "none of its frames can be decoded; the file may be damaged")
    if damaged:
        raise VideoUnreadableError(path, f"{len(damaged)} of its frames are damaged, the first is frame {damaged[0]}")
    # A stream joined in mid-group may lack the frames before its first whole one.
    due = [tick for tick in track.shown if tick >= min(ticks)]
    missing = sorted(set(due) - set(ticks))
    if missing and missing == due[-len(missing) :]:
        raise VideoTruncatedError(path, f"its last {len(missing)} frames are missing")
    if missing:
        raise VideoUnreadableError(path, f"{len(missing)} of its {len(due)} frames can't be decoded")
    return len(ticks)


def reencode(path: str, out: str, limits: VideoLimits) -> int:
    """Write `out` as H.264 that every browser plays, upright, with the display times kept; return the number of frames.

    Sound is left out: nothing here listens to it.

    Raises:
        VideoError: the source can't be read.
    """
    track = _scan(path, limits)
    geometry = read_geometry(track, limits)
    last = -1
    with H264Writer(out, _rate(track), track.time_base) as writer:
        start: int | None = None
        for tick, frame, _ in decoded_frames(track, limits):
            start = tick if start is None else start
            if tick - start > last:
                last = tick - start
                writer.write(picture_of(frame, geometry, _native_size(geometry)), last)
    return writer.frames


def _scan(path: str, limits: VideoLimits) -> Track:
    """Demux a file whose frames will all be decoded, if they may be."""
    track = scan(path, limits)
    require_budget(track, len(track.packets), limits)
    return track


def _native_size(geometry: FrameGeometry) -> tuple[int, int]:
    return max(1, round(geometry.width * geometry.aspect)), geometry.height


def _rate(track: Track) -> Fraction:
    return Fraction(len(track.shown) / track.duration).limit_denominator(1001)


def _container_name(track: Track) -> str:
    if not track.container.startswith("matroska"):
        return track.container.split(",")[0]
    with Path(track.path).open("rb") as file:
        return "webm" if b"webm" in file.read(64) else "matroska"
