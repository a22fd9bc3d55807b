"""Small valid videos with random damage: frames, or a typed error with a sentence, in processes that live on."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from descore.video import FramePolicy, VideoError, VideoTimeoutError, probe, read_clip, shut_down, validate_full, warm_up
from descore.video.worker_pool import worker_pids
from tests.helpers.barcode_clips import frame, numbers, write_clip
from tests.helpers.mutations import FEWER_EXAMPLES, holds_for, mutated

pytestmark = pytest.mark.slow
ALL = FramePolicy(fps=24, min_frames=1, max_frames=400)
MOST_MEMORY = 2 << 30  # bytes that a decoding process had at its highest; the libraries alone take 0.2
VP9 = {"deadline": "realtime", "cpu-used": "8"}
NUMBERS = [bytes(4), b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff", b"\x80\0\0\0", b"\0\0\xff\xff", b"\0\1\0\0", b"\x10\0\0\0"]
PIECES = {
    "mp4": [*NUMBERS, b"moov", b"stsz", b"stts", b"ctts", b"stco", b"elst", b"mdat", b"avcC", b"\0\0\0\1"],
    "webm": [*NUMBERS, b"\x1a\x45\xdf\xa3", b"\x18\x53\x80\x67\x01\xff\xff\xff\xff\xff\xff\xff", b"\xb0\x82", b"\xba\x82"],
    "gif": [*NUMBERS, b",", b";", b"!\xf9\x04", b"\xff\xff", b"\0\x10\0\x10"],
    "webp": [*NUMBERS, b"ANMF", b"ANIM", b"VP8X", b"VP8 ", b"VP8L", b"\xff\x3f\0\xff\x3f\0"],
}


def seed(folder: Path, kind: str) -> Path:
    """A clip of eight numbered frames."""
    path = folder / f"seed.{kind}"
    if kind == "mp4":
        return write_clip(path, 8, container_options={"movflags": "+faststart"})
    if kind == "webm":
        return write_clip(path, 8, "libvpx-vp9", options=VP9)
    if kind == "gif":
        return write_clip(path, 8, "gif", pix_fmt="rgb8")
    pictures = [Image.fromarray(frame(index)) for index in range(8)]
    pictures[0].save(path, save_all=True, append_images=pictures[1:], duration=42, lossless=True)
    return path


def highest_memory(pid: int) -> int:
    """The most bytes of memory that a process had, by Linux's own count."""
    status = Path(f"/proc/{pid}/status").read_text("ascii")
    return int(status.partition("VmHWM:")[2].split()[0]) << 10


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="only Linux tells the memory of a process")
@pytest.mark.parametrize("kind", ["mp4", "webm", "gif", "webp"])
@FEWER_EXAMPLES
def test_damaged_videos_give_frames_or_a_typed_error_in_bounded_memory(tmp_path: Path, kind: str, examples: int) -> None:
    whole = seed(tmp_path, kind)
    data = whole.read_bytes()
    head, tail = data[: len(data) // 4], data[len(data) // 4 :]  # most of what can be misunderstood stands at the beginning
    damages = mutated([data], PIECES[kind]) | mutated([head], PIECES[kind]).map(lambda damaged: damaged + tail)
    outcomes = set()
    shut_down()
    warm_up()
    read_clip(whole, ALL)
    first = set(worker_pids())

    def check(damaged: bytes) -> None:
        path = tmp_path / f"damaged.{kind}"
        path.write_bytes(damaged)
        for job in (probe, validate_full, lambda file, **more: read_clip(file, ALL, **more)):
            try:
                found = job(path, timeout=60)
            except VideoError as error:
                assert not isinstance(error, VideoTimeoutError)  # noqa: PT017 - random input: an error is allowed
                assert error.reason  # noqa: PT017
                assert len(str(error)) < 1000  # noqa: PT017
                outcomes.add(type(error).__name__)
                continue
            outcomes.add("frames")
            if job is probe:
                assert found.frames > 0
                assert 0 < found.width * found.height <= 4096 * 2304
                assert 0 < found.duration <= 600
                assert math.isfinite(found.fps)
            elif job is not validate_full:
                assert found.frames.dtype == np.uint8
                assert found.frames.ndim == 4
                assert len(found.frames) == len(found.timestamps) > 0

    holds_for(damages, examples, check)
    assert "frames" in outcomes
    assert len(outcomes) > 1
    assert set(worker_pids()) & first, "the processes live on"
    assert max(highest_memory(pid) for pid in worker_pids()) < MOST_MEMORY
    assert numbers(read_clip(whole, ALL).frames) == list(range(8))
