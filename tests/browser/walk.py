"""A walk through all pages in Chromium: a screenshot of each state in three sizes and both schemes, and what pages weigh.

    python -m tests.browser.walk --shots DIR             # takes some minutes; the last line is JSON
    python -m tests.browser.walk --shots DIR --docs      # writes the stills of the documents, docs/*.png, too

The app runs on the store of `python app.py --demo`: everything that is seen was made by the app itself. Each state is
reached once for each scheme and then seen at 1440, 1366 and 390 pixels. At the end `python -m storage check` reads the store
that was walked through.

The JSON has, for each page as a new visitor loads it: `bytes` over the network, `first_view_ms` (first contentful paint, of
this machine as busy as it is), `layout_shift` (cumulative, of the load), in both widths, and `barriers`, what axe-core finds
serious or critical in any state.
"""

from __future__ import annotations

import argparse
import io
import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image
from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright

from app.demo_store import demo_home
from app.studio import Studio
from storage.schema import Role
from tests.browser.conftest import QUIET
from tests.helpers.accessibility import barriers
from tests.helpers.accounts import sign_in_browser
from tests.helpers.chromium import find
from tests.helpers.paths import ROOT
from tests.helpers.studios import Running

SIZES = {"wide": (1440, 900), "laptop": (1366, 768), "phone": (390, 844)}
SCHEMES = ("light", "dark")
PATIENCE = 180_000  # milliseconds: machines are shared
SETTLED = 700  # milliseconds that a page gets to draw after a change
_LOADED = 6_000  # likewise after a load: pages go on asking for news, so the network never rests
_DOCS = {"judge-judged": "judge", "label": "label", "analyse": "analyse", "train": "train"}
_STILL_HEIGHT = 1100
_PEOPLE: dict[str, str] = {"lead": "Mira", "annotator": "Ada"}
# Layout shifts and paints are kept by the browser from the start of a load on.
_WATCH = """
window.walkShift = 0;
new PerformanceObserver((list) => {
  for (const entry of list.getEntries()) if (!entry.hadRecentInput) window.walkShift += entry.value;
}).observe({ type: "layout-shift", buffered: true });
"""


@dataclass(frozen=True)
class Stop:
    """One state of a page.

    Attributes:
        name: of its pictures.
        path: of the page, after the app's address.
        role: who sees it; None for a visitor.
        reach: brings the loaded page into the state.
    """

    name: str
    path: str
    role: Role | None
    reach: Callable[[Page], None] | None = None


def judged(page: Page) -> None:
    """Judge the pair that the page shows."""
    page.click("#judge")
    page.wait_for_function("() => document.querySelector('.verdict').dataset.phase === 'done'", timeout=PATIENCE)


def by_key(key: str) -> Callable[[Page], None]:
    """Open what a key of the Judge page opens."""

    def press(page: Page) -> None:
        page.locator(".pair video").first.wait_for()
        page.keyboard.press(key)

    return press


def several_thoughts(page: Page) -> None:
    """Judge the pair with several thoughts, and quickly before, so that the history has both."""
    page.get_by_role("radio", name="Several thoughts").check()
    judged(page)


def labelling(page: Page) -> None:
    """Wait for a pair to label."""
    page.locator(".label[data-state=labelling]").wait_for(timeout=PATIENCE)


STOPS = (
    Stop("judge", "/", None),
    Stop("judge-judged", "/", None, judged),
    Stop("judge-several", "/", None, several_thoughts),
    Stop("judge-history", "/", None, by_key("h")),
    Stop("judge-many-pairs", "/", None, by_key("m")),
    Stop("judge-wipe", "/", None, by_key("w")),
    Stop("label-visitor", "/label", None),
    Stop("label", "/label", "annotator", labelling),
    Stop("analyse", "/analyse", "lead"),
    Stop("train-visitor", "/train", None),
    Stop("train", "/train", "lead"),
    Stop("lead", "/lead", "lead"),
    Stop("sign-in", "/sign-in", None),
)
PAGES = ("/", "/label", "/analyse", "/train", "/lead")


@contextmanager
def demo_app(folder: Path | None) -> Iterator[Running]:
    """Serve the demo store on a free port until the block ends."""
    with demo_home(folder) as home:  # DESCORE_HOME is this store from here on
        studio = Studio.open(None, home=home)
        _, url, _ = studio.launch(prevent_thread_lock=True, quiet=True)
        try:
            yield Running(url.rstrip("/"), studio)
        finally:
            studio.close()
        check = [sys.executable, "-m", "storage", "check"]
        subprocess.run(check, cwd=ROOT, check=True)


class Walk:
    """Visits the stops and keeps what is seen."""

    def __init__(self, browser: Browser, app: Running, shots: Path) -> None:
        self._browser, self._app, self._shots = browser, app, shots
        self.pictures: dict[str, Path] = {}
        self.barriers: dict[str, list[str]] = {}

    def visit(self, stop: Stop, scheme: str) -> None:
        """Reach a state, and that behind each of its tabs, and take their pictures."""
        profile = self._profile(stop.role, "wide", color_scheme=scheme)
        page = profile.new_page()
        page.set_default_timeout(PATIENCE)
        page.goto(self._app.url + stop.path)
        page.locator("h1").first.wait_for()
        page.wait_for_timeout(3 * SETTLED)
        if stop.reach is not None:
            stop.reach(page)
        self._take(page, f"{stop.name}-{scheme}")
        for index in range(page.get_by_role("tab").count()):
            tab = page.get_by_role("tab").nth(index)
            if tab.is_visible() and tab.get_attribute("aria-selected") != "true":
                name = slug(tab.inner_text())
                tab.click()
                self._take(page, f"{stop.name}-{name}-{scheme}")
                page.set_viewport_size(size_of("wide"))
        profile.close()

    def _take(self, page: Page, name: str) -> None:
        for size in SIZES:
            page.set_viewport_size(size_of(size))
            page.wait_for_timeout(SETTLED)
            path = self._shots / f"{name}-{size}.png"
            page.screenshot(path=path, full_page=True)
            self.pictures[path.stem] = path
        page.set_viewport_size(size_of("wide"))
        if found := barriers(page):
            self.barriers[name] = found

    def load(self, path: str, size: str) -> dict[str, Any]:
        """Load a page as a new visitor, a lead where it is for leads, and measure it."""
        profile = self._profile("lead" if path in ("/lead", "/train", "/analyse") else None, size)
        page = profile.new_page()
        page.set_default_timeout(PATIENCE)
        page.add_init_script(_WATCH)
        network = profile.new_cdp_session(page)
        network.send("Network.enable")
        received = [0.0]
        network.on("Network.loadingFinished", lambda event: received.append(event["encodedDataLength"]))
        page.goto(self._app.url + path)
        page.locator("h1").first.wait_for()
        page.wait_for_timeout(_LOADED)
        paint = "() => performance.getEntriesByName('first-contentful-paint')[0]?.startTime ?? null"
        first, shift = page.evaluate(paint), page.evaluate("() => window.walkShift")
        profile.close()
        return {
            "bytes": round(sum(received)),
            "first_view_ms": None if first is None else round(first),
            "layout_shift": round(shift, 3),
        }

    def _profile(self, role: Role | None, size: str, **options: Any) -> BrowserContext:
        profile = self._browser.new_context(viewport=size_of(size), **options)
        if role is not None:
            sign_in_browser(profile, self._app, _PEOPLE[role], role)
        return profile


def size_of(name: str) -> Any:
    """Return a size as Playwright takes it."""
    width, height = SIZES[name]
    return {"width": width, "height": height}


def slug(text: str) -> str:
    """Write a tab's name for a file."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")


def write_stills(pictures: dict[str, Path]) -> None:
    """Write the stills of the documents from the wide, light pictures."""
    for name, still in _DOCS.items():
        picture = Image.open(io.BytesIO(pictures[f"{name}-light-wide"].read_bytes())).convert("RGB")
        picture = picture.crop((0, 0, picture.width, min(picture.height, _STILL_HEIGHT)))
        picture.quantize(256).save(ROOT / "docs" / f"{still}.png", optimize=True)


def main() -> None:
    """Walk, and print what was measured."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shots", type=Path, required=True, metavar="DIR", help="where the pictures go")
    parser.add_argument("--home", type=Path, metavar="FOLDER", help="keep the demo store there, or take the one that is")
    parser.add_argument("--docs", action="store_true", help="write the stills of the documents too")
    parser.add_argument("--only", default="", metavar="NAME", help="the stops whose names begin so")
    options = parser.parse_args()
    options.shots.mkdir(parents=True, exist_ok=True)
    with sync_playwright() as playwright, demo_app(options.home) as app:
        browser = playwright.chromium.launch(executable_path=find(), args=QUIET)
        walk = Walk(browser, app, options.shots)
        loads = {path: {size: walk.load(path, size) for size in ("wide", "phone")} for path in PAGES}
        for stop in STOPS:
            for scheme in SCHEMES if stop.name.startswith(options.only) else ():
                walk.visit(stop, scheme)
                print(f"{stop.name}, {scheme}", file=sys.stderr)
        browser.close()
    if options.docs:
        write_stills(walk.pictures)
    print(json.dumps({"pictures": len(walk.pictures), "loads": loads, "barriers": walk.barriers}))


if __name__ == "__main__":
    main()
