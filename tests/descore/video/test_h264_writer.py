"""Writing H.264: the frames come back, in every browser's format, whole or not at all."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from descore.video import (
    FramePolicy,
    VideoUnreadableError,
    content_hash,
    encode_h264,
    make_playable,
    probe,
    read_clip,
)
from tests.helpers.barcode_clips import frame, numbers, write_clip

ALL = FramePolicy(fps=60, min_frames=1, max_frames=400)


@pytest.mark.parametrize("fps", [12, 24, 23.976, 12.5, Fraction(30000, 1001)])
def test_what_is_written_is_read_back(fps: float | Fraction, tmp_path: Path) -> None:
    path = encode_h264((frame(i) for i in range(30)), tmp_path / "a.mp4", fps)
    info = probe(path)
    assert (info.codec, info.pix_fmt, info.frames, info.browser_playable) == ("h264", "yuv420p", 30, True)
    assert info.fps == pytest.approx(float(fps), rel=1e-4)
    clip = read_clip(path, ALL)
    assert numbers(clip.frames) == list(range(30))
    due = np.stack([frame(i) for i in range(30)]).astype(int)
    assert np.abs(clip.frames - due).mean() < 4
    # The player's choice agrees with the one for frames in memory.
    policy = FramePolicy()
    assert numbers(read_clip(path, policy).frames) == policy.constant_rate_indices(30, fps)


def test_colours_survive(tmp_path: Path) -> None:
    for colour in ((255, 255, 255), (0, 0, 0), (255, 0, 0), (0, 255, 0), (0, 0, 255), (128, 64, 200)):
        path = encode_h264([np.full((64, 96, 3), colour, np.uint8)] * 4, tmp_path / "a.mp4", 24)
        for use_decord in (True, False):
            seen = read_clip(path, ALL, use_decord=use_decord).frames.mean(axis=(0, 1, 2))
            np.testing.assert_allclose(seen, colour, atol=3)


def test_the_index_comes_first_and_the_bytes_repeat(tmp_path: Path) -> None:
    clips = [encode_h264([frame(i) for i in range(12)], tmp_path / f"{n}.mp4", 24) for n in range(2)]
    data = clips[0].read_bytes()
    assert 0 < data.index(b"moov") < data.index(b"mdat")
    assert content_hash(clips[0]) == content_hash(clips[1])
    assert len(content_hash(clips[0])) == 64
    encode_h264([frame(i + 1) for i in range(12)], clips[1], 24)
    assert content_hash(clips[0]) != content_hash(clips[1])


def test_a_failed_write_leaves_nothing(tmp_path: Path) -> None:
    kept = encode_h264([frame(0)], tmp_path / "kept.mp4", 24)
    before = content_hash(kept)

    def breaking() -> object:
        yield frame(0)
        raise RuntimeError("renderer failed")

    with pytest.raises(RuntimeError, match="renderer failed"):
        encode_h264(breaking(), kept, 24)  # type: ignore[arg-type]
    wrong = {
        "at least one": [],
        "one size": [frame(0), frame(1, 96, 96)],
        "uint8": [frame(0).astype(np.float32)],
        "shape": [frame(0)[..., 0]],
    }
    for words, frames in wrong.items():
        with pytest.raises(ValueError, match=words):
            encode_h264(frames, tmp_path / "new.mp4", 24)
    assert [p.name for p in tmp_path.iterdir()] == ["kept.mp4"]
    assert content_hash(kept) == before


def test_make_playable(tmp_path: Path) -> None:
    fine = encode_h264([frame(i) for i in range(12)], tmp_path / "fine.mp4", 24)
    assert make_playable(fine, tmp_path / "unneeded.mp4") == fine
    assert not (tmp_path / "unneeded.mp4").exists()
    hevc = {"x265-params": "log-level=none"}
    ticks = [0, 40, 100, 500, 520, 900, 1000, 1100]
    uneven = write_clip(
        tmp_path / "b.mp4", 8, "libx265", options=hevc, ticks=ticks, time_base=Fraction(1, 1000), rotation=90
    )
    out = make_playable(uneven, tmp_path / "out" / "b.mp4")
    info = probe(out)
    assert out == tmp_path / "out" / "b.mp4"
    assert info.browser_playable
    assert info.codec == "h264"
    assert (info.width, info.height, info.rotation) == (192, 96, 0)
    before, after = read_clip(uneven, ALL), read_clip(out, ALL)
    assert numbers(after.frames) == numbers(before.frames)
    np.testing.assert_allclose(after.timestamps, before.timestamps, atol=1e-3)
    for name in ("a.avi", "a.mkv", "a.ts"):
        path = write_clip(tmp_path / name, 24)
        assert not probe(path).browser_playable
        assert numbers(read_clip(make_playable(path, tmp_path / f"{name}.mp4"), ALL).frames) == list(range(24))
    (tmp_path / "bad.mp4").write_text("no film")
    with pytest.raises(VideoUnreadableError):
        make_playable(tmp_path / "bad.mp4", tmp_path / "never.mp4")
    assert not (tmp_path / "never.mp4").exists()
