"""A demo as a visitor meets it: one click to label, pages that are closed say why."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest
from playwright.sync_api import Browser, expect

from tests.helpers.pages import PHONE, WIDE, overflow, signed_in_page
from tests.helpers.studios import running_studio

if TYPE_CHECKING:
    from tests.helpers.studios import Running


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with ExitStack() as stack:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("DEMO", "1")
            patch.setattr("app.label_dataset.on_space", lambda: True)
            patch.setattr("app.label_dataset._is_mounted", lambda _: False)
            app = stack.enter_context(running_studio(tmp_path_factory.mktemp("demo")))
        yield app


@pytest.mark.parametrize("screen", [WIDE, PHONE], ids=["wide", "phone"])
def test_one_click_makes_a_guest_who_labels(browser: Browser, demo: Running, screen: dict[str, int]) -> None:
    with signed_in_page(browser, demo, "/label", role=None, refused=True, viewport=screen) as page:
        expect(page.locator(".label-wait")).to_contain_text("This is a demo. One click makes you a guest for a day")
        assert overflow(page) == 0
        page.get_by_role("button", name="Label as a guest").click()
        expect(page.locator(".person")).to_contain_text("Guest ")
        expect(page.locator(".label-desk")).to_be_visible()
        assert overflow(page) == 0
        for key in ("1", "q", "o", "q", "o", "Enter"):
            page.keyboard.press(key)
        expect(page.locator(".label-last")).to_contain_text("A clearly")
        expect(page.locator(".label-progress")).to_contain_text("in all 1")


@pytest.mark.parametrize(
    ("path", "sentence"), [("/train", "training is not available here"), ("/lead", "nobody leads campaigns here")]
)
@pytest.mark.parametrize("screen", [WIDE, PHONE], ids=["wide", "phone"])
def test_closed_pages_say_why(browser: Browser, demo: Running, path: str, sentence: str, screen: dict[str, int]) -> None:
    with signed_in_page(browser, demo, path, role=None, viewport=screen) as page:
        expect(page.locator(".ds-gate")).to_contain_text(sentence)
        assert overflow(page) == 0


@pytest.mark.parametrize("screen", [WIDE, PHONE], ids=["wide", "phone"])
def test_every_page_says_that_labels_will_not_last(browser: Browser, demo: Running, screen: dict[str, int]) -> None:
    with signed_in_page(browser, demo, "/analyse", role=None, viewport=screen) as page:
        expect(page.locator(".notice")).to_contain_text("Labels and votes of this Space are lost when it restarts")
        assert overflow(page) == 0
