"""All five pages load in Chromium without a violation of the Content-Security-Policy, and axe-core finds no barrier."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from playwright.sync_api import expect

from tests.helpers.accessibility import barriers
from tests.helpers.pages import signed_in_page

if TYPE_CHECKING:
    from playwright.sync_api import Browser

    from tests.helpers.studios import Running


@pytest.mark.parametrize("path", ["/", "/label", "/analyse", "/train", "/lead"])
def test_a_page_loads_without_a_violation_or_a_barrier(browser: Browser, running: Running, path: str) -> None:
    with signed_in_page(browser, running, path) as page:  # a violation is an error of the console, which fails it
        expect(page.locator("[aria-current=page]").first).to_be_visible()
        assert barriers(page) == []
        for tab in page.get_by_role("tab").all():  # those of hidden parts of a page can't be chosen
            if tab.is_visible():
                tab.click()
                expect(tab).to_have_attribute("aria-selected", "true")
                assert barriers(page) == [], f"behind the tab {tab.inner_text()}"
