"""Fixtures of the browser tests: a running app, and the system's Chromium, which plays real H.264."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

from tests.helpers.chromium import find
from tests.helpers.studios import LONG_THOUGHT, Running, running_studio, talkative_checkpoint

QUIET = [
    "--no-sandbox",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    "--mute-audio",
]

# Counts how far what stands on a page was moved by what came later, from the first moment on.
_COUNT_SHIFTS = """(() => {
  window.shifted = 0;
  new PerformanceObserver((list) => {
    list.getEntries().forEach((entry) => { if (!entry.hadRecentInput) window.shifted += entry.value; });
  }).observe({type: "layout-shift", buffered: true});
})()"""
SHIFTED = "() => window.shifted"

PATIENCE = 180_000  # milliseconds, for what takes a second on a machine of one's own: machines are shared


@dataclass
class Watched:
    """A page, with what it asked of other machines and what went wrong in it."""

    page: Page
    elsewhere: list[str] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)


@pytest.fixture(scope="session")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """One app for all tests of this folder."""
    folder = tmp_path_factory.mktemp("studio")
    checkpoint = talkative_checkpoint(folder / "checkpoint", thought_tokens=LONG_THOUGHT)
    with running_studio(folder, checkpoint) as app:
        yield app


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """A Chromium that plays H.264."""
    path = find()
    if path is None:
        pytest.fail("browser tests need Chromium: run `python -m tests.helpers.chromium`, which installs one")
    expect.set_options(timeout=PATIENCE)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=QUIET)
        yield browser
        browser.close()


@pytest.fixture
def watched(browser: Browser, running: Running) -> Iterator[Watched]:
    """The Judge page, loaded with its first pair, in a fresh profile. Faults and foreign requests fail the test."""
    context = browser.new_context(viewport={"width": 1360, "height": 900})
    watched = Watched(context.new_page())
    watch(watched, running.url)
    open_page(watched.page, running.url)
    yield watched
    context.close()
    assert watched.elsewhere == [], "the page asked other machines"
    assert watched.faults == [], "the browser's console reports errors"


def watch(watched: Watched, url: str) -> None:
    """Record console errors, script errors, requests that leave this machine, and in the page what moves."""
    page = watched.page
    page.add_init_script(_COUNT_SHIFTS)
    page.set_default_timeout(PATIENCE)
    page.on("console", lambda message: watched.faults.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: watched.faults.append(str(error)))
    local = (url, "data:", "blob:")
    page.on("request", lambda sent: None if sent.url.startswith(local) else watched.elsewhere.append(sent.url))


def open_page(page: Page, url: str) -> None:
    """Load the page and wait until both videos can be played."""
    page.goto(url)
    page.wait_for_function(
        "() => { const videos = [...document.querySelectorAll('.pair video')];"
        " return videos.length === 2 && videos.every((video) => video.readyState >= 3); }",
        timeout=20_000,
    )
