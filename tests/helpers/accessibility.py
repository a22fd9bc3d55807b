"""What axe-core finds on a page: barriers for people who can't see, or use no mouse.

barriers(page)        # [] or lines such as "color-contrast: .hint kbd (Elements must meet minimum color contrast ...)"
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from axe_playwright_python.sync_playwright import Axe

if TYPE_CHECKING:
    from playwright.sync_api import Page

_GRAVE = ("serious", "critical")  # of axe-core's four impacts
_AXE = Axe()


def barriers(page: Page) -> list[str]:
    """List the serious and critical violations of what the page shows now, each with the first elements it is about."""
    found = _AXE.run(page, options={"resultTypes": ["violations"], "elementRef": False}).response["violations"]
    return [
        f"{rule['id']}: {', '.join(' '.join(map(str, node['target'])) for node in rule['nodes'][:5])} ({rule['help']})"
        for rule in found
        if rule["impact"] in _GRAVE
    ]
