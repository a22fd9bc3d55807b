"""An app that has its judging done by servers: at the start, while they are down, when they come back, and at promotions."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest
from starlette.applications import Starlette
from starlette.testclient import TestClient

from app.clip_store import ClipStore
from app.serving.cached_judge import stream_answer
from app.serving.judge_servers import JudgeServers, ServerServing
from app.serving.judging_queue import Visitor
from app.serving.serving import ModelAsideError
from descore.checkpoints.folder import folder_fingerprint
from descore.errors import CheckpointError, EngineError
from storage import Database
from storage.pairs import Pair, add_pair
from storage.training.model_registry import Checkpoint, promotions, register_checkpoint
from tests.helpers.judging_server import RunningServer, judging_server
from tests.helpers.tiny import tiny_judge, tiny_video

TOKEN = "a-token-of-thirty-two-characters"
pytestmark = pytest.mark.slow
Start = Callable[..., RunningServer]


@pytest.fixture
def database(sqlite_database: Database) -> Database:
    return sqlite_database


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Checkpoints "tiny" and "second", on a disk that servers see too."""
    folder = tmp_path_factory.mktemp("checkpoints")
    first, second = tiny_judge(), tiny_judge()
    second.engine.manifest = second.manifest = replace(second.manifest, name="second")
    return first.save_pretrained(folder / "tiny"), second.save_pretrained(folder / "second")


@pytest.fixture
def start(folders: tuple[Path, Path]) -> Iterator[Start]:
    """Starts servers that end with the test."""
    with ExitStack() as stack:

        def start(port: int = 0, checkpoint: Path = folders[0]) -> RunningServer:
            return stack.enter_context(judging_server(str(checkpoint), token=TOKEN, port=port))

        yield start


def serving_of(database: Database, *servers: RunningServer | str) -> ServerServing:
    urls = [server if isinstance(server, str) else server.url for server in servers]
    return ServerServing(database, JudgeServers(urls, TOKEN))


def stop(server: RunningServer) -> int:
    """End a server; returns its port."""
    server.uvicorn.should_exit = server.uvicorn.force_exit = True
    server.thread.join()
    return int(server.url.rpartition(":")[2])


def registered(database: Database, folder: Path, name: str) -> Checkpoint:
    with database.write() as session:
        fingerprint = folder_fingerprint(folder)
        return register_checkpoint(session, name=name, location=str(folder), fingerprint=fingerprint)


def a_pair(database: Database, folder: Path) -> Pair:
    clip_store = ClipStore(database)
    a, b = (clip_store.take_in(tiny_video(folder / f"{number}.mp4", number)) for number in range(2))
    with database.write() as session:
        return add_pair(session, a, b, "A red square moves.", source="test")


def asked(serving: ServerServing, database: Database, pair: Pair, mode: str = "quick") -> str:
    clip_store, visitor = ClipStore(database), Visitor("a tab", "192.0.2.1")
    *_, answer = stream_answer(serving, database, clip_store, pair, mode, 8, threading.Event(), visitor)  # type: ignore[arg-type]
    return answer.status


def test_the_servers_checkpoint_answers_and_is_registered(database: Database, start: Start, tmp_path: Path) -> None:
    serving = serving_of(database, start(), start())
    assert (serving.now.name, serving.elsewhere) == ("tiny", True)
    with database.read() as session:
        (promotion,) = promotions(session)
    assert (promotion.action, promotion.checkpoint_id) == ("start", serving.checkpoint_id)
    pair = a_pair(database, tmp_path)
    assert "(server 127.0.0.1:" in asked(serving, database, pair)
    assert asked(serving, database, pair).startswith("from the store")
    serving.offload("a run trains")
    assert serving.now.model is not None, "a run on this machine takes nothing from the servers"


def test_a_server_that_is_down_is_named_and_comes_back_by_itself(database: Database, start: Start, tmp_path: Path) -> None:
    server = start()
    serving, pair = serving_of(database, server), a_pair(database, tmp_path)
    asked(serving, database, pair)
    port = stop(server)
    with pytest.raises(EngineError, match=f"127.0.0.1:{port} does not answer"):
        asked(serving, database, pair, "think")
    serving.look()
    assert f"127.0.0.1:{port} does not answer" in serving.now.aside
    with TestClient(Starlette(routes=serving.routes())) as client:
        assert f"127.0.0.1:{port} does not answer" in client.get("/serving").json()["aside"]
    assert asked(serving, database, pair).startswith("from the store"), "stored judgements still open"
    with pytest.raises(ModelAsideError, match="does not answer"):
        asked(serving, database, pair, "think")
    start(port)
    serving.look()
    assert serving.now.aside == ""
    assert "(server 127.0.0.1:" in asked(serving, database, pair, "think")


def test_one_of_two_that_is_down_is_named_while_the_other_judges(database: Database, start: Start, tmp_path: Path) -> None:
    first, second = start(), start()
    serving, pair = serving_of(database, first, second), a_pair(database, tmp_path)
    port = stop(first)
    serving.look()
    assert serving.now.aside == ""
    assert serving.notice().startswith(f"127.0.0.1:{port} does not answer")
    assert "judged in" in asked(serving, database, pair)
    start(port)
    serving.look()
    assert serving.notice() == ""


def test_an_app_starts_without_its_servers_and_finds_them_later(database: Database, start: Start) -> None:
    server = start()
    url = server.url
    known = serving_of(database, server).now
    port = stop(server)
    serving = serving_of(database, url)
    assert (serving.now.name, serving.now.fingerprint) == (known.name, known.fingerprint), "as they said last"
    assert "does not answer" in serving.now.aside
    start(port)
    serving.look()
    assert serving.now.model is not None
    (database.home / "judge_servers.json").unlink()
    stop(start())
    assert serving_of(database, "http://127.0.0.1:9").now.location == "bundled", "nothing is known of them"


def test_a_promotion_reaches_all_servers_and_is_kept_after_restarts(
    database: Database, start: Start, folders: tuple[Path, Path]
) -> None:
    first, second = start(), start()
    serving = serving_of(database, first, second)
    chosen = registered(database, folders[1], "second")
    assert serving.promote(database, chosen.id, "promote").name == "second"
    for server in (first, second):
        assert server.judging.checkpoints.now.judge.name == "second"
    port = stop(first)
    start(port)  # with the checkpoint that it is always started with
    serving.look()
    assert serving.notice() == "", "it was told what was promoted"
    assert serving.now.model is not None
    again = serving_of(database, second)
    assert (again.now.name, again.checkpoint_id) == ("second", chosen.id)


def test_a_promotion_that_a_server_can_not_follow_says_why_not(
    database: Database, start: Start, folders: tuple[Path, Path], tmp_path: Path
) -> None:
    server = start()
    serving = serving_of(database, server)
    broken = tmp_path / "broken"
    judge = tiny_judge()
    judge.engine.manifest = judge.manifest = replace(judge.manifest, name="broken")
    judge.save_pretrained(broken)
    chosen = registered(database, broken, "broken")
    (broken / "scoring.safetensors").write_bytes(b"damaged")
    with pytest.raises(CheckpointError, match=r"the checkpoint can't be served: 127\.0\.0\.1:\d+: ") as error:
        serving.promote(database, chosen.id, "promote")
    assert str(tmp_path) not in str(error.value)
    assert serving.now.name == server.judging.checkpoints.now.judge.name == "tiny"
    stop(server)
    with pytest.raises(CheckpointError, match="does not answer"):
        serving.promote(database, registered(database, folders[1], "second").id, "promote")
    assert serving.now.name == "tiny"


def test_addresses_are_checked_before_the_app_starts() -> None:
    with pytest.raises(EngineError, match="is no address"):
        JudgeServers(["gpu-box:8000"], None)
    assert len(JudgeServers(["http://a:1,http://b:2", "http://c:3"], None)) == 3
