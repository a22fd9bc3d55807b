"""Judging servers as an engine: several of them, one that is down, full, gone or changed, and what is said then."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from descore.engines import server_engine
from descore.engines.server_client import CheckpointChangedError, ServerDownError
from descore.engines.server_engine import ServerEngine, server_urls
from descore.errors import EngineError
from descore.judge import DeScore
from descore.judgement import Verdict
from descore.video import VideoMissingError, VideoTooLargeError
from tests.helpers.judging_server import RunningServer, judging_server
from tests.helpers.tiny import tiny_judge, tiny_video
from tests.helpers.waiting import wait_until

PROMPT = "A red circle bounces"
TOKEN = "a-token-of-thirty-two-characters"


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    folder = tmp_path_factory.mktemp("clips")
    return [str(tiny_video(folder / f"{number}.mp4", number)) for number in range(2)]


@contextmanager
def two_servers() -> Iterator[tuple[RunningServer, RunningServer, DeScore]]:
    with ExitStack() as stack:
        first, second = (stack.enter_context(judging_server(tiny_judge())) for _ in range(2))
        judge = DeScore.from_server([first.url, second.url])
        stack.callback(judge.close)
        yield first, second, judge


def port(server: RunningServer) -> int:
    return int(server.url.rpartition(":")[2])


def rows(server: RunningServer) -> float:
    labels = {"mode": "quick", "outcome": "judged"}
    return server.judging.metrics.registry.get_sample_value("descore_rows_total", labels) or 0.0


def test_addresses_are_repeated_or_between_commas() -> None:
    assert server_urls("http://a:1, http://b:2") == ["http://a:1", "http://b:2"]
    assert server_urls(["http://a:1", "http://b:2,http://a:1"]) == ["http://a:1", "http://b:2"]
    with pytest.raises(EngineError, match="no server is named"):
        server_urls(" , ")
    for url in ("gpu-box:8000", "ftp://gpu-box", "http://"):
        with pytest.raises(EngineError, match="is no address of a server"):
            ServerEngine(url)


def test_the_label_names_server_and_engine(clips: list[str]) -> None:
    with judging_server(tiny_judge()) as running:
        judge = DeScore.from_server(running.url)
        verdict = judge.judge(clips, PROMPT, "quick")
        assert verdict.engine == f"server 127.0.0.1:{port(running)}, transformers {verdict.engine.rpartition(' ')[2]}"
        with pytest.raises(EngineError, match="the weights are not in this process"):
            _ = judge.device
        judge.close()
    with two_servers() as (first, _, judge):
        assert judge.engine.label.startswith(f"server 127.0.0.1:{port(first)} and 1 more, transformers ")


def test_the_work_is_shared_and_one_that_is_down_is_left_out(clips: list[str]) -> None:
    with two_servers() as (first, second, judge):
        threads = [threading.Thread(target=judge.judge, args=(clips, f"{PROMPT} {n}", "quick")) for n in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert rows(first) + rows(second) == 12
        assert min(rows(first), rows(second)) > 0
        stop(first)
        before = rows(second)
        assert judge.judge(clips, "one is down", "quick").verdict
        assert rows(second) == before + 2
        engine = judge.engine
        assert isinstance(engine, ServerEngine)
        assert list(engine.look()) == [f"127.0.0.1:{port(first)}"]
        stop(second)
        with pytest.raises(ServerDownError) as error:
            judge.judge(clips, "both are down", "quick")
        for server in (first, second):
            assert f"127.0.0.1:{port(server)} does not answer" in str(error.value)


def stop(server: RunningServer) -> None:
    server.uvicorn.should_exit = server.uvicorn.force_exit = True
    server.thread.join()


def test_one_that_comes_back_is_used_again(clips: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_engine, "_DOWN_SECONDS", 0.0)
    with judging_server(tiny_judge()) as running:
        judge = DeScore.from_server(running.url)
        judge.judge(clips, PROMPT, "quick")
        stop(running)
        with pytest.raises(ServerDownError, match="does not answer"):
            judge.judge(clips, "it is down", "quick")
    with judging_server(tiny_judge(), port=port(running)):  # with an empty store of videos
        assert judge.judge(clips, "it is back", "quick").verdict
        judge.close()


def test_a_video_that_a_server_removed_is_sent_again(clips: list[str]) -> None:
    with judging_server(tiny_judge()) as running:
        judge = DeScore.from_server(running.url)
        judge.judge(clips, PROMPT, "quick")
        for path in running.judging.store.folder.iterdir():
            running.judging.store.remove(path.name)
        assert judge.judge(clips, "sent again", "quick").verdict
        assert len(list(running.judging.store.folder.iterdir())) == 2
        judge.close()


def test_a_server_that_is_full_is_asked_again_until_it_has_room(clips: list[str]) -> None:
    with judging_server(tiny_judge(), at_once=1, waiting=1) as running:
        judge, verdicts = DeScore.from_server(running.url), []

        def ask(number: int) -> None:
            verdicts.append(judge.judge(clips, f"{PROMPT} {number}"))

        threads = [threading.Thread(target=ask, args=(number,)) for number in range(5)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(verdicts) == 5
        refused = {"path": "/v1/judge", "status": "429"}
        assert running.judging.metrics.registry.get_sample_value("descore_requests_total", refused)
        judge.close()


def test_a_lost_connection_ends_a_judgement_with_the_server_s_name(clips: list[str]) -> None:
    with judging_server(tiny_judge(3000)) as running:
        judge = DeScore.from_server(running.url)
        stream = judge.stream(clips, PROMPT)
        next(stream)
        stopping = threading.Thread(target=stop, args=(running,))
        stopping.start()
        with pytest.raises(EngineError, match=f"127.0.0.1:{port(running)}"):
            list(stream)
        stopping.join()
        judge.close()


def test_leaving_a_stream_ends_the_work_on_the_server(clips: list[str]) -> None:
    with judging_server(tiny_judge(200)) as running:
        judge = DeScore.from_server(running.url)
        cancel = threading.Event()
        for event in judge.stream(clips, PROMPT, cancel=cancel):
            assert not isinstance(event, Verdict)
            cancel.set()
        wait_until(lambda: running.judging.queue.counts() == (0, 0), "the end of the work")
        judge.close()


def test_servers_of_different_checkpoints_are_not_mixed(clips: list[str]) -> None:
    other = tiny_judge()
    other.engine.manifest = other.manifest = replace(other.manifest, name="other")
    with judging_server(tiny_judge()) as first, judging_server(other) as second:
        judge = DeScore.from_server([first.url, second.url])
        engine = judge.engine
        assert isinstance(engine, ServerEngine)
        assert "serves other, another checkpoint" in engine.down[f"127.0.0.1:{port(second)}"]
        for number in range(3):
            judge.judge(clips, f"{PROMPT} {number}", "quick")
        assert rows(second) == 0
        with pytest.raises(EngineError, match="another checkpoint"):
            ServerEngine(first.url, fingerprint="0" * 64)
        first.judging.checkpoints.now.fingerprint = "changed"
        with pytest.raises((CheckpointChangedError, ServerDownError), match="another checkpoint"):
            judge.judge(clips, "it changed", "quick")
        judge.close()


def test_a_wrong_token_and_a_wrong_address_are_said(clips: list[str], tmp_path: Path) -> None:
    with judging_server(tiny_judge(), token=TOKEN) as running:
        for token in (None, "another-token-of-some-length"):
            with pytest.raises(EngineError, match="send the server's token"):
                DeScore.from_server(running.url, token)
        judge = DeScore.from_server(running.url, TOKEN)
        with pytest.raises(VideoMissingError):
            judge.judge([str(tmp_path / "nothing.mp4")], PROMPT)
        judge.engine.description["limits"]["file_bytes"] = 10  # type: ignore[attr-defined]
        with pytest.raises(VideoTooLargeError, match="the server takes 10"):
            judge.judge(clips, PROMPT)
        judge.close()
    with pytest.raises(ServerDownError, match=r"does not answer \(connection refused\)"):
        DeScore.from_server(running.url, TOKEN)
