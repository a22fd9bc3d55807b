"""Uploads to a real server: bounded while they stream in, gone when nobody uses them; honest ones are taken."""

from __future__ import annotations

import os
import secrets
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError
from sqlalchemy import select

from app.judge.access import JudgingAccess
from app.judge.api import JudgeApi
from app.serving.judging_queue import Visitor
from app.web import uploads
from app.web.housekeeping import Housekeeper
from app.web.uploads import Admission, Arrivals, TooManyError, UploadRefusedError, sweep
from benchmarks.helpers.tiny_bombs import write_gif
from descore.video import Lane
from storage.accounts.sessions import open_sign_in
from storage.accounts.users import add_user
from storage.errors import UploadQuotaError
from storage.schema import UploadRow
from storage.uploads import UploadQuota
from tests.helpers.studios import Running, make_clip
from tests.helpers.waiting import wait_until


def folder_of(_: Running) -> Path:
    return Path(os.environ["GRADIO_TEMP_DIR"])


def files_in(folder: Path) -> set[Path]:
    return {path for path in folder.rglob("*") if path.is_file()}


def send(running: Running, contents: list[bytes], **more: object) -> httpx.Response:
    files = [("files", (f"{index}.mp4", content)) for index, content in enumerate(contents)]
    return httpx.post(f"{running.url}/gradio_api/upload", files=files, timeout=120, **more)  # type: ignore[arg-type]


@contextmanager
def begun_upload(running: Running) -> Iterator[socket.socket]:
    """A connection on which the first part of a file has been sent."""
    address = urlsplit(running.url)
    head = b'--b\r\nContent-Disposition: form-data; name="files"; filename="a.mp4"\r\n\r\n'
    with socket.create_connection((str(address.hostname), int(address.port or 80))) as connection:
        connection.sendall(
            b"POST /gradio_api/upload HTTP/1.1\r\nHost: x\r\nContent-Length: 9000000\r\n"
            b"Content-Type: multipart/form-data; boundary=b\r\n\r\n" + head + bytes(300_000)
        )
        yield connection


@pytest.fixture
def untouched(running: Running) -> Iterator[None]:
    """Nothing is left in the folder of uploads by the test."""
    before = files_in(folder_of(running))
    yield
    wait_until(lambda: files_in(folder_of(running)) == before, "the end of the files of a refused upload")


def test_a_pair_is_taken_and_can_be_seen_by_the_page(running: Running) -> None:
    contents = [secrets.token_bytes(3000), secrets.token_bytes(3000)]
    answer = send(running, contents)
    assert answer.status_code == 200
    for path, content in zip(answer.json(), contents, strict=True):
        assert Path(path).is_relative_to(folder_of(running))
        assert httpx.get(f"{running.url}/gradio_api/file={path}").content == content


@pytest.mark.usefixtures("untouched")
def test_more_than_two_files_are_refused(running: Running) -> None:
    for number in (3, 300):
        answer = send(running, [secrets.token_bytes(2000)] * number)
        assert (answer.status_code, answer.text) == (400, "Upload 2 files at a time. Only leads may upload more.")


@pytest.mark.usefixtures("untouched")
def test_too_many_bytes_are_refused_at_once_or_while_they_come(running: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uploads, "LARGEST_REQUEST", 100_000)
    assert (send(running, [bytes(200_000)]).status_code) == 413
    head = b'--b\r\nContent-Disposition: form-data; name="files"; filename="a.mp4"\r\n\r\n'
    kind = {"Content-Type": "multipart/form-data; boundary=b"}

    def endless() -> Iterator[bytes]:
        yield head
        for _ in range(100):
            yield bytes(10_000)

    answer = httpx.post(f"{running.url}/gradio_api/upload", content=endless(), headers=kind, timeout=120)
    assert answer.status_code in (400, 413)
    assert "the limit for one request" in answer.text


@pytest.mark.usefixtures("untouched")
def test_an_upload_that_breaks_off_leaves_nothing(running: Running) -> None:
    before = files_in(folder_of(running))
    with begun_upload(running):
        wait_until(lambda: files_in(folder_of(running)) != before, "a half file")


@pytest.mark.usefixtures("untouched")
def test_an_upload_that_stands_still_is_ended(running: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uploads, "STANDSTILL_SECONDS", 0.2)
    with begun_upload(running) as connection:
        connection.settimeout(120)
        answer = b"".join(iter(lambda: connection.recv(4096), b""))  # up to its end: the connection is closed, too
    assert answer.startswith((b"HTTP/1.1 400", b"HTTP/1.1 413"))
    assert b"Nothing of the upload came" in answer


def test_a_lead_may_upload_many_files(running: Running) -> None:
    with running.studio.database.write() as session:
        lead = add_user(session, f"Uploading lead {secrets.token_hex(4)}", "lead")
        token = open_sign_in(session, lead.id).token
    answer = send(running, [b"one row"] * 5, cookies={"descore_session": token})
    assert answer.status_code == 200
    assert len(answer.json()) == 5


def test_a_file_is_sent_and_never_fetched(client: Client, tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "a.mp4", (9, 99, 199))
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.2)
        address = {"path": f"http://127.0.0.1:{server.getsockname()[1]}/a.mp4", "meta": {"_type": "gradio.FileData"}}
        with pytest.raises(AppError, match="not an address"):
            client.predict(address, handle_file(clip), "A square.", "quick", 8, api_name="/judge")
        with pytest.raises(TimeoutError):
            server.accept()


def test_a_bomb_is_refused_and_the_gallery_goes_on(client: Client, tmp_path: Path) -> None:
    bomb, clip = write_gif(tmp_path / "bomb.gif", 3000, 6000), make_clip(tmp_path / "a.mp4", (9, 99, 199))
    with pytest.raises(AppError, match=r"Video A can't be used: 6000 frames of 3000 x 3000 are 54\.0 billion pixels"):
        client.predict(handle_file(bomb), handle_file(clip), "A square.", "quick", 8, api_name="/judge")
    assert client.predict("blue", "quick", 8, api_name="/judge_bundled")["verdict"] in ("A", "B", "tie")


def test_uploads_without_an_account_are_counted_and_bounded(
    running: Running, client: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    a, b, c = (make_clip(tmp_path / f"{shade}.mp4", (shade, 7, 77)) for shade in (1, 120, 240))
    client.predict(handle_file(a), handle_file(b), "A square.", "quick", 8, api_name="/judge")
    with running.studio.database.read() as session:
        mine = session.scalars(select(UploadRow).order_by(UploadRow.id.desc()).limit(2)).all()
    assert {row.bytes for row in mine} == {a.stat().st_size, b.stat().st_size}
    clip_store = running.studio.clip_store
    monkeypatch.setattr(clip_store, "_quota", UploadQuota(each=c.stat().st_size // 2))
    videos = files_in(running.studio.database.home / "videos")
    with pytest.raises(AppError, match="no more room without an account"):
        client.predict(handle_file(a), handle_file(c), "A square.", "quick", 8, api_name="/judge")
    with pytest.raises(UploadQuotaError):
        clip_store.take_in(c, Lane("uploads", "192.0.2.9"), "192.0.2.9")
    assert files_in(running.studio.database.home / "videos") == videos
    assert clip_store.take_in(c).id, "people with an account have no such quota"


def test_an_upload_that_was_swept_meanwhile_is_called_so(running: Running) -> None:
    gone = str(folder_of(running) / "gone" / "a.mp4")
    api = JudgeApi(
        running.studio.serving,
        running.studio.database,
        running.studio.clip_store,
        (),
        JudgingAccess(running.studio.auth, "open"),
    )
    with pytest.raises(ValueError, match=r"Video A is not here any more: uploads wait 1 h"):
        api.take_in_pair(gone, gone, Visitor("tab", "192.0.2.1"))
    with pytest.raises(ValueError, match="Video A is missing"):
        api.take_in_pair(None, gone, Visitor("tab", "192.0.2.1"))


# ---- the parts ------------------------------------------------------------------------------------------------------


def test_bytes_are_counted_for_an_hour() -> None:
    now = [0.0]
    arrivals = Arrivals(each=100, all=150, clock=lambda: now[0])
    for _ in range(10):
        arrivals.add("a", 10)
    with pytest.raises(UploadRefusedError, match="within an hour"):
        arrivals.add("a", 1)
    arrivals.add("b", 50)
    with pytest.raises(UploadRefusedError, match="no room"):
        arrivals.add("c", 1)
    now[0] = uploads.WAIT_SECONDS + 1
    arrivals.add("a", 100)


def test_requests_of_one_origin_and_of_all_are_bounded() -> None:
    admission = Admission(each=1, all=2)
    with admission.of("a"), pytest.raises(TooManyError, match="earlier uploads"), admission.of("a"):
        pass
    with admission.of("a"), admission.of("b"), pytest.raises(TooManyError, match="busy"), admission.of("c"):
        pass
    with admission.of("a"):
        assert dict(admission._open) == {"a": 1}
    assert dict(admission._open) == {}


def test_only_what_is_old_is_swept(tmp_path: Path) -> None:
    for name in ("old/a.mp4", "new/a.mp4", "half"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("x")
    assert sweep(tmp_path, older_than=3600) == 0
    assert len(files_in(tmp_path)) == 3
    assert sweep(tmp_path, older_than=-60) == 3
    assert list(tmp_path.iterdir()) == []
    assert sweep(tmp_path / "nowhere", older_than=0) == 0


def test_the_folder_is_swept_when_the_app_starts(running: Running) -> None:
    """What a killed app has left is in the folder, and not in the list of files that Gradio deletes."""
    kept = folder_of(running) / "kept.mp4"
    kept.write_text("x")
    running.studio.housekeeper.tidy()
    assert kept.is_file()
    sweep_task = running.studio.housekeeper._tasks[0]
    assert sweep_task.args == (folder_of(running), uploads.WAIT_SECONDS)  # type: ignore[attr-defined]
    kept.unlink()


def test_housekeeping_begins_at_once_and_outlives_a_failing_task() -> None:
    done = threading.Event()
    keeper = Housekeeper([lambda: 1 / 0, done.set], every=3600)
    keeper.start()
    assert done.wait(60)
    keeper.close()
    done.clear()
    keeper.start()
    assert done.wait(60), "it begins again after its end"
    keeper.close()
