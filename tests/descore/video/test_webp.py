"""Animated WebP: the right pictures at the right times; still ones and damage are refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from descore.video import (
    FramePolicy,
    VideoError,
    VideoLimits,
    VideoTooLargeError,
    VideoTooLongError,
    VideoTruncatedError,
    VideoUnreadableError,
    ingest,
    make_playable,
    probe,
    read_clip,
    validate_full,
)
from descore.video.demux import scan
from descore.video.read_frames import read
from tests.helpers.barcode_clips import frame, numbers

LIMITS = VideoLimits()
ALL = FramePolicy(fps=100, min_frames=1, max_frames=400)


def write_webp(path: Path, durations: list[int], size: tuple[int, int] = (192, 96)) -> Path:
    pictures = [Image.fromarray(frame(number, *size)) for number in range(len(durations))]
    pictures[0].save(path, save_all=True, append_images=pictures[1:], duration=durations, lossless=True, method=0)
    return path


def test_frames_and_times_are_those_of_the_file(tmp_path: Path) -> None:
    path = write_webp(tmp_path / "a.webp", [100, 40, 250, 110])
    clip = read_clip(path, ALL)
    # Samples at 62.5, 187.5, 312.5 and 437.5 ms.
    assert numbers(clip.frames) == [0, 2, 2, 3]
    assert clip.timestamps.tolist() == [0, 0.14, 0.14, 0.39]
    assert clip.duration == 0.5
    np.testing.assert_array_equal(clip.frames[2], frame(2))
    info = probe(path)
    assert (info.width, info.height, info.frames, info.codec, info.browser_playable) == (192, 96, 4, "webp", False)
    assert validate_full(path) == 4


def test_a_frame_of_no_time_is_shown_as_browsers_show_it(tmp_path: Path) -> None:
    track = scan(str(write_webp(tmp_path / "a.webp", [0, 10, 50, 20])), LIMITS)
    assert [float(start) for start in track.starts()] == [0, 0.1, 0.2, 0.25]
    assert float(track.duration) == 0.27


def test_the_copy_for_the_browser_shows_the_same(tmp_path: Path) -> None:
    path = write_webp(tmp_path / "a.webp", [80] * 12)
    copy = make_playable(path, tmp_path / "copy.mp4")
    assert numbers(read_clip(copy, ALL).frames) == numbers(read_clip(path, ALL).frames) == list(range(12))


def test_what_is_transparent_is_black(tmp_path: Path) -> None:
    pictures = [Image.new("RGBA", (64, 64), (200, 30, 30, alpha)) for alpha in (255, 0)]
    pictures[0].save(tmp_path / "a.webp", save_all=True, append_images=pictures[1:], duration=100, lossless=True, exact=True)
    clip = read_clip(tmp_path / "a.webp", ALL)
    assert clip.frames[0].mean(axis=(0, 1)).tolist() == [200, 30, 30]
    assert clip.frames[1].max() == 0


def refuse(path: Path, kind: type[VideoError], words: str, limits: VideoLimits = LIMITS) -> None:
    for job in (lambda: ingest.probe(str(path), limits), lambda: read(str(path), ALL, limits)):
        with pytest.raises(kind, match=words):
            job()


def test_bounds_and_damage(tmp_path: Path) -> None:
    Image.fromarray(frame(1)).save(tmp_path / "still.webp")
    refuse(tmp_path / "still.webp", VideoUnreadableError, "still picture")
    path = write_webp(tmp_path / "a.webp", [100] * 6)
    refuse(path, VideoTooLongError, "more than 5 frames", VideoLimits(max_packets=5))
    refuse(path, VideoTooLongError, "lasts 1 s", VideoLimits(max_seconds=0.3))
    refuse(path, VideoTooLargeError, "192 x 96", VideoLimits(max_pixels=1000))
    refuse(path, VideoTooLargeError, "6 frames of 192 x 96", VideoLimits(max_decoded_pixels=100_000))
    data = path.read_bytes()
    (tmp_path / "cut.webp").write_bytes(data[: len(data) // 2])
    refuse(tmp_path / "cut.webp", VideoTruncatedError, "breaks off")
    middle = len(data) // 2
    (tmp_path / "bad.webp").write_bytes(data[:middle] + bytes(400) + data[middle + 400 :])
    with pytest.raises(VideoError):
        ingest.validate(str(tmp_path / "bad.webp"), LIMITS)
