"""Videos on a server: sent once, checked, bounded, and the least recently used ones removed."""

from __future__ import annotations

import hashlib
import os
import socket
import time
from pathlib import Path

import httpx
import pytest

from descore.server.errors import ServerError
from descore.server.video_store import VideoStore
from tests.helpers.judging_server import RunningServer, judging_server
from tests.helpers.tiny import tiny_judge
from tests.helpers.waiting import wait_until


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def kept(store: VideoStore, content: bytes) -> str:
    with store.upload() as upload:
        upload.write(content)
        video = upload.finish()
        upload.keep(video)
    return video


def test_a_video_is_sent_once_and_asked_for_by_its_hash(client: httpx.Client, clips: list[Path]) -> None:
    content = clips[0].read_bytes()
    name = sha256(content)
    assert client.head(f"/v1/videos/{name}").status_code == 404
    missing = client.get(f"/v1/videos/{name}")
    assert missing.json()["error"]["videos"] == [name]
    for parameters in ({}, {"sha256": name}, {"sha256": name}):
        assert client.post("/v1/videos", content=content, params=parameters).json() == {"video": name, "bytes": len(content)}
    assert client.head(f"/v1/videos/{name}").status_code == 200
    assert client.get(f"/v1/videos/{name}").json() == {"video": name, "bytes": len(content)}


def test_what_can_not_be_judged_is_not_kept(client: httpx.Client, server: RunningServer, clips: list[Path]) -> None:
    whole = clips[1].read_bytes()
    before = set(server.judging.store.folder.iterdir())
    for content, reason in ((b"", "VideoEmptyError"), (b"no video", "VideoUnreadableError"), (whole[:700], None)):
        answer = client.post("/v1/videos", content=content)
        assert answer.status_code == 422
        error = answer.json()["error"]
        assert error["kind"] == "video"
        assert reason in (None, error["reason"])
        assert str(server.judging.store.folder) not in error["message"]
    answer = client.post("/v1/videos", content=whole, params={"sha256": "0" * 64})
    assert (answer.status_code, answer.json()["error"]["kind"]) == (422, "hash")
    assert set(server.judging.store.folder.iterdir()) == before


def test_a_video_that_is_too_large_is_refused_while_it_arrives(clips: list[Path]) -> None:
    size = clips[0].stat().st_size
    with judging_server(tiny_judge(), file_bytes=size - 1) as running:
        for content in (clips[0].read_bytes(), iter([clips[0].read_bytes()])):
            answer = httpx.post(f"{running.url}/v1/videos", content=content)
            assert (answer.status_code, answer.json()["error"]["kind"]) == (413, "too_large")
        assert not list(running.judging.store.folder.iterdir())
        assert running.judging.store.bytes == 0


def test_an_upload_that_breaks_off_or_stands_still_leaves_nothing_on_a_server() -> None:
    with judging_server(tiny_judge(), stall_seconds=0.2) as running:
        folder, address = running.judging.store.folder, running.uvicorn.servers[0].sockets[0].getsockname()
        head = b"POST /v1/videos HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 1000000\r\n\r\n"
        with socket.create_connection(address) as stands_still:
            stands_still.sendall(head + b"x" * 1000)
            stands_still.settimeout(60)
            assert b" 408 " in stands_still.recv(1000)
        with socket.create_connection(address) as breaks_off:
            breaks_off.sendall(head + b"x" * 1000)
        wait_until(lambda: not list(folder.iterdir()) and not running.judging.busy, "the end of the uploads")
        assert running.judging.store.bytes == 0


def test_too_many_uploads_at_a_time_are_told_to_come_later() -> None:
    with judging_server(tiny_judge(), uploads=1, stall_seconds=60.0) as running:
        address = running.uvicorn.servers[0].sockets[0].getsockname()
        with socket.create_connection(address) as first:
            first.sendall(b"POST /v1/videos HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 1000\r\n\r\nx")
            wait_until(lambda: running.judging.busy == 1, "the first upload")
            answer = httpx.post(f"{running.url}/v1/videos", content=b"x")
            assert (answer.status_code, answer.headers["Retry-After"]) == (429, "1")


def test_the_least_recently_used_videos_go_and_held_ones_stay(tmp_path: Path) -> None:
    store = VideoStore(tmp_path / "videos", most_bytes=30, file_bytes=30)
    first, second, third = (kept(store, bytes([number]) * 10) for number in range(3))
    assert store.size(first) == 10  # which is a use of it
    fourth = kept(store, b"4" * 10)
    assert store.size(second) is None
    assert {path.name for path in store.folder.iterdir()} == {first, third, fourth}
    with store.hold([first, third]) as paths:
        assert [path.read_bytes() for path in paths] == [b"\0" * 10, b"\2" * 10]
        fifth = kept(store, b"5" * 10)
        assert store.size(fourth) is None
        with pytest.raises(ServerError, match="full of those that are being judged"):
            kept(store, b"6" * 20)
        assert store.size(fifth) is None or store.bytes <= 30
    with pytest.raises(ServerError, match="send it to /v1/videos first") as error, store.hold([first, fourth]):
        pass
    assert error.value.details["videos"] == [fourth]
    assert store.bytes <= 30


def test_a_store_takes_over_what_an_earlier_server_left(tmp_path: Path) -> None:
    folder = tmp_path / "videos"
    store = VideoStore(folder, most_bytes=100, file_bytes=100)
    old, new = kept(store, b"o" * 40), kept(store, b"n" * 40)
    os.utime(folder / old, (time.time() - 100, time.time() - 100))
    (folder / "half.part").write_bytes(b"half")
    (folder / "notes.txt").write_text("not ours", "utf-8")
    again = VideoStore(folder, most_bytes=60, file_bytes=50)
    assert (again.size(old), again.size(new)) == (None, 40)
    assert {path.name for path in folder.iterdir()} == {new, "notes.txt"}
    (folder / new).unlink()
    assert again.size(new) is None
