"""Signing in, invitations and the header as a person meets them, on a wide screen and on a phone."""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest
from playwright.sync_api import Browser, Page, expect

from storage.accounts.sessions import invite
from storage.accounts.users import add_user
from tests.browser.conftest import Watched, watch
from tests.helpers.accounts import sign_in_browser

if TYPE_CHECKING:
    from storage.schema import Role
    from tests.helpers.studios import Running

PASSWORD = "a good password"
WIDE: dict[str, Any] = {"viewport": {"width": 1280, "height": 800}}
PHONE: dict[str, Any] = {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True}
# Forms that were refused, and streams of a Gradio page that was left while it loaded.
EXPECTED = re.compile(r"status of 4(01|10)|AbortError|errored out")
# Each text with its own colour on the nearest ground that is painted: the lowest contrast of the page (WCAG 2).
LOWEST_CONTRAST = """() => {
  const linear = (v) => (v /= 255) <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4;
  const light = (c) => {
    const [r, g, b] = c.match(/[\\d.]+/g).map(Number).map(linear); return 0.2126 * r + 0.7152 * g + 0.0722 * b; };
  const ground = (node) => { for (; node; node = node.parentElement) {
    const c = getComputedStyle(node).backgroundColor; if (!c.endsWith(', 0)')) return c; } return 'rgb(255, 255, 255)'; };
  const texts = [...document.querySelectorAll('body *')].filter((n) =>
    [...n.childNodes].some((c) => c.nodeType === 3 && c.textContent.trim()) && n.offsetParent);
  return Math.min(...texts.map((n) => {
    const [a, b] = [light(getComputedStyle(n).color), light(ground(n))];
    return (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05); }));
}"""


pytestmark = pytest.mark.usefixtures("quick_hashes")


@pytest.fixture(params=[WIDE, PHONE], ids=["wide", "phone"])
def visitor(request: pytest.FixtureRequest, browser: Browser, running: Running) -> Iterator[Page]:
    """A page in a fresh profile; script errors and foreign requests fail the test."""
    context = browser.new_context(**request.param)
    watched = Watched(context.new_page())
    watch(watched, running.url)
    yield watched.page
    context.close()
    assert watched.elsewhere == []
    assert [fault for fault in watched.faults if not EXPECTED.search(fault)] == []


def somebody(running: Running, role: Role = "annotator") -> str:
    """The name of a new person with `PASSWORD`."""
    name = f"Person {secrets.token_hex(3)}"
    with running.studio.database.write() as session:
        return add_user(session, name, role, PASSWORD).name


def invitation(running: Running, role: Role = "annotator") -> str:
    with running.studio.database.write() as session:
        return f"{running.url}/invite/{invite(session, role, created_by=None)}"


def no_sideways_scroll(page: Page) -> bool:
    return bool(page.evaluate("() => document.documentElement.scrollWidth <= window.innerWidth"))


def test_in_by_the_header_and_out_again_on_the_same_page(visitor: Page, running: Running) -> None:
    name = somebody(running)
    visitor.goto(f"{running.url}/label")
    visitor.locator(".page-head .person").get_by_role("link", name="sign in").click()
    assert visitor.url == f"{running.url}/sign-in?next=%2Flabel"
    assert no_sideways_scroll(visitor)
    visitor.get_by_label("Name").fill(name)
    visitor.get_by_label("Password").fill("a wrong password")
    visitor.get_by_role("button", name="Sign in").click()
    expect(visitor.get_by_role("alert")).to_have_text("Wrong name or password.")
    expect(visitor.get_by_label("Name")).to_have_value(name)
    expect(visitor.get_by_label("Password")).to_have_value("")
    expect(visitor.get_by_label("Password")).to_be_focused()
    visitor.keyboard.type(PASSWORD)
    visitor.keyboard.press("Enter")
    visitor.wait_for_url(f"{running.url}/label")
    expect(visitor.locator(".page-head .person")).to_contain_text(name)
    assert no_sideways_scroll(visitor)
    visitor.get_by_role("button", name="sign out").click()
    expect(visitor.locator(".page-head .person")).to_have_text("sign in")
    assert visitor.url == f"{running.url}/label"


def test_an_invitation_becomes_an_account(visitor: Page, running: Running) -> None:
    name = f"Bea {secrets.token_hex(3)}"
    visitor.goto(invitation(running))
    assert no_sideways_scroll(visitor)
    expect(visitor.get_by_label("Name")).to_be_focused()
    for text in (name, PASSWORD, PASSWORD):
        visitor.keyboard.type(text)
        visitor.keyboard.press("Tab")
    visitor.keyboard.press("Enter")
    visitor.wait_for_url(f"{running.url}/label")
    expect(visitor.locator(".page-head .person")).to_contain_text(name)


def test_sign_in_and_invitation_work_without_javascript(browser: Browser, running: Running) -> None:
    name = somebody(running, "lead")
    with browser.new_context(java_script_enabled=False) as context:
        page = context.new_page()
        for path, fields in [("/sign-in", 2), (invitation(running)[len(running.url) :], 3)]:
            page.goto(running.url + path)
            typed = [name if fields == 2 else f"{name} too", PASSWORD, PASSWORD]
            for box, text in zip(page.locator("form input").all(), typed, strict=False):
                box.fill(text)
            page.locator("form button").click()
            assert page.url == running.url + ("/lead" if fields == 2 else "/label")
        assert {cookie.get("httpOnly") for cookie in context.cookies()} == {True}


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_plain_pages_can_be_read_in_light_and_dark(browser: Browser, running: Running, scheme: Any) -> None:
    with browser.new_context(color_scheme=scheme, **PHONE) as context:
        page = context.new_page()
        grounds = []
        for url in (f"{running.url}/sign-in", invitation(running), f"{running.url}/invite/unknown"):
            page.goto(url)
            assert page.evaluate(LOWEST_CONTRAST) >= 4.5
            grounds.append(page.evaluate("() => getComputedStyle(document.body).backgroundColor"))
        assert set(grounds) == {"rgb(245, 246, 248)" if scheme == "light" else "rgb(17, 20, 24)"}


def test_header_leads_from_page_to_page_and_keeps_its_height(visitor: Page, running: Running) -> None:
    heights: list[float] = []

    def height() -> float:
        box = visitor.locator(".page-head").bounding_box()
        assert box is not None
        return box["height"]

    visitor.route("**/session", lambda route: (heights.append(height()), route.continue_()))
    sign_in_browser(visitor.context, running, "Hanna of the very long name that no header has room for", "lead")
    visitor.goto(running.url)
    # A page that is left before it has asked who is signed in would ask from a document that has no header any more.
    expect(visitor.locator(".page-head .person b")).to_contain_text("Hanna")
    for name, path in [("Label", "/label"), ("Lead", "/lead"), ("Judge", "/")]:
        visitor.get_by_role("navigation", name="Pages").get_by_role("link", name=name).click()
        visitor.wait_for_url(running.url + path)
        expect(visitor.locator(".page-head [aria-current=page]")).to_have_text(name)
        expect(visitor).to_have_title(f"{name} – DeScore")
        expect(visitor.locator(".page-head .person b")).to_contain_text("Hanna")
        assert height() == heights[-1]
        assert no_sideways_scroll(visitor)
        expect(visitor.locator(".nav-holder")).to_be_hidden()
    # The first press of Tab shows the way past the head.
    visitor.keyboard.press("Tab")
    visitor.keyboard.press("Enter")
    assert not visitor.evaluate("document.querySelector('#page-head').contains(document.activeElement)")
    assert visitor.evaluate("document.activeElement !== document.body && document.activeElement.tabIndex === -1")


def test_a_name_is_shown_as_text(visitor: Page, running: Running) -> None:
    name = '<img src=x onerror="window.ran=1">'
    sign_in_browser(visitor.context, running, name)
    visitor.goto(running.url)
    expect(visitor.locator(".page-head .person b")).to_have_text(name)
    visitor.goto(f"{running.url}/sign-in")
    expect(visitor.locator(".note b")).to_have_text(name)
    assert visitor.evaluate("() => window.ran") is None
