"""Judging servers that go down and come back, as the Judge page shows it: each is named, and the app goes on."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

from playwright.sync_api import Browser, Page, expect

from app.serving.judge_servers import JudgeServers
from tests.browser.conftest import Watched, open_page, watch
from tests.helpers.judging_server import RunningServer, judging_server
from tests.helpers.studios import running_studio, talkative_checkpoint

TOKEN = "a-token-of-thirty-two-characters"


def stop(server: RunningServer) -> int:
    """End a server; returns its port."""
    server.uvicorn.should_exit = server.uvicorn.force_exit = True
    server.thread.join()
    return int(server.url.rpartition(":")[2])


def judge(page: Page, prompt: str) -> None:
    """Ask for a judgement that nobody has asked for, and wait for it."""
    page.fill("#prompt textarea", prompt)
    page.get_by_role("radio", name="Quick, no thought").check()
    page.click("#judge")
    expect(page.locator(".verdict")).to_have_attribute("data-phase", "done")


def test_a_server_that_goes_down_is_named_until_it_is_back(browser: Browser, tmp_path: Path) -> None:
    checkpoint = talkative_checkpoint(tmp_path / "checkpoint")
    with ExitStack() as stack:

        def start(port: int = 0) -> RunningServer:
            return stack.enter_context(judging_server(str(checkpoint), token=TOKEN, port=port))

        first, second = start(), start()
        app = stack.enter_context(running_studio(tmp_path, servers=JudgeServers([first.url, second.url], TOKEN)))
        context = browser.new_context(viewport={"width": 1360, "height": 900})
        stack.callback(context.close)
        watched = Watched(context.new_page())
        watch(watched, app.url)
        page = watched.page
        open_page(page, app.url)
        notice, served = page.locator(".notice").first, page.locator(".served").first
        expect(notice).to_be_hidden()
        judge(page, "A red square, with both servers.")

        port = stop(first)
        expect(notice).to_contain_text(f"127.0.0.1:{port} does not answer")
        expect(notice).to_be_visible()
        judge(page, "A red square, with one server.")

        other = stop(second)
        expect(served).to_contain_text(f"127.0.0.1:{other} does not answer")
        expect(notice).to_be_hidden()
        page.fill("#prompt textarea", "A red square, with no server.")
        page.click("#judge")
        expect(page.locator("#verdict")).to_contain_text("does not answer")

        start(port)
        expect(served).not_to_contain_text("does not answer")
        expect(notice).to_contain_text(f"127.0.0.1:{other} does not answer")
        judge(page, "A red square, with the first one again.")

        start(other)
        expect(notice).to_be_hidden()
        expect(notice).to_be_empty()
        assert watched.elsewhere == []
        assert not [fault for fault in watched.faults if "Error" in fault]
