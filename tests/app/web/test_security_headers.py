"""The headers of every answer, and the addresses that are closed."""

from __future__ import annotations

import os

import httpx
import pytest
from gradio_client import Client
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from starlette.testclient import TestClient

from app.web.deployment import render_in_browsers
from app.web.security_headers import SecurityHeaders
from tests.helpers.accounts import signed_in_client
from tests.helpers.studios import Running

ANSWERS = [
    "/",
    "/label",
    "/lead",
    "/train",
    "/analyse",
    "/sign-in",
    "/session",
    "/serving",
    "/config",
    "/theme.css",
    "/clips/unknown",
    "/no/such/page",
    "/gradio_api/info",
    "/gradio_api/file=/etc/passwd",
    "/api/label/campaigns",
    "/docs",
]
CLOSED = [
    "/docs",
    "/redoc",
    "/openapi.json",
    "/gradio_api/openapi.json",
    "/monitoring",
    "/monitoring/",
    "/monitoring/summary",
    "/monitoring/some-key",
    "/gradio_api/dev/reload",
    "/gradio_api/vibe-code",
    "/gradio_api/vibe-code/",
    "/gradio_api/runs",
    "/gradio_api/run-history/buckets",
    "/gradio_api/deep_link",
    "/gradio_api/token",
    "/gradio_api/proxy=https://example.org/x",
    "/gradio_api/profiling/traces",
]


@pytest.mark.parametrize("path", ANSWERS)
def test_every_answer_has_the_headers(running: Running, path: str) -> None:
    answer = httpx.get(running.url + path)
    policy = dict(rule.split(" ", 1) for rule in answer.headers["content-security-policy"].split("; "))
    assert policy["frame-ancestors"] == "'self'"
    assert policy["default-src"] in ("'self'", "'none'")
    assert "*" not in answer.headers["content-security-policy"]
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["referrer-policy"] == "same-origin"


def test_clips_have_them_too(running: Running) -> None:
    video = running.studio.clip_store.take_in(next((running.studio.database.home / "videos").glob("*/*.mp4")))
    lead = signed_in_client(running, "Lena", "lead")
    answer = lead.get(f"/clips/{video.public_id}", headers={"Range": "bytes=0-9"})
    assert answer.status_code == 206
    assert "object-src 'none'" in answer.headers["content-security-policy"]


def test_the_hub_may_frame_a_space_and_nobody_else(running: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPACE_ID", "team/studio")
    for path in ("/", "/sign-in"):
        policy = httpx.get(running.url + path).headers["content-security-policy"]
        ancestors = policy.split("frame-ancestors ")[1].split(";")[0].split()
        assert ancestors[0] == "'self'"
        assert {"https://huggingface.co", "https://*.hf.space"} <= set(ancestors)
        assert all(one.endswith(("huggingface.co", "hf.space")) for one in ancestors[1:])


@pytest.mark.parametrize("path", CLOSED)
def test_tools_of_developers_are_closed(running: Running, path: str) -> None:
    for method in ("GET", "POST"):
        answer = httpx.request(method, running.url + path)
        assert (answer.status_code, answer.text) == (404, "Not found")


def test_what_the_pages_and_programs_need_is_open(running: Running, client: Client) -> None:
    for path in ("/config", "/gradio_api/info", "/gradio_api/startup-events"):
        assert httpx.get(running.url + path).status_code == 200
    assert {"/judge_bundled", "/gallery", "/vote", "/judge"} <= set(client.view_api(return_format="dict")["named_endpoints"])


@pytest.mark.parametrize("api_docs", [True, False])
def test_the_description_of_the_addresses_is_open_when_asked_for(api_docs: bool) -> None:
    routes = [Route("/docs", lambda _request: PlainTextResponse("described"))]
    app = Starlette(routes=routes, middleware=[Middleware(SecurityHeaders, api_docs=api_docs)])
    answer = TestClient(app).get("/docs")
    assert answer.status_code == (200 if api_docs else 404)
    assert "cdn.jsdelivr.net" in answer.headers["content-security-policy"]


def test_no_server_answers_before_the_app(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRADIO_SSR_MODE", "true")
    render_in_browsers()
    assert os.environ["GRADIO_SSR_MODE"] == "false"
