"""Who may ask a server, and how much: tokens, names, sites, sizes; and what refusals tell."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from descore.errors import CheckpointError, EngineError, RewardError
from descore.server.config import ServerConfig, is_loopback, read_token
from descore.server.errors import ServerError, server_error
from descore.video import VideoTruncatedError
from tests.helpers.judging_server import judging_server
from tests.helpers.tiny import tiny_judge

TOKEN = "a-token-of-thirty-two-characters"


@pytest.fixture(scope="module")
def guarded() -> Iterator[httpx.Client]:
    with judging_server(tiny_judge(), token=TOKEN, body_bytes=2000) as running, httpx.Client(base_url=running.url) as client:
        yield client


def kind(answer: httpx.Response) -> str:
    return str(answer.json()["error"]["kind"])


@pytest.mark.parametrize("header", [None, "Bearer wrong", "Bearer", f"Basic {TOKEN}", f"Bearer {TOKEN}x", "Bearer \xe9"])
def test_without_the_token_a_server_answers_nothing(guarded: httpx.Client, header: str | None) -> None:
    headers = {} if header is None else {"Authorization": header.encode("latin-1")}
    for method, path in (
        ("GET", "/v1/checkpoint"),
        ("POST", "/v1/checkpoint"),
        ("POST", "/v1/judge"),
        ("POST", "/v1/score"),
        ("POST", "/v1/videos"),
        ("GET", "/v1/videos/" + "0" * 64),
        ("GET", "/metrics"),
        ("GET", "/openapi.json"),
        ("GET", "/nothing"),
    ):
        answer = guarded.request(method, path, headers=headers)
        assert (answer.status_code, kind(answer)) == (401, "unauthorized")
        assert answer.headers["WWW-Authenticate"] == "Bearer"
    assert guarded.get("/health").json() == {"status": "ok"}


def test_with_the_token_it_answers(guarded: httpx.Client) -> None:
    for scheme in ("Bearer", "bearer"):
        assert guarded.get("/v1/checkpoint", headers={"Authorization": f"{scheme} {TOKEN}"}).json()["name"] == "tiny"


def test_pages_of_other_sites_may_not_ask_a_server(client: httpx.Client) -> None:
    for origin in ("http://evil.example", "null"):
        answer = client.post("/v1/videos", content=b"x", headers={"Origin": origin, "Content-Type": "text/plain"})
        assert (answer.status_code, kind(answer)) == (403, "forbidden")


def test_another_name_of_this_machine_opens_no_server_without_a_token(client: httpx.Client) -> None:
    for host in ("evil.example", "evil.example:8000", "192.0.2.7"):
        answer = client.get("/v1/checkpoint", headers={"Host": host})
        assert (answer.status_code, kind(answer)) == (403, "forbidden")
    for host in ("localhost:1", "127.0.0.1", "[::1]:8000"):
        assert client.get("/v1/checkpoint", headers={"Host": host}).status_code == 200


def test_a_server_that_others_can_reach_does_not_start_without_a_token() -> None:
    for host in ("0.0.0.0", "::", "gpu-box", "192.0.2.7"):
        with pytest.raises(EngineError, match=r"--token-file FILE"):
            ServerConfig(host=host)
        assert ServerConfig(host=host, token=TOKEN).host == host
    assert all(map(is_loopback, ("127.0.0.1", "127.1.2.3", "::1", "[::1]", "localhost")))


def test_a_token_file_is_read_or_refused(tmp_path: Path) -> None:
    good = tmp_path / "good"
    good.write_text(f"{TOKEN}\nanything below\n", "utf-8")
    assert read_token(good) == TOKEN
    assert read_token(None) is None
    for name, text in {"empty": "", "short": "abc", "spaces": "two words of some length", "odd": "é" * 20}.items():
        (tmp_path / name).write_text(text, "utf-8")
        with pytest.raises(EngineError, match="is no token"):
            read_token(tmp_path / name)
    with pytest.raises(EngineError, match="can't be read"):
        read_token(tmp_path / "nothing")


def test_a_request_larger_than_the_limit_is_refused_before_it_is_read(guarded: httpx.Client) -> None:
    headers = {"Authorization": f"Bearer {TOKEN}", "Content-Type": "application/json"}
    text = b'{"rows": [' + b" " * 3000
    for content in (text, iter([text[:1500], text[1500:]])):  # with its length, and in pieces without
        answer = guarded.post("/v1/score", content=content, headers=headers)
        assert (answer.status_code, kind(answer)) == (413, "too_large")


def test_odd_requests_get_one_sentence(client: httpx.Client) -> None:
    for method, path, body in (
        ("GET", "/nothing", None),
        ("DELETE", "/v1/judge", None),
        ("POST", "/v1/judge", b"{"),
        ("POST", "/v1/judge", b'{"videos": [], "prompt": "x"}'),
        ("POST", "/v1/judge", b'{"videos": ["../../etc/passwd"], "prompt": "x"}'),
        ("POST", "/v1/judge", b'{"videos": ["' + b"0" * 64 + b'"], "prompt": "x", "other": 1}'),
        ("POST", "/v1/judge", b'{"videos": ["' + b"0" * 64 + b'"], "prompt": ["x", "y"]}'),
        ("GET", "/v1/videos/..%2f..%2fetc", None),
    ):
        answer = client.request(method, path, content=body, headers={"Content-Type": "application/json"})
        assert 400 <= answer.status_code < 500, path
        error = answer.json()["error"]
        assert set(error) >= {"kind", "message"}
        assert "Traceback" not in error["message"]
        assert "\n" not in error["message"]


def test_errors_tell_neither_paths_nor_what_the_server_did_not_expect() -> None:
    secret = "/srv/lab/secret folder"
    for error in (
        CheckpointError("/srv/lab/secret/descore-8b is no checkpoint"),
        EngineError("can't open /srv/lab/secret/descore-8b (Permission denied)"),
        RewardError("the reward of '/srv/lab/secret/descore-8b' is nan"),
        VideoTruncatedError(f"{secret}/a.mp4", "its last 3 frames are missing"),
        KeyError("/srv/lab/secret/descore-8b"),
    ):
        said = str(server_error(error).body())
        assert "/srv" not in said
        assert "secret" not in said
    assert server_error(KeyError("x")).kind == "internal"
    assert "descore-8b is no checkpoint" in server_error(CheckpointError("/srv/lab/descore-8b is no checkpoint")).message
    assert server_error(ServerError(429, "busy", "later")).status == 429


def test_the_api_is_described_with_examples(client: httpx.Client) -> None:
    described = client.get("/openapi.json").json()
    assert set(described["paths"]) == {
        "/v1/videos", "/v1/videos/{video}", "/v1/judge", "/v1/score", "/v1/checkpoint", "/health", "/metrics",
    }  # fmt: skip
    for name in ("JudgeRequest", "ScoreRequest", "ScoreAnswer", "VideoAnswer", "SwapRequest", "ErrorAnswer"):
        assert described["components"]["schemas"][name]["examples"]
    for path in ("/docs", "/redoc"):
        assert client.get(path).status_code == 404
