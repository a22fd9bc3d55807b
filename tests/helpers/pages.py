"""What the browser tests of several pages share: a page as somebody signed in sees it, a tab, how far it sticks out."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from playwright.sync_api import Browser, Page, expect

from tests.browser.conftest import Watched, watch
from tests.helpers.accounts import sign_in_browser

if TYPE_CHECKING:
    from storage.schema import Role
    from tests.helpers.studios import Running

_REFUSAL = re.compile(r"responded with a status of 40[13]\b")
# What Gradio's client says when a page is left, by a reload too, while one of its event streams is open.
_LEFT = re.compile(r"^AbortError: signal is aborted without reason\s[\s\S]*\.close|^Unexpected error Connection errored out")
WIDE, PHONE = {"width": 1360, "height": 900}, {"width": 390, "height": 844}


@contextmanager
def signed_in_page(
    browser: Browser,
    app: Running,
    path: str,
    name: str = "Mira",
    role: Role | None = "lead",
    *,
    refused: bool = False,
    **context: Any,
) -> Iterator[Page]:
    """A page of the app in a fresh profile. Faults and foreign requests fail the test at the end of the block.

    Args:
        role: None for nobody in particular.
        refused: the page is not for them; that the server says so is what Chromium reports as a fault.
        context: of Playwright's `new_context`, such as viewport=PHONE.
    """
    profile = browser.new_context(**{"viewport": WIDE, **context})
    if role is not None:
        sign_in_browser(profile, app, name, role)
    watched = Watched(profile.new_page())
    watch(watched, app.url)
    watched.page.goto(f"{app.url}{path}")
    try:
        yield watched.page
    finally:
        profile.close()
    assert watched.elsewhere == [], f"the page asked other machines: {watched.elsewhere}"
    faults = [one for one in watched.faults if not (_LEFT.search(one) or (refused and _REFUSAL.search(one)))]
    assert faults == [], f"the browser's console reports {faults}"


def choose_tab(page: Page, tabs: str, name: str) -> None:
    """Choose a tab of the element `tabs` (its id), also where it stands behind three dots."""
    tab = page.locator(f"#{tabs}").get_by_role("tab", name=name, exact=True)
    if tab.count() == 0 or not tab.first.is_visible():
        page.locator(f"#{tabs} .overflow-menu > button").click()
        tab = page.locator(f"#{tabs} .overflow-dropdown button", has_text=name)
    tab.first.click()


def expect_refusal(page: Page, gate: str, said: str, path: str) -> None:
    """The element `gate` says that the page at `path` is for others, and leads to a sign-in that comes back."""
    refusal = page.locator(gate)
    expect(refusal).to_contain_text(said)
    assert f"sign-in?next={path}" in str(refusal.locator("a").get_attribute("href"))


def overflow(page: Page) -> int:
    """Pixels by which the page is wider than the screen."""
    return int(page.evaluate("() => document.documentElement.scrollWidth - document.documentElement.clientWidth"))
