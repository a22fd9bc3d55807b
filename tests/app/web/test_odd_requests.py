"""Odd ids and values in every address and endpoint: one sentence, no traceback, nothing of the server's folders."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.testclient import TestClient

from app.web.plain_errors import refuse_plainly
from storage import StorageError
from tests.helpers.accounts import signed_in_client
from tests.helpers.paths import ROOT
from tests.helpers.studios import Running

TOKEN, VOTER = "0123456789abcdef", "0123456789abcdef" * 2
ODD: list[Any] = ["..", "../../descore.db", "a\x00b", "\u202e", "x" * 5000, "' OR 1=1 --", -1, 0, 10**30, 1e300, True, None]
NESTED: list[Any] = [[], [[["red"]]], {"id": "red"}, ["red", "blue"]]
PATHS = [
    "/clips/{}",
    "/clips/{}/poster",
    "/invite/{}",
    "/gradio_api/file={}",
    "/api/label/history?campaign={}",
    "/scripts/{}",
]


def check(running: Running, text: str) -> None:
    """Nothing of the server's insides is in an answer."""
    for secret in ("Traceback", str(running.studio.database.home), str(ROOT), "sqlalchemy", "sqlite3", ".venv"):
        assert secret not in text


def called(running: Running, endpoint: str, data: list[Any]) -> str:
    """Call an endpoint as a program would that sends what it likes; the answer as it comes over the wire."""
    body = json.dumps({"data": data})
    begun = httpx.post(
        f"{running.url}/gradio_api/call/{endpoint}", content=body, headers={"Content-Type": "application/json"}
    )
    if begun.status_code != 200:
        assert begun.status_code < 500, begun.text
        return begun.text
    answer = httpx.get(f"{running.url}/gradio_api/call/{endpoint}/{begun.json()['event_id']}", timeout=60)
    return answer.text


@pytest.mark.parametrize("value", [*ODD, *NESTED], ids=repr)
def test_odd_bundled_ids_modes_and_votes_get_a_sentence(running: Running, value: Any) -> None:
    calls = {
        "judge_bundled": [[value, "quick", 8], ["red", value, 8]],
        "vote": [[value, "A", TOKEN, VOTER, ""], [1, value, TOKEN, VOTER, ""], [1, "A", value, VOTER, ""]],
    }
    for endpoint, tried in calls.items():
        for data in tried:
            if data[0] is True or (endpoint == "vote" and data[2] != TOKEN and isinstance(value, str)):
                continue  # JSON's true is Python's 1, and Gradio may hand it on as that; a token is any text
            answer = called(running, endpoint, data)
            check(running, answer)
            assert "event: complete" not in answer, (endpoint, data)


@pytest.mark.parametrize("k", ["many", "8", None, [], 1e999, -1e999, float("nan"), 2.5, 10**30, 0, {"k": 8}], ids=repr)
def test_an_odd_number_of_thoughts_gets_a_sentence(running: Running, k: Any) -> None:
    answer = called(running, "judge_bundled", ["red", "quick", k])
    check(running, answer)
    assert "event: complete" not in answer


@pytest.mark.parametrize("path", PATHS)
def test_odd_addresses_get_a_plain_answer(running: Running, path: str) -> None:
    client = signed_in_client(running, "Odd")
    home = running.studio.database.home
    for value in ("..", "%2e%2e%2fdescore.db", "%00", "%ff%fe", "x" * 3000, "-1", "1" * 40, "%F0%9F%98%80", "a%0d%0ab"):
        answer = client.get(path.format(value))
        assert answer.status_code < 500, (path, value, answer.text)
        check(running, answer.text)
    stolen = client.get(path.format(f"{home}/descore.db"))
    assert stolen.status_code >= 400
    assert b"SQLite format" not in stolen.content


def test_a_route_that_fails_says_no_more_than_that() -> None:
    def fail(request: Request) -> Response:
        raise {"inside": RuntimeError("/secret/path"), "store": StorageError("The disk is full.")}[
            request.path_params["how"]
        ]

    handlers: dict[Any, Any] = {StorageError: refuse_plainly, Exception: refuse_plainly}
    app = Starlette(routes=[Route("/{how}", fail)], exception_handlers=handlers)
    client = TestClient(app, raise_server_exceptions=False)
    inside, store = client.get("/inside"), client.get("/store")
    assert (inside.status_code, "secret" in inside.text) == (500, False)
    assert (store.status_code, store.text) == (503, "The disk is full.")
    assert "content-security-policy" in inside.headers


def test_a_store_that_is_lost_is_said_on_every_page_and_nothing_is_acknowledged(running: Running) -> None:
    path = running.studio.database.home / "descore.db"
    aside = Path(f"{path}.aside")
    path.rename(aside)
    try:
        answer = called(running, "vote", [1, "A", TOKEN, VOTER, ""])
        assert "event: complete" not in answer
        assert "moved, deleted or replaced" in answer
        check(running, answer)
        signed_in = httpx.post(f"{running.url}/sign-in", data={"name": "x", "password": "y"})
        assert signed_in.status_code == 503
        assert "moved, deleted or replaced" in signed_in.text
        check(running, signed_in.text)
    finally:
        aside.rename(path)
    assert "event: complete" in called(running, "vote", [1, "A", TOKEN, VOTER, ""])
