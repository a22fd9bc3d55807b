"""Every sampled frame is the one that a player shows at its time, proven with frames that carry numbers."""

from __future__ import annotations

import importlib.util
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from descore.video import FramePolicy, VideoLimits, probe, read_clip
from descore.video.decord_reader import decord_refusal, usable
from descore.video.demux import scan
from descore.video.pyav_reader import read_geometry
from tests.helpers.barcode_clips import frame, numbers, remux, write_clip

COUNT, FPS = 96, 24
ALL = FramePolicy(fps=FPS, min_frames=1, max_frames=400)
USUAL = FramePolicy()

CLOSED = {"x264-params": "keyint=24:open-gop=0"}
OPEN = {"x264-params": "keyint=24:min-keyint=24:open-gop=1:bframes=3:scenecut=0"}
PYRAMID = {"x264-params": "keyint=12:bframes=8:b-pyramid=normal:ref=6:b-adapt=0:scenecut=0"}
SHORT = {"x264-params": "keyint=3:min-keyint=1:bframes=3:ref=3:scenecut=40", "preset": "fast"}
HEVC = {"x265-params": "keyint=24:min-keyint=24:log-level=none"}
AV1 = {"preset": "8", "crf": "20", "svtav1-params": "enable-tf=0"}
VP9 = {
    "deadline": "good",
    "cpu-used": "6",
    "g": "24",
    "lag-in-frames": "16",
    "auto-alt-ref": "1",
    "crf": "25",
    "b": "0",
}
VP8 = {"deadline": "good", "cpu-used": "5", "lag-in-frames": "16", "auto-alt-ref": "1", "b": "2M"}

# name: (file, encoder, its options, may decord read it; None: either will do)
CLIPS: dict[str, tuple[str, str, dict[str, str], bool | None]] = {
    "h264 closed": ("a.mp4", "libx264", CLOSED, True),
    "h264 open": ("a.mp4", "libx264", OPEN, False),
    "h264 b-pyramid": ("a.mp4", "libx264", PYRAMID, True),
    "h264 no b-frames": ("a.mp4", "libx264", {"x264-params": "keyint=24:bframes=0"}, True),
    "h264 short groups": ("a.mp4", "libx264", SHORT, None),
    "h264 mov": ("a.mov", "libx264", CLOSED, True),
    "h264 mkv": ("a.mkv", "libx264", CLOSED, False),
    "h264 ts": ("a.ts", "libx264", CLOSED, False),
    "h264 ts open": ("a.ts", "libx264", OPEN, False),
    "h264 avi, no display times": ("a.avi", "libx264", CLOSED, False),
    "h264 flv": ("a.flv", "libx264", CLOSED, False),
    "hevc": ("a.mp4", "libx265", HEVC, False),
    "hevc ts": ("a.ts", "libx265", HEVC, False),
    "av1": ("a.mp4", "libsvtav1", AV1, False),
    "av1 webm": ("a.webm", "libsvtav1", AV1, False),
    "vp9": ("a.webm", "libvpx-vp9", VP9, True),
    "vp9 mp4": ("a.mp4", "libvpx-vp9", VP9, True),
    "vp8, hidden frames": ("a.webm", "libvpx", VP8, False),
    "mpeg4 avi": ("a.avi", "mpeg4", {"bf": "2", "b": "4M"}, False),
    "mpeg2 ps": ("a.mpg", "mpeg2video", {"bf": "2", "b": "6M"}, False),
}


def check(path: Path, shown: list[int], *, use_decord: bool = True) -> str:
    """All frames, and those of a usual policy, are the ones due; returns the reader's name.

    WebM, Matroska and FLV keep time in whole milliseconds, and players follow that clock.
    """
    clock = 1000 if path.suffix in (".webm", ".mkv", ".flv") else 90_000
    starts = [Fraction(round(Fraction(i * clock, FPS)), clock) for i in range(len(shown))]
    readers = set()
    for policy in (ALL, USUAL):
        clip = read_clip(path, policy, use_decord=use_decord)
        assert clip.duration == pytest.approx(len(shown) / FPS, abs=0.0015)
        due = policy.sample_indices(starts, Fraction(clip.duration).limit_denominator(90_000))
        assert numbers(clip.frames) == [shown[i] for i in due]
        np.testing.assert_allclose(clip.timestamps, [float(starts[i]) for i in due], atol=0.0015)
        readers.add(clip.reader)
    assert len(due) == 2 * round(len(shown) / FPS)
    return readers.pop()


@pytest.mark.parametrize("name", CLIPS)
def test_every_codec_and_container(name: str, tmp_path: Path) -> None:
    file, codec, options, decord_may = CLIPS[name]
    path = write_clip(tmp_path / file, COUNT, codec, FPS, options)
    reader = check(path, list(range(COUNT)))
    if decord_may is False or not usable():
        assert reader == "pyav"
    elif decord_may:
        assert reader == "decord"
        check(path, list(range(COUNT)), use_decord=False)


TRIMS = [
    ("closed", "libx264", CLOSED, 31),
    ("open", "libx264", OPEN, 31),
    ("hevc", "libx265", HEVC, 31),
    ("open at a key frame", "libx264", OPEN, 24),
    ("hevc at a key frame", "libx265", HEVC, 24),
]


@pytest.mark.parametrize(("_name", "codec", "options", "first"), TRIMS, ids=[t[0] for t in TRIMS])
def test_clips_trimmed_by_stream_copy(_name: str, codec: str, options: dict[str, str], first: int, tmp_path: Path) -> None:
    source = write_clip(tmp_path / "whole.mp4", COUNT, codec, FPS, options)
    shown = remux(source, tmp_path / "trimmed.mp4", first=first, last=80)
    with av.open(str(tmp_path / "trimmed.mp4")) as container:
        discarded = sum(p.is_discard for p in container.demux(video=0))
    assert shown[0] == first, "the clip must hold packets that no player shows"
    assert discarded, "the clip must hold packets that no player shows"
    starts = [Fraction(n - first, FPS) for n in shown]
    duration = starts[-1] + Fraction(1, FPS)
    for policy in (ALL, USUAL):
        clip = read_clip(tmp_path / "trimmed.mp4", policy)
        assert numbers(clip.frames) == [shown[i] for i in policy.sample_indices(starts, duration)]
        assert clip.reader == "pyav"


def test_stream_joined_in_the_middle_of_a_group(tmp_path: Path) -> None:
    """Frames that lean on something before the first packet are never shown."""
    source = write_clip(tmp_path / "whole.mp4", COUNT, "libx265", FPS, HEVC)
    remux(source, tmp_path / "joined.ts", first=24)
    assert check(tmp_path / "joined.ts", list(range(24, COUNT))) == "pyav"


@pytest.mark.parametrize(
    ("file", "codec", "options"),
    [("a.mp4", "libx264", {}), ("a.webm", "libvpx-vp9", {"deadline": "realtime", "cpu-used": "8"})],
)
def test_variable_frame_rate(file: str, codec: str, options: dict[str, str], tmp_path: Path) -> None:
    ticks = [0, 100, 150, 700, 710, 1500]
    path = write_clip(tmp_path / file, 6, codec, FPS, options, ticks=ticks, time_base=Fraction(1, 1000))
    duration = probe(path).duration
    for use_decord in (True, False):
        clip = read_clip(path, ALL, use_decord=use_decord)
        times = (np.arange(6) + 0.5) * duration / 6
        due = [max(i for i, tick in enumerate(ticks) if tick <= time * 1000) for time in times]
        assert len(set(due)) < 6
        assert numbers(clip.frames) == due
        np.testing.assert_allclose(clip.timestamps, [ticks[i] / 1000 for i in due], atol=1e-6)


@pytest.mark.parametrize("rotation", [90, 180, 270])
def test_turned_clips_come_back_upright(rotation: int, tmp_path: Path) -> None:
    path = write_clip(tmp_path / "a.mp4", COUNT, rotation=rotation)
    assert check(path, list(range(COUNT))) == "pyav"
    assert read_clip(path, USUAL).frames.shape[1:] == (96, 192, 3)
    info = probe(path)
    assert (info.width, info.height, info.rotation) == (192, 96, rotation)


def test_mirrored_clip_comes_back_upright(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    with av.open(str(path), "w") as out:
        stream: Any = out.add_stream("libx264", rate=FPS)
        stream.width, stream.height, stream.pix_fmt = 192, 96, "yuv420p"
        stream.set_display_rotation(0, hflip=True)
        for index in range(8):
            mirrored = np.ascontiguousarray(frame(index)[:, ::-1])
            out.mux(stream.encode(av.VideoFrame.from_ndarray(mirrored, format="rgb24")))
        out.mux(stream.encode())
    assert numbers(read_clip(path, ALL).frames) == list(range(8))


def test_fragmented_mp4(tmp_path: Path) -> None:
    options = {"movflags": "frag_keyframe+empty_moov"}
    path = write_clip(tmp_path / "a.mp4", COUNT, options=CLOSED, container_options=options)
    check(path, list(range(COUNT)))


def test_animated_gif(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "a.gif", 40, "gif", 20, pix_fmt="rgb8")
    clip = read_clip(path, USUAL)
    assert numbers(clip.frames) == USUAL.constant_rate_indices(40, 20)


def test_wide_pixels_are_stretched_as_a_player_does(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "a.mp4", 8, aspect=Fraction(2, 1))
    clip = read_clip(path, ALL)
    assert clip.frames.shape == (8, 96, 384, 3)
    assert numbers(clip.frames) == list(range(8))
    assert (probe(path).width, probe(path).height) == (384, 96)


def test_sound_changes_nothing(tmp_path: Path) -> None:
    check(write_clip(tmp_path / "a.mp4", COUNT, options=CLOSED, audio=True), list(range(COUNT)))


@pytest.mark.slow
def test_only_frames_far_over_the_budget_are_reduced(tmp_path: Path) -> None:
    large = write_clip(tmp_path / "large.mp4", 6, options={"preset": "ultrafast"}, size=(1920, 1080))
    small = FramePolicy(fps=FPS, max_pixels_per_frame=64 * 64)
    clip = read_clip(large, small)
    height, width = clip.frames.shape[1:3]
    assert 0.98 * 1024**2 < height * width < 1.02 * 1024**2
    assert width / height == pytest.approx(16 / 9, rel=0.01)
    assert numbers(clip.frames) == list(range(6))
    assert read_clip(large, FramePolicy(fps=FPS, max_pixels_per_frame=1024**2)).frames.shape[1:3] == (
        1080,
        1920,
    )


def test_both_readers_give_the_same_pixels_on_real_footage() -> None:
    spec = importlib.util.find_spec("gradio")
    if spec is None or spec.origin is None:
        pytest.skip("gradio, whose wheel ships the footage, is not installed")
    path = Path(spec.origin).parent / "media_assets" / "videos" / "b.mp4"
    if not path.exists():
        pytest.skip("this gradio ships no footage")
    fast, exact = (read_clip(path, USUAL, use_decord=choice) for choice in (True, False))
    assert exact.reader == "pyav"
    np.testing.assert_array_equal(fast.timestamps, exact.timestamps)
    assert np.abs(fast.frames.astype(int) - exact.frames).max() <= 2


def refusal(path: Path) -> str | None:
    track = scan(str(path), VideoLimits())
    return decord_refusal(track, read_geometry(track, VideoLimits()))


@pytest.mark.slow
@pytest.mark.skipif(not usable(), reason="decord is used on x86-64 only")
def test_what_keeps_decord_away(tmp_path: Path) -> None:
    """The reasons are found in the file's bits, one by one."""

    def clip(name: str, codec: str = "libx264", options: dict[str, str] | None = None, **more: Any) -> Path:
        return write_clip(tmp_path / name, 48, codec, FPS, options or CLOSED, **more)

    closed = clip("closed.mp4")
    assert refusal(closed) is None
    remux(closed, tmp_path / "trimmed.mp4", first=31)
    remux(closed, tmp_path / "closed.ts")
    reasons = {
        tmp_path / "trimmed.mp4": "trimmed",
        tmp_path / "closed.ts": "mpegts is not proven",
        clip("open.mp4", options=OPEN): "not proven to start a closed group",
        clip("hevc.mp4", "libx265", HEVC): "hevc in mov",
        clip("short.mp4", options=SHORT): "too short",
        clip("field.mp4", options={"x264-params": "interlaced=1:keyint=24"}): "interlaced|one picture",
        clip("deep.mp4", pix_fmt="yuv420p10le"): "8-bit",
        clip("turned.mp4", rotation=90): "turned",
        clip("narrow.mp4", size=(48, 96)): "small and odd sizes",
        clip("fragments.mp4", container_options={"movflags": "frag_keyframe+empty_moov"}): "start at time 0",
    }
    for path, reason in reasons.items():
        with pytest.raises(AssertionError, match=reason):
            assert refusal(path) is None, refusal(path)


@pytest.mark.skipif(not usable(), reason="decord is used on x86-64 only")
def test_key_frame_marks_alone_prove_nothing(tmp_path: Path) -> None:
    """An open and a closed group carry the same marks in the container; only the coded bits differ."""
    tracks = [
        scan(str(write_clip(tmp_path / f"{i}.mp4", 72, options=options)), VideoLimits())
        for i, options in enumerate((OPEN, {"x264-params": OPEN["x264-params"].replace("open-gop=1", "open-gop=0")}))
    ]
    keys = [[p for p in track.packets if p.key] for track in tracks]
    assert len(keys[0]) == len(keys[1]) == 3
    assert [p.closed for p in keys[0]] == [True, False, False]
    assert [p.closed for p in keys[1]] == [True, True, True]
