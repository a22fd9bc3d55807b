"""Animated WebP, which ffmpeg can't decode: display times from the file's own chunks, pictures by Pillow (libwebp).

Source: the WebP container specification, "Animation". Each ANMF chunk is one frame with its duration in milliseconds; the
decoder puts its rectangle onto the canvas, so that whole pictures come out.
"""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import av
import numpy as np

from descore.video.types import VideoEmptyError, VideoLimits, VideoTooLongError, VideoUnreadableError

if TYPE_CHECKING:
    import os

MILLISECOND = Fraction(1, 1000)
_ANIMATED = 0x02  # the flag of the VP8X chunk
# As browsers do with frames that say 10 ms or less.
_LEAST_MILLISECONDS, _USUAL_MILLISECONDS = 10, 100


def is_webp(path: str | os.PathLike[str]) -> bool:
    """Tell whether a file begins as WebP does."""
    with Path(path).open("rb") as file:
        head = file.read(12)
    return head[:4] == b"RIFF" and head[8:] == b"WEBP"


def webp_timing(path: str, limits: VideoLimits) -> tuple[int, int, list[int]]:
    """Return width and height of the canvas in pixels, and the duration of each frame in milliseconds, without decoding.

    Raises:
        VideoUnreadableError: a still picture.
        VideoTooLongError: more frames than the limits allow.
        VideoEmptyError: an animation without frames.
    """
    with Path(path).open("rb") as file:
        file.seek(12)
        kind, header = _chunk(file, 10)
        if kind != b"VP8X" or not header[0] & _ANIMATED:
            raise VideoUnreadableError(path, "this is a still picture in WebP; a video or an animation is needed")
        durations: list[int] = []
        while (chunk := _chunk(file, 16))[0]:
            if chunk[0] == b"ANMF" and len(chunk[1]) == 16:
                duration = int.from_bytes(chunk[1][12:15], "little")
                durations.append(duration if duration > _LEAST_MILLISECONDS else _USUAL_MILLISECONDS)
            if len(durations) > limits.max_packets:
                raise VideoTooLongError(path, f"it holds more than {limits.max_packets} frames, the limit")
    if not durations:
        raise VideoEmptyError(path, "its animation holds no frames")
    return 1 + int.from_bytes(header[4:7], "little"), 1 + int.from_bytes(header[7:10], "little"), durations


def webp_frames(path: str) -> Iterator[Any]:
    """Yield each picture as a PyAV frame, in order; what is transparent is shown on black.

    Raises:
        VideoUnreadableError: damaged data.
    """
    from PIL import Image, ImageSequence

    try:
        with Image.open(path, formats=["WEBP"]) as animation:
            black = Image.new("RGBA", animation.size, (0, 0, 0, 255))
            for picture in ImageSequence.Iterator(animation):
                shown = Image.alpha_composite(black, picture.convert("RGBA")).convert("RGB")
                yield av.VideoFrame.from_ndarray(np.asarray(shown), format="rgb24")
    except (OSError, EOFError, ValueError, SyntaxError) as error:
        raise VideoUnreadableError(path, f"its data is damaged ({error})") from error


def _chunk(file: BinaryIO, wanted: int) -> tuple[bytes, bytes]:
    """Read the name and the first bytes of a RIFF chunk, and go to the next one; an empty name at the end."""
    head = file.read(8)
    if len(head) < 8:
        return b"", b""
    size = int.from_bytes(head[4:], "little")
    content = file.read(min(wanted, size))
    file.seek(size - len(content) + size % 2, 1)
    return head[:4], content
