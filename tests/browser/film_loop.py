"""The loop as an animation for the README, taken from the running app; stills of pages come from `tests.browser.walk`.

    python -m tests.browser.film_loop           # writes docs/loop.webp; takes some minutes

Everything in them is real: the bundled checkpoint thinks, a pair is labelled, a retrain runs with the preset tiny-cpu, and
what it made is promoted.
"""

from __future__ import annotations

import io
import re
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont
from playwright.sync_api import Browser, BrowserContext, Page, expect, sync_playwright

from app.judge.gallery import FOLDER
from storage.analysis.reward_margins import pair_ids_of
from storage.campaigns.campaign import Campaign, CampaignConfig, create_campaign
from storage.campaigns.guidelines import DEFAULT_GUIDELINES
from tests.browser.conftest import QUIET, open_page
from tests.browser.test_loop_in_browser import POINTS
from tests.helpers.accounts import sign_in_browser
from tests.helpers.chromium import find
from tests.helpers.paths import ROOT
from tests.helpers.rounds import label_round, no_run_left, open_round
from tests.helpers.studios import Running, running_studio

DOCS = ROOT / "docs"
WIDE = {"width": 1200, "height": 760}
SCENES = ("Judge", "Label", "Retrain", "Promote")
WIDTH = 960
BAR = 34  # pixels of the bar under each frame that says which scene it is
QUALITY = 60
LARGEST = 3_000_000  # bytes of the animation
STEPS = 8  # of the retrain
PATIENCE = 1_800_000  # milliseconds; a retrain takes half a minute on a machine of one's own


@dataclass
class Film:
    """Screenshots of the scenes with the time that each is shown.

    Attributes:
        frames: scaled to WIDTH, with the bar.
        milliseconds: one for each frame.
    """

    frames: list[Image.Image] = field(default_factory=list)
    milliseconds: list[int] = field(default_factory=list)

    def take(self, page: Page, scene: str, milliseconds: int) -> None:
        """Add what the page shows now; a frame equal to the one before only makes that one last longer."""
        shot = Image.open(io.BytesIO(page.screenshot())).convert("RGB")
        frame = with_bar(shot.resize((WIDTH, round(shot.height * WIDTH / shot.width)), Image.Resampling.LANCZOS), scene)
        if self.frames and frame.tobytes() == self.frames[-1].tobytes():
            self.milliseconds[-1] += milliseconds
        else:
            self.frames.append(frame)
            self.milliseconds.append(milliseconds)

    def hold(self, milliseconds: int) -> None:
        """Show the last frame longer."""
        self.milliseconds[-1] += milliseconds

    def save(self, path: Path) -> None:
        """Write an animated WebP that repeats.

        Raises:
            ValueError: it is larger than a README should load.
        """
        first, *others = self.frames
        first.save(
            path,
            save_all=True,
            append_images=others,
            duration=self.milliseconds,
            loop=0,
            quality=QUALITY,
            method=4,
        )
        if path.stat().st_size > LARGEST:
            raise ValueError(f"{path.name} has {path.stat().st_size} bytes, more than {LARGEST}: take fewer frames")


def with_bar(frame: Image.Image, scene: str) -> Image.Image:
    """The frame above a bar with the four scenes, the present one marked."""
    whole = Image.new("RGB", (frame.width, frame.height + BAR), "#0b5c55")
    whole.paste(frame, (0, 0))
    draw = ImageDraw.Draw(whole)
    font = ImageFont.load_default(size=18)
    for index, name in enumerate(SCENES):
        left = 24 + index * frame.width // len(SCENES)
        draw.text((left, frame.height + 6), f"{index + 1}  {name}", font=font, fill="white" if name == scene else "#7fb3ad")
    return whole


def film_judge(film: Film, page: Page, app: Running) -> None:
    """Judge the first bundled pair, thoughts streaming."""
    open_page(page, app.url)
    page.evaluate("document.querySelector('.pair').scrollIntoView({block: 'start'})")
    page.wait_for_timeout(300)
    film.take(page, "Judge", 900)
    page.click("#judge")
    page.evaluate("window.scrollBy(0, 220)")
    for _ in range(14):
        film.take(page, "Judge", 180)
        if page.evaluate("document.querySelector('.verdict').dataset.phase") == "done":
            break
    page.wait_for_function("() => document.querySelector('.verdict').dataset.phase === 'done'", timeout=PATIENCE)
    film.take(page, "Judge", 2200)


def film_label(film: Film, page: Page, app: Running, campaign: Campaign) -> None:
    """Answer one pair of a campaign by keyboard."""
    page.goto(f"{app.url}/label?campaign={campaign.id}")
    page.locator(".label[data-state=labelling]").wait_for(timeout=PATIENCE)
    page.wait_for_timeout(500)
    film.take(page, "Label", 900)
    before = page.inner_text(".label-prompt-text")
    for key in ["1", "q", "o", "q", "p", "q", "o", "w", "u", "q", "o"]:
        page.keyboard.press(key)
        film.take(page, "Label", 260)
    film.hold(900)
    page.keyboard.press("Enter")
    expect(page.locator(".label-prompt-text")).not_to_have_text(before)
    page.wait_for_timeout(500)
    film.take(page, "Label", 1100)


def film_retrain(film: Film, page: Page) -> None:
    """Start a retrain on the Train page and watch its curves until the verdict is there."""
    page.locator(".train-news").scroll_into_view_if_needed()
    expect(page.locator(".train-news")).to_contain_text("37", timeout=PATIENCE)
    film.take(page, "Retrain", 1500)
    page.get_by_text("Cold start only").click()
    page.get_by_label("Cold start, steps").fill(str(STEPS))
    page.get_by_label("Name").fill("after round one")
    page.get_by_text("Which labels, and the comparison").click()
    page.get_by_label(re.compile("Benchmark pairs")).fill("0")
    expect(page.locator(".train-plan")).to_contain_text("8 new", timeout=PATIENCE)
    page.get_by_text("Which labels, and the comparison").click()
    page.get_by_role("button", name="Retrain").scroll_into_view_if_needed()
    film.take(page, "Retrain", 1200)
    page.get_by_role("button", name="Retrain").click()
    expect(page.locator(".train-head")).to_contain_text("after round one", timeout=PATIENCE)
    for step in range(1, STEPS + 1):
        page.wait_for_function(f"() => ({POINTS})('loss') >= {step}", timeout=PATIENCE, polling=300)
        page.locator(".train-head").evaluate("head => head.scrollIntoView({block: 'start'})")
        film.take(page, "Retrain", 450)
    page.locator(".train-verdict").wait_for(timeout=PATIENCE)


def film_promote(film: Film, page: Page) -> None:
    """Promote what the run made."""
    page.locator(".train-head").evaluate("head => head.scrollIntoView({block: 'start'})")
    film.take(page, "Promote", 2200)
    page.locator(".train-head").get_by_role("button", name="Promote").click()
    expect(page.locator(".page-head .served")).to_contain_text("after round one", timeout=PATIENCE)
    page.evaluate("window.scrollTo(0, 0)")
    page.wait_for_timeout(800)
    film.take(page, "Promote", 2600)


def open_campaign(app: Running) -> Campaign:
    """A campaign over the bundled pairs that asks the preference and all five sub-scores."""
    settings = CampaignConfig("Which follows the prompt?", overlap=1, gold_share=0.0, repeat_share=0.0)
    with app.studio.database.write() as session:
        pairs = pair_ids_of(session, ["bundled"])
        return create_campaign(session, settings, pairs, DEFAULT_GUIDELINES, created_by=None)


def film_loop(browser: Browser, app: Running) -> Film:
    """The four scenes in one app."""
    film = Film()
    people = signed_in(browser, app, "Ada")
    judging, labelling = people.new_page(), people.new_page()
    film_judge(film, judging, app)
    film_label(film, labelling, app, open_campaign(app))
    label_round(app, open_round(app))
    lead = signed_in(browser, app, "Mira", "lead").new_page()
    lead.set_default_timeout(PATIENCE)
    lead.on("dialog", lambda dialog: dialog.accept())
    lead.goto(f"{app.url}/train")
    film_retrain(film, lead)
    film_promote(film, lead)
    return film


def signed_in(browser: Browser, app: Running, name: str, role: str = "annotator") -> BrowserContext:
    """A profile of the browser in which somebody is signed in."""
    context = browser.new_context(viewport=WIDE)
    sign_in_browser(context, app, name, role)  # type: ignore[arg-type]
    return context


def main() -> None:
    """Make the animation."""
    with sync_playwright() as playwright, tempfile.TemporaryDirectory() as name:
        browser = playwright.chromium.launch(executable_path=find(), args=QUIET)
        with running_studio(Path(name), "bundled", FOLDER) as app, no_run_left(app):
            film_loop(browser, app).save(DOCS / "loop.webp")
        browser.close()


if __name__ == "__main__":
    main()
