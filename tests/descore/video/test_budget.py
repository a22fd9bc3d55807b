"""The bounds on all pixels that have to be decoded, and on the shape of a frame: refused before anything is decoded."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from benchmarks.helpers.tiny_bombs import write_gif
from descore.video import FramePolicy, VideoLimits, VideoTooLargeError, ingest, pyav_reader, read_frames
from descore.video.demux import CodedFrame, Track, require_budget, scan
from descore.video.read_frames import frames_before
from tests.helpers.barcode_clips import need_encoder, write_clip

POLICY = FramePolicy()
JOBS: dict[str, Callable[[str, VideoLimits], Any]] = {
    "probe": ingest.probe,
    "validate": ingest.validate,
    "reencode": lambda path, limits: ingest.reencode(path, f"{path}.out.mp4", limits),
    "read": lambda path, limits: read_frames.read(path, POLICY, limits),
}


def track(frames: int, width: int, height: int, keys: tuple[int, ...] = (0,)) -> Track:
    packets = tuple(CodedFrame(i, i, 1, i in keys, False, False, True) for i in range(frames))
    return Track("a.mp4", "mov", "h264", Fraction(1, 30), width, height, 1, b"", packets, tuple(range(frames)), frames, None)


@pytest.mark.parametrize("job", JOBS)
def test_a_small_file_of_many_large_frames_is_refused_before_it_is_decoded(
    job: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bomb = write_gif(tmp_path / "bomb.gif", 3000, 6000)
    assert bomb.stat().st_size < 140_000
    monkeypatch.setattr(pyav_reader, "_frames_of", lambda *_: pytest.fail("a frame was decoded"))
    with pytest.raises(VideoTooLargeError, match=r"\d+ frames of 3000 x 3000 are 5\d\.\d billion pixels .* is 40 billion"):
        JOBS[job](str(bomb), VideoLimits())
    assert not Path(f"{bomb}.out.mp4").exists()


@pytest.mark.parametrize(
    ("width", "height", "fps", "seconds"),
    [(3840, 2160, 30, 60), (3840, 2160, 60, 60), (4096, 2304, 24, 120), (1920, 1080, 30, 600), (1280, 720, 60, 600)],
)
def test_what_people_bring_is_within_the_budget(width: int, height: int, fps: int, seconds: int) -> None:
    require_budget(track(0, width, height), fps * seconds, VideoLimits())


def test_the_budget_is_counted_in_frames_times_pixels(tmp_path: Path) -> None:
    path = str(write_clip(tmp_path / "a.mp4", 48, options={"bf": "0"}))
    exact = replace(VideoLimits(), max_decoded_pixels=48 * 192 * 96)
    assert ingest.probe(path, exact).frames == 48
    assert ingest.validate(path, exact) == 48
    for job in JOBS.values():
        with pytest.raises(VideoTooLargeError, match=r"frames of 192 x 96"):
            job(path, replace(exact, max_decoded_pixels=4 * 192 * 96))


def test_a_read_costs_the_frames_from_the_key_frames_to_the_samples() -> None:
    assert frames_before(track(100, 8, 8), [10, 50, 70]) == 71
    assert frames_before(track(100, 8, 8, keys=(0, 40, 60)), [10, 50, 70]) == 11 + 11 + 11
    assert frames_before(track(100, 8, 8, keys=(0, 40, 60)), [50, 55]) == 16
    assert frames_before(track(100, 8, 8, keys=tuple(range(100))), [3, 50, 99]) == 3


def test_a_read_that_skips_most_of_a_clip_may_be_cheaper_than_the_whole(tmp_path: Path) -> None:
    path = str(write_clip(tmp_path / "a.mp4", 96, options={"bf": "0", "g": "4", "keyint_min": "4"}))
    policy = FramePolicy(fps=1, min_frames=1, max_frames=2)
    limits = replace(VideoLimits(), max_decoded_pixels=8 * 192 * 96)
    with pytest.raises(VideoTooLargeError):
        read_frames.read(path, policy, limits, use_decord=False)
    reader = read_frames.read(path, policy, VideoLimits()).reader
    if reader == "decord":
        assert len(read_frames.read(path, policy, limits).frames) == 2


@pytest.mark.slow
def test_frames_that_grow_in_mid_stream_are_counted_as_they_come(tmp_path: Path) -> None:
    """The container says 64 x 64, later frames are 640 x 640."""
    need_encoder("libx264")
    for side in (64, 640):
        write_clip(tmp_path / f"{side}.ts", 12, size=(side, side))
    grown = tmp_path / "grown.ts"
    grown.write_bytes((tmp_path / "64.ts").read_bytes() + (tmp_path / "640.ts").read_bytes())
    limits = replace(VideoLimits(), max_decoded_pixels=12 * 640 * 640 - 1)
    assert len(scan(str(grown), limits).packets) * 64 * 64 < limits.max_decoded_pixels
    with pytest.raises(VideoTooLargeError, match="decodes to more than"):
        ingest.validate(str(grown), limits)


@pytest.mark.parametrize(("size", "fine"), [((2000, 4), False), ((4, 2000), False), ((1900, 10), True), ((1912, 10), False)])
def test_frames_that_are_too_narrow_are_refused(size: tuple[int, int], fine: bool, tmp_path: Path) -> None:
    need_encoder("ffv1")
    width, height = size
    path = str(tmp_path / "narrow.mkv")
    with av.open(path, "w") as out:
        stream: Any = out.add_stream("ffv1", rate=8)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv444p"
        for _ in range(4):
            out.mux(stream.encode(av.VideoFrame.from_ndarray(np.zeros((height, width, 3), np.uint8), format="rgb24")))
        out.mux(stream.encode())
    if fine:
        assert ingest.probe(path, VideoLimits()).width == width
        return
    for job in ("probe", "read", "reencode"):
        with pytest.raises(VideoTooLargeError, match=rf"{width} x {height}\) are too narrow: one side may be 190 times"):
            JOBS[job](path, VideoLimits())


def test_the_limits_travel_to_the_decoding_process() -> None:
    assert VideoLimits(**asdict(VideoLimits(max_decoded_pixels=7))).max_decoded_pixels == 7
