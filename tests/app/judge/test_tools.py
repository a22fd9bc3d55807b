"""The endpoints and the tools for MCP clients: the exact set, the same limits, and nothing fetched or left running."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError
from mcp import ClientSession
from mcp.client.streamable_http import streamable_http_client
from mcp.types import CallToolResult
from starlette.responses import PlainTextResponse

from app.judge.api import JudgeApi
from app.judge.tools import TOOLS, ToolDoor
from app.serving.answer import Answer
from app.serving.judging_queue import MOST_OF_NETWORK
from app.web.auth import COOKIE
from tests.app.judge.test_leaving import SECONDS, Held
from tests.helpers.accounts import cookie_of
from tests.helpers.studios import LONG_THOUGHT, PROMPTS, Running, make_clip, running_studio, talkative_checkpoint
from tests.helpers.waiting import wait_until

ENDPOINTS = {"/gallery", "/judge_bundled", "/judge", "/score", "/compare", "/vote"}
PROMPT = "A yellow square moves right."


def in_session(app: Running, work: Callable[[ClientSession], Any], **headers: str) -> Any:
    """Do something as an MCP client."""

    async def connected() -> Any:
        async with (
            httpx.AsyncClient(headers=headers, timeout=SECONDS, follow_redirects=True) as http,
            streamable_http_client(f"{app.url}/gradio_api/mcp/", http_client=http) as (read, write, _),
            ClientSession(read, write) as session,
        ):
            await session.initialize()
            return await work(session)

    return asyncio.run(connected())


def call(app: Running, tool: str, arguments: dict[str, Any], **headers: str) -> CallToolResult:
    result: CallToolResult = in_session(app, lambda session: session.call_tool(tool, arguments), **headers)
    return result


def error_of(result: CallToolResult) -> str:
    assert result.isError
    return str(result.content[0].text)  # type: ignore[union-attr]


def uploaded(app: Running, *paths: Path) -> list[str]:
    files = [("files", (path.name, path.read_bytes())) for path in paths]
    names: list[str] = httpx.post(f"{app.url}/gradio_api/upload", files=files).json()
    return names


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """An app of these tests' own: others ask whether a bundled pair was judged before."""
    with running_studio(tmp_path_factory.mktemp("tools")) as app:
        yield app


@pytest.fixture(scope="module")
def client(running: Running) -> Client:
    return Client(running.url, verbose=False)


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("clips")
    return make_clip(folder / "a.mp4", (250, 240, 40)), make_clip(folder / "b.mp4", (40, 240, 240))


# ---- what there is --------------------------------------------------------------------------------------------------


def test_no_more_than_judging_and_voting_has_a_name(client: Client) -> None:
    described = client.view_api(return_format="dict")
    assert set(described["named_endpoints"]) == ENDPOINTS
    assert not described["unnamed_endpoints"]
    for name, endpoint in described["named_endpoints"].items():
        assert endpoint["description"], name
        assert all(parameter["type"] for parameter in endpoint["parameters"]), name
        assert all(value["type"] for value in endpoint["returns"]), name


def test_no_more_than_judging_is_a_tool(running: Running) -> None:
    tools = {tool.name: tool for tool in in_session(running, lambda session: session.list_tools()).tools}
    assert set(tools) == set(TOOLS) == {"gallery", "judge_bundled", "judge", "score", "compare"}
    assert all(tool.description for tool in tools.values())
    described = tools["compare"].inputSchema
    assert set(described["required"]) == {"video_a", "video_b", "prompt"}
    assert described["properties"]["mode"]["enum"] == ["think", "quick", "k"]
    assert all(field["description"] for field in described["properties"].values())
    schema = httpx.get(f"{running.url}/gradio_api/mcp/schema").json()
    assert {tool["name"] for tool in schema} == set(TOOLS)
    for kind in ("list_resources", "list_resource_templates", "list_prompts"):
        listed = in_session(running, lambda session, kind=kind: getattr(session, kind)())
        assert not any(value for value in listed.model_dump().values())


@pytest.mark.parametrize("tool", ["vote", "save_vote", "promote", "_judge", "__init__", ""])
def test_other_names_are_no_tools(running: Running, tool: str) -> None:
    assert "There is no tool" in error_of(call(running, tool, {}))


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "", 405),
        ("DELETE", "", 405),
        ("GET", "/sse", 404),
        ("POST", "/messages/", 404),
        ("POST", "/http", 404),
        ("GET", "/anything", 404),
        ("POST", "/schema", 405),
    ],
)
def test_other_ways_into_the_tools_are_closed(running: Running, method: str, path: str, status: int) -> None:
    answer = httpx.request(method, f"{running.url}/gradio_api/mcp{path}", headers={"Accept": "text/event-stream"})
    assert answer.status_code == status
    assert "content-security-policy" in answer.headers


# ---- what they answer -----------------------------------------------------------------------------------------------


def test_a_comparison_is_the_judgement_without_its_texts(client: Client, clips: tuple[Path, Path]) -> None:
    files = [handle_file(clip) for clip in clips]
    compared = client.predict(*files, PROMPT, api_name="/compare")
    judged = client.predict(*files, PROMPT, api_name="/judge")
    assert judged["from_store"]
    assert compared["rewards"] == [video["reward"] for video in judged["videos"]]
    for name in ("checkpoint", "mode", "prompt", "pair", "verdict", "p_first_preferred"):
        assert compared[name] == judged[name]
    assert "thought" not in json.dumps(compared)


def test_a_video_alone_has_the_score_that_it_has_in_a_pair(client: Client, clips: tuple[Path, Path]) -> None:
    scores = [client.predict(handle_file(clip), PROMPT, "quick", api_name="/score") for clip in clips]
    judged = client.predict(*[handle_file(clip) for clip in clips], PROMPT, "quick", api_name="/judge")
    assert judged["from_store"], "both videos were judged before, each alone"
    for score, video in zip(scores, judged["videos"], strict=True):
        assert {name: score[name] for name in video} == video
    again = client.predict(video=handle_file(clips[0]), prompt=PROMPT, mode="quick", api_name="/score")
    assert again == scores[0] | {"from_store": True}


def test_a_tool_answers_as_its_endpoint(running: Running, client: Client, clips: tuple[Path, Path]) -> None:
    a, b = uploaded(running, *clips)
    for name in (a, f"{running.url}/gradio_api/file={a}", f"https://elsewhere.example/gradio_api/file={a}"):
        result = call(running, "judge", {"video_a": name, "video_b": b, "prompt": PROMPT, "mode": "quick"})
        assert not result.isError, result.content
        assert result.structuredContent == json.loads(result.content[0].text)  # type: ignore[union-attr]
    files = [handle_file(clip) for clip in clips]
    assert result.structuredContent == client.predict(*files, PROMPT, "quick", api_name="/judge")
    bundled = call(running, "judge_bundled", {"pair": "red", "mode": "quick"}).structuredContent
    assert bundled is not None
    assert bundled["prompt"] == PROMPTS["red"]
    listed = call(running, "gallery", {}).structuredContent
    assert listed == {"result": client.predict(api_name="/gallery")}


# ---- what they refuse -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("wrapped", [False, True], ids=["tool", "endpoint"])
def test_only_uploaded_files_are_read_and_nothing_is_fetched(
    running: Running, client: Client, tmp_path: Path, wrapped: bool
) -> None:
    clip = make_clip(tmp_path / "outside.mp4", (3, 3, 200))
    folder = running.studio.database.home
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.2)
        host = f"http://127.0.0.1:{server.getsockname()[1]}"
        names = [
            str(clip),
            f"{host}/a.mp4",
            f"{host}/gradio_api/file={clip}",
            f"{running.url}/gradio_api/file={folder}/uploads/../descore.db",
            "file:///etc/passwd",
            "data:video/mp4;base64,AAAA",
            "",
            ".",
            "a\0b",
            "x" * 100_000,
        ]
        for name in names:
            if wrapped:  # without Gradio's mark for files, which would have it look at the path first
                with pytest.raises(AppError, match="no uploaded file"):
                    client.predict({"path": name}, PROMPT, "quick", 8, api_name="/score")
            else:
                said = error_of(call(running, "score", {"video": name, "prompt": PROMPT, "mode": "quick"}))
                assert said.startswith("This is no uploaded file.")
        with pytest.raises(TimeoutError):
            server.accept()


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({"pair": "nowhere"}, "There is no bundled pair"),
        ({"pair": "red", "mode": "loud"}, "'loud' is not one of"),
        ({"pair": "red", "k": 99}, "whole number from 2 to 16"),
        ({"pair": 7}, "is not of type 'string'"),
        ({}, "'pair' is a required property"),
        ({"pair": "red", "request": "mine"}, "takes no 'request'"),
        ({"pair": "red", "cancel": None}, "takes no 'cancel'"),
    ],
)
def test_odd_arguments_of_a_tool_get_a_sentence(running: Running, arguments: dict[str, Any], expected: str) -> None:
    said = error_of(call(running, "judge_bundled", arguments))
    assert expected in said
    assert "Traceback" not in said


def test_the_limits_of_the_pages_hold_for_tools(running: Running, clips: tuple[Path, Path]) -> None:
    a, b = uploaded(running, *clips)
    for prompt, expected in (("x" * 5000, "at most 4,000"), ("<|im_end|>", "control token"), ("", "prompt")):
        said = error_of(call(running, "compare", {"video_a": a, "video_b": b, "prompt": prompt, "mode": "quick"}))
        assert expected in said


def test_without_an_account_no_tool_judges_where_a_lab_asks_for_one(tmp_path: Path) -> None:
    with running_studio(tmp_path, access="sign-in") as lab:
        refused = error_of(call(lab, "judge_bundled", {"pair": "red", "mode": "quick"}))
        assert refused == "Sign in to judge: this app answers people with an account only."
        assert refused in error_of(call(lab, "score", {"video": "x", "prompt": PROMPT}))
        ada = {"Cookie": f"{COOKIE}={cookie_of(lab, 'Ada')}"}
        assert not call(lab, "judge_bundled", {"pair": "red", "mode": "quick"}, **ada).isError
        assert refused in error_of(call(lab, "judge_bundled", {"pair": "red"}, Cookie=f"{COOKIE}=made-up"))


def test_pages_of_other_sites_reach_no_tool(running: Running) -> None:
    for headers in ({"Origin": "https://elsewhere.example"}, {"Sec-Fetch-Site": "cross-site"}):
        answer = httpx.post(f"{running.url}/gradio_api/mcp/", json={}, headers=headers)
        assert (answer.status_code, answer.text) == (403, "This request came from another site and was refused.")


def test_one_network_has_a_few_calls_open_and_others_get_in(running: Running) -> None:
    go_on = asyncio.Event()

    async def slow(scope: Any, receive: Any, send: Any) -> None:
        await go_on.wait()
        await PlainTextResponse("answered")(scope, receive, send)

    async def statuses() -> list[int]:
        door = ToolDoor(slow, running.studio.blocks, running.studio.endpoints, running.studio.auth)

        async def post(address: str) -> httpx.Response:
            transport = httpx.ASGITransport(door, client=(address, 1))
            async with httpx.AsyncClient(transport=transport, base_url="http://app") as client:
                return await client.post("/gradio_api/mcp/")

        open_calls = [asyncio.create_task(post("192.0.2.1")) for _ in range(MOST_OF_NETWORK)]
        await asyncio.sleep(0)  # each begins
        while sum(door._calls._open.values()) < MOST_OF_NETWORK:
            await asyncio.sleep(0)
        refused = await post("192.0.2.1")
        assert refused.text == "Too many of your calls are open. Wait for one to end."
        other = asyncio.create_task(post("198.51.100.1"))
        go_on.set()
        return [refused.status_code, *(answer.status_code for answer in await asyncio.gather(other, *open_calls))]

    assert asyncio.run(statuses()) == [429, *[200] * (MOST_OF_NETWORK + 1)]


# ---- a client that leaves -------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def talkative(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    folder = tmp_path_factory.mktemp("leaving")
    with running_studio(folder, talkative_checkpoint(folder / "checkpoint", thought_tokens=LONG_THOUGHT)) as app:
        yield app


@pytest.mark.slow
def test_the_thought_of_a_tool_ends_when_its_client_leaves(talkative: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    judge = talkative.studio.serving.now.require_model()
    held = Held(judge.model._append_tokens, rest_in=3)
    monkeypatch.setattr(judge.model, "_append_tokens", held)
    message = {
        "jsonrpc": "2.0",
        "id": 1,
        "method": "tools/call",
        "params": {"name": "judge_bundled", "arguments": {"pair": "red"}},
    }
    headers = {"Accept": "application/json, text/event-stream"}
    signals: list[threading.Event] = []
    answers = JudgeApi.answers

    def noted(api: JudgeApi, subject: Any, mode: Any, k: int, cancel: threading.Event, visitor: Any) -> Iterator[Answer]:
        signals.append(cancel)
        return answers(api, subject, mode, k, cancel, visitor)

    monkeypatch.setattr(JudgeApi, "answers", noted)
    with httpx.stream("POST", f"{talkative.url}/gradio_api/mcp/", json=message, headers=headers, timeout=SECONDS) as answer:
        assert answer.status_code == 200
        assert held.reached.wait(SECONDS)
        assert not signals[0].is_set()
    wait_until(signals[0].is_set, "the server has noticed that the client left")
    held.go_on.set()
    wait_until(lambda: talkative.studio.serving.queue.counts() == (0, 0), "the work has ended")
    assert held.calls == 3
