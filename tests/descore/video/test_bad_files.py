"""Whatever file comes: right frames or one clear typed error within the limit, and the work goes on."""

from __future__ import annotations

import os
import random
import socket
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from descore.video import (
    FramePolicy,
    VideoEmptyError,
    VideoError,
    VideoHasNoStreamError,
    VideoIsPointerError,
    VideoLimits,
    VideoMissingError,
    VideoTimeoutError,
    VideoTooLargeError,
    VideoTooLongError,
    VideoTruncatedError,
    VideoUnreadableError,
    content_hash,
    encode_h264,
    probe,
    pyav_reader,
    read_clip,
    validate_full,
    warm_up,
)
from descore.video.read_frames import read
from descore.video.worker_pool import worker_pids
from tests.helpers.barcode_clips import frame, numbers, write_audio_only, write_clip

ALL = FramePolicy(fps=24, min_frames=1, max_frames=400)


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_clip(tmp_path_factory.mktemp("good") / "good.mp4", 24)


@pytest.fixture(autouse=True)
def _the_next_file_is_read(good: Path) -> Iterator[None]:
    yield
    assert numbers(read_clip(good, ALL).frames) == list(range(24))


def refuse(path: str | Path, kind: type[VideoError], words: str = ".", **more: Any) -> VideoError:
    """Check that reading, probing and validating refuse `path` with exactly this error, so none of them runs out of time."""
    for job in (probe, validate_full, lambda p, **m: read_clip(p, ALL, **m)):
        with pytest.raises(VideoError, match=words) as caught:
            job(path, **more)
        assert type(caught.value) is kind, f"{type(caught.value).__name__}: {caught.value}"
        assert caught.value.path == os.fspath(path)
        assert caught.value.reason
    return caught.value


def right_frames(path: Path) -> int:
    """Every frame carries the number that belongs to its time; how many came."""
    clip = read_clip(path, ALL)
    assert numbers(clip.frames) == [round(time * 24) for time in clip.timestamps]
    return len(clip.frames)


def halve(source: Path, target: Path, share: float = 0.5) -> Path:
    data = source.read_bytes()
    target.write_bytes(data[: int(len(data) * share)])
    return target


def test_missing_and_empty(tmp_path: Path) -> None:
    refuse(tmp_path / "nowhere.mp4", VideoMissingError, "no such file")
    refuse(tmp_path, VideoMissingError, "a folder")
    (tmp_path / "zero.mp4").touch()
    refuse(tmp_path / "zero.mp4", VideoEmptyError, "zero bytes")
    refuse("nul\0byte.mp4", VideoMissingError)
    with pytest.raises(VideoMissingError):
        content_hash(tmp_path / "nowhere.mp4")


def test_pipes_and_devices_are_not_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "endless.mp4")
    refuse(tmp_path / "endless.mp4", VideoMissingError, "pipe or device")
    refuse("/dev/zero", VideoMissingError, "pipe or device")


def test_addresses_are_never_fetched(good: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.2)
        port = server.getsockname()[1]
        refuse(f"http://127.0.0.1:{port}/a.mp4", VideoMissingError, "never addresses")
        refuse(f"tcp://127.0.0.1:{port}", VideoMissingError)
        for path in (
            f"concat:{good}|{good}",
            f"file:{good}",
            f"subfile,,start,0,end,0,,:{good}",
            f"cache:{good}",
        ):
            refuse(path, VideoMissingError)
        with pytest.raises(TimeoutError):
            server.accept()


def test_playlists_are_not_followed(good: Path, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.2)
        address = f"http://127.0.0.1:{server.getsockname()[1]}/a.ts"
        for target in (str(good), address):
            (tmp_path / "list.mp4").write_text(f"#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\n{target}\n#EXT-X-ENDLIST\n")
            refuse(tmp_path / "list.mp4", VideoUnreadableError)
            (tmp_path / "script.mp4").write_text(f"ffconcat version 1.0\nfile '{target}'\n")
            refuse(tmp_path / "script.mp4", VideoUnreadableError)
        with pytest.raises(TimeoutError):
            server.accept()


def test_not_a_video(tmp_path: Path) -> None:
    (tmp_path / "text.mp4").write_text("This is no film.\n" * 100)
    refuse(tmp_path / "text.mp4", VideoUnreadableError, "not a readable video")
    (tmp_path / "noise.mp4").write_bytes(random.Random(1).randbytes(50_000))
    refuse(tmp_path / "noise.mp4", VideoUnreadableError)
    with av.open(str(tmp_path / "picture.png"), "w", format="image2") as out:
        stream: Any = out.add_stream("png", rate=1)
        stream.width, stream.height, stream.pix_fmt = 64, 64, "rgb24"
        out.mux(stream.encode(av.VideoFrame.from_ndarray(np.zeros((64, 64, 3), np.uint8), format="rgb24")))
    refuse(tmp_path / "picture.png", VideoUnreadableError)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:12ab\nsize 81234\n", "Git LFS pointer.*git lfs pull"),
        (b"/annex/objects/SHA256E-s81234--12ab.mp4\n", "git-annex pointer.*git annex get"),
        (b"\n<!DOCTYPE html><html><head></head></html>", "web page"),
    ],
)
def test_a_file_in_the_place_of_a_video_is_named(content: bytes, words: str, tmp_path: Path) -> None:
    (tmp_path / "lfs.mp4").write_bytes(content)
    refuse(tmp_path / "lfs.mp4", VideoIsPointerError, words)


def test_sound_only(tmp_path: Path) -> None:
    refuse(write_audio_only(tmp_path / "sound.mp4"), VideoHasNoStreamError, "no video stream")


@pytest.mark.slow
def test_cut_off_files(tmp_path: Path) -> None:
    late_index = write_clip(tmp_path / "late.mp4", 96)
    early_index = write_clip(tmp_path / "early.mp4", 96, container_options={"movflags": "+faststart"})
    vp9 = {"deadline": "realtime", "cpu-used": "8"}
    others = [
        write_clip(tmp_path / "a.webm", 96, "libvpx-vp9", options=vp9),
        write_clip(tmp_path / "a.mkv", 96),
        write_clip(tmp_path / "a.avi", 96, "mpeg4"),
        write_clip(tmp_path / "a.gif", 20, "gif", pix_fmt="rgb8"),
    ]
    for source in (late_index, early_index, *others):
        for share in (0.5, 0.9, 0.997):
            refuse(halve(source, tmp_path / f"cut{source.suffix}", share), VideoTruncatedError)
    data = early_index.read_bytes()
    (tmp_path / "last.mp4").write_bytes(data[:-1])
    refuse(tmp_path / "last.mp4", VideoTruncatedError, "breaks off")


def test_cut_transport_stream(tmp_path: Path) -> None:
    """A transport stream has no length of its own: whole frames may come, half ones may not."""
    whole = write_clip(tmp_path / "a.ts", 96)
    data = whole.read_bytes()
    refuse(halve(whole, tmp_path / "cut.ts", 100.5 * 188 / len(data)), VideoTruncatedError, "transport packet")
    outcomes = set()
    for packets in range(60, len(data) // 188, 29):
        (tmp_path / "cut.ts").write_bytes(data[: packets * 188])
        try:
            right_frames(tmp_path / "cut.ts")
            outcomes.add("frames")
        except VideoError as error:
            outcomes.add(type(error).__name__)
    assert outcomes <= {"frames", "VideoTruncatedError", "VideoUnreadableError"}


def test_live_recording_gives_the_frames_it_has(tmp_path: Path) -> None:
    """A live WebM doesn't know its own length: half of one is a shorter one."""
    options = {"deadline": "realtime", "cpu-used": "8", "g": "24", "b": "0", "crf": "25"}
    whole = write_clip(tmp_path / "a.webm", 96, "libvpx-vp9", options=options, container_options={"live": "1"})
    half = halve(whole, tmp_path / "half.webm")
    try:
        assert 10 < right_frames(half) < 90
    except VideoTruncatedError:
        return


def test_one_single_frame(tmp_path: Path) -> None:
    clip = read_clip(write_clip(tmp_path / "one.mp4", 1), FramePolicy())
    assert numbers(clip.frames) == [0]
    assert clip.timestamps.tolist() == [0.0]
    assert clip.duration == pytest.approx(1 / 24, abs=1e-3)


@pytest.mark.parametrize("size", [(16, 16), (2, 2), (17, 31), (24, 18), (48, 48), (64, 64), (161, 99)])
def test_small_and_odd_sizes(size: tuple[int, int], tmp_path: Path) -> None:
    width, height = size
    shades = [np.full((height, width, 3), 20 + 25 * i, np.uint8) for i in range(8)]
    paths = [encode_h264(shades, tmp_path / "a.mp4", 24)]
    if min(size) > 2:
        options = {"deadline": "realtime", "cpu-used": "8"}
        with av.open(str(tmp_path / "a.webm"), "w") as out:
            stream: Any = out.add_stream("libvpx-vp9", rate=24, options=options)
            stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
            for shade in shades:
                out.mux(stream.encode(av.VideoFrame.from_ndarray(shade, format="rgb24")))
            out.mux(stream.encode())
        paths.append(tmp_path / "a.webm")
    for path in paths:
        clip = read_clip(path, ALL)
        even = (height + height % 2, width + width % 2)
        assert clip.frames.shape[1:3] == (even if path.suffix == ".mp4" else (height, width))
        np.testing.assert_allclose(clip.frames.mean(axis=(1, 2, 3)), [20 + 25 * i for i in range(8)], atol=4)
        assert clip.frames.std(axis=(1, 2, 3)).max() < 4


def test_giant_frames_are_refused_before_decoding(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with av.open(str(tmp_path / "8k.mp4"), "w") as out:
        stream: Any = out.add_stream("libx264", rate=24, options={"preset": "ultrafast"})
        stream.width, stream.height, stream.pix_fmt = 7680, 4320, "yuv420p"
        out.mux(stream.encode(av.VideoFrame(7680, 4320, "yuv420p")))
        out.mux(stream.encode())
    refuse(tmp_path / "8k.mp4", VideoTooLargeError, "7680 x 4320")
    decoded: list[str] = []
    monkeypatch.setattr(pyav_reader, "decoded_frames", lambda track, *_, **__: decoded.append(track.path) or iter(()))
    with pytest.raises(VideoTooLargeError):
        read(str(tmp_path / "8k.mp4"), ALL, VideoLimits())
    with pytest.raises(VideoUnreadableError):  # the same file under a higher limit does get to the decoder
        read(str(tmp_path / "8k.mp4"), ALL, VideoLimits(max_pixels=7680 * 4320))
    assert decoded == [str(tmp_path / "8k.mp4")]
    for side, kind in ((4_000, VideoTooLargeError), (60_000, VideoUnreadableError)):
        sides = side.to_bytes(2, "little") * 2
        picture = b"," + b"\0" * 4 + sides + b"\0" + b"\x02\x02\x44\x01\0" + b";"
        (tmp_path / "bomb.gif").write_bytes(b"GIF89a" + sides + b"\x80\0\0" + b"\0" * 6 + picture)
        refuse(tmp_path / "bomb.gif", kind)


def test_too_long_and_too_many(good: Path, tmp_path: Path) -> None:
    ticks = [0, 1000, 2_000_000]
    long = write_clip(tmp_path / "long.mp4", 3, ticks=ticks, time_base=Fraction(1, 1000))
    refuse(long, VideoTooLongError, "2000 s|2001 s|3000 s|4[0-9]{3} s")
    refuse(good, VideoTooLongError, "more than 10 frames", limits=VideoLimits(max_packets=10))
    refuse(good, VideoTooLargeError, "GB", limits=VideoLimits(max_bytes=100))


def test_slow_files_are_stopped(tmp_path: Path) -> None:
    slow = write_clip(tmp_path / "slow.mp4", 60, options={"preset": "ultrafast"}, size=(480, 240))
    warm_up()
    before = set(worker_pids())
    with pytest.raises(VideoTimeoutError, match=r"more than 0\.02 s"):
        read_clip(slow, ALL, timeout=0.02)
    assert len(before - set(worker_pids())) == 1, "the process that decoded it should be gone"


def test_damage_in_the_middle_is_found_at_ingest(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "a.mp4", 96)
    data = bytearray(path.read_bytes())
    middle = len(data) // 2
    data[middle : middle + 2000] = bytes(2000)
    path.write_bytes(data)
    with pytest.raises(VideoUnreadableError, match=r"damaged|decoded"):
        validate_full(path)


def test_random_damage_never_gets_through_untyped(tmp_path: Path) -> None:
    source = write_clip(tmp_path / "a.mp4", 48, container_options={"movflags": "+faststart"})
    chance = random.Random(7)
    outcomes = set()
    for round_number in range(40):
        data = bytearray(source.read_bytes())
        for _ in range(chance.choice([1, 3, 10])):
            data[chance.randrange(2500 if round_number % 2 else len(data))] = chance.randrange(256)
        path = tmp_path / "damaged.mp4"
        path.write_bytes(data)
        try:
            clip = read_clip(path, FramePolicy(), timeout=120)
            assert clip.frames.dtype == np.uint8
            assert clip.frames.ndim == 4
            assert len(clip.timestamps) == len(clip.frames)
            outcomes.add("frames")
        except VideoError as error:
            assert not isinstance(error, VideoTimeoutError)  # noqa: PT017 - random input: an error is allowed, not required
            outcomes.add(type(error).__name__)
    assert "frames" in outcomes
    assert len(outcomes) > 1


def test_file_that_still_grows(tmp_path: Path) -> None:
    """The frames written so far, or an error; never a wait for more."""
    path = tmp_path / "growing.ts"
    with av.open(str(path), "w") as out:
        stream: Any = out.add_stream("libx264", rate=24, options={"tune": "zerolatency"})
        stream.width, stream.height, stream.pix_fmt = 192, 96, "yuv420p"
        for index in range(60):
            out.mux(stream.encode(av.VideoFrame.from_ndarray(frame(index), format="rgb24")))
        try:
            right_frames(path)
        except VideoError as error:
            assert not isinstance(error, VideoTimeoutError)  # noqa: PT017 - random input: an error is allowed, not required
