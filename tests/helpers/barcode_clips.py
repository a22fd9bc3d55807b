"""Clips whose frames carry their own number, so that a test can tell which frames it was given.

Each frame shows its number three ways at once: a 12-bit bar code (black and white cells, left to right, most
significant first) over the lower part, a red patch in the upper left corner and a blue one in the upper right
corner, so that turned or mirrored frames are noticed too.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

BITS = 12


def frame(number: int, width: int = 192, height: int = 96) -> np.ndarray:
    """Draw the bar code of `number`, uint8 (height, width, 3), in a picture that changes from frame to frame."""
    y, x = np.mgrid[0:height, 0:width]
    image = np.stack([(x + 3 * number) % 256, (y * 2 + number) % 256, (x + y) % 256], axis=-1) // 3 + 60
    third = height // 3
    image[third:] = 0
    for bit in range(BITS):
        left, right = bit * width // BITS, (bit + 1) * width // BITS
        if number >> (BITS - 1 - bit) & 1:
            image[third:, left:right] = 255
    image[:third, : width // 4] = (220, 20, 20)
    image[:third, -(width // 4) :] = (20, 20, 220)
    return image.astype(np.uint8)


def number(image: np.ndarray) -> int:
    """Read the bar code back; fails where a cell is neither black nor white, or the picture isn't upright."""
    height, width = image.shape[:2]
    third, edge, inner = height // 3, width // 16, width * 3 // 16
    top = image[third // 4 : third * 3 // 4]
    red, blue = top[:, edge:inner].mean(axis=(0, 1)), top[:, -inner:-edge].mean(axis=(0, 1))
    upright = red[0] > red[2] + 60 and blue[2] > blue[0] + 60
    assert upright, f"not upright: corners {red.round()} and {blue.round()}"
    value = 0
    for bit in range(BITS):
        left, right = bit * width // BITS, (bit + 1) * width // BITS
        inset = max(1, (right - left) // 4)
        level = image[third + height // 6 : -(height // 6), left + inset : right - inset].mean()
        assert level < 80 or level > 175, f"bit {bit} is grey ({level:.0f})"
        value = value << 1 | int(level > 127)
    return value


def numbers(frames: Iterable[np.ndarray]) -> list[int]:
    """Read the numbers of several frames."""
    return [number(image) for image in frames]


def need_encoder(name: str) -> None:
    """Skip the test where this build of PyAV can't write the codec."""
    try:
        av.codec.Codec(name, "w")
    except av.codec.codec.UnknownCodecError:
        pytest.skip(f"this PyAV has no {name} encoder")


def write_clip(
    path: Path,
    count: int,
    codec: str = "libx264",
    fps: Fraction | int = 24,
    options: dict[str, str] | None = None,
    *,
    size: tuple[int, int] = (192, 96),
    pix_fmt: str = "yuv420p",
    ticks: Sequence[int] | None = None,
    time_base: Fraction | None = None,
    rotation: int = 0,
    container_options: dict[str, str] | None = None,
    aspect: Fraction | None = None,
    audio: bool = False,
) -> Path:
    """Encode frames 0 .. count - 1; the suffix of `path` says which container.

    Args:
        path: the file to write.
        count: number of frames.
        codec: ffmpeg's name of the encoder.
        fps: frames a second.
        options: of the encoder.
        size: (width, height) as displayed.
        pix_fmt: ffmpeg's name.
        ticks: display times for a variable frame rate.
        time_base: seconds of one tick.
        rotation: degrees counter-clockwise of the display matrix; the frames are stored turned the other way, so that a
            player shows them upright.
        container_options: of the muxer.
        aspect: width over height of one pixel.
        audio: add silence.
    """
    need_encoder(codec)
    base = time_base or 1 / Fraction(fps)
    with _usual_scheduling(), av.open(str(path), "w", options=container_options or {}) as out:
        stream: Any = out.add_stream(codec, rate=Fraction(fps), options=options or {})
        width, height = size if rotation % 180 == 0 else size[::-1]
        stream.width, stream.height, stream.pix_fmt = width, height, pix_fmt
        stream.codec_context.time_base = base
        if aspect:
            stream.codec_context.sample_aspect_ratio = aspect
        if rotation:
            stream.set_display_rotation(rotation)
        if audio:
            _add_silence(out, float(count / fps))
        for index in range(count):
            stored = np.ascontiguousarray(np.rot90(frame(index, *size), -rotation // 90))
            picture = av.VideoFrame.from_ndarray(stored, format="rgb24").reformat(format=pix_fmt)
            picture.pts, picture.time_base = (ticks[index] if ticks else index), base
            out.mux(stream.encode(picture))
        out.mux(stream.encode())
    return path


@contextmanager
def _usual_scheduling() -> Iterator[None]:
    """Root's SVT-AV1 encoder turns its caller into a real-time thread, and with it whatever this process starts later."""
    before = os.sched_getscheduler(0) if hasattr(os, "sched_getscheduler") else None
    try:
        yield
    finally:
        if before is not None:
            os.sched_setscheduler(0, before, os.sched_param(0))


def _add_silence(out: Any, seconds: float) -> None:
    stream = out.add_stream("aac", rate=44100)
    for index in range(max(1, round(seconds * 44100 / 1024))):
        sound = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        sound.sample_rate, sound.pts, sound.time_base = 44100, index * 1024, Fraction(1, 44100)
        out.mux(stream.encode(sound))
    out.mux(stream.encode())


def write_audio_only(path: Path) -> Path:
    """Write a second of silence without any video stream."""
    with av.open(str(path), "w") as out:
        _add_silence(out, 1.0)
    return path


def remux(source: Path, target: Path, *, first: int = 0, last: int | None = None) -> list[int]:
    """Copy packets from frame `first` on without re-encoding, as `-ss -c copy` does; return the numbers of shown frames.

    Copying starts at the key frame at or before `first`; frames before `first` get negative times, from which
    the mp4 muxer writes an edit list: they are decoded, and no player shows them. Copying stops behind the
    last packet that frame `last` needs, so a few later frames may remain.
    """
    with av.open(str(source)) as inp, av.open(str(target), "w") as out:
        video = inp.streams.video[0]
        copy: Any = out.add_stream_from_template(video)
        packets = [p for p in inp.demux(video) if p.size]
        ticks = sorted(p.pts for p in packets)
        shown_number = {tick: index for index, tick in enumerate(ticks)}
        start = ticks[first]
        begin = max(i for i, p in enumerate(packets) if p.is_keyframe and p.pts <= start)
        end = len(packets) - 1
        if last is not None:
            end = max(i for i, p in enumerate(packets) if p.pts <= ticks[last])
        shown = sorted(shown_number[p.pts] for p in packets[begin : end + 1] if p.pts >= start)
        for packet in packets[begin : end + 1]:
            packet.pts -= start
            packet.dts -= start
            packet.stream = copy
            out.mux(packet)
    return shown
