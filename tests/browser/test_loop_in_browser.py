"""The whole loop as a team meets it: label, retrain, watch, prove, promote, judge with the new checkpoint, roll back."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect

from app.judge.gallery import FOLDER
from tests.browser.conftest import open_page
from tests.helpers.accounts import sign_in_browser
from tests.helpers.pages import PHONE, expect_refusal, overflow, signed_in_page
from tests.helpers.rounds import label_round, no_run_left, open_round
from tests.helpers.studios import Running, running_studio

if TYPE_CHECKING:
    from storage.schema import Role

PATIENCE = 600_000  # milliseconds; a run takes half a minute on a machine of one's own
POINTS = """(name) => {
  const place = document.querySelector(`[data-figure="${name}"]`);
  return place && place.data ? Math.max(0, ...place.data.map((trace) => trace.x.filter((one) => one !== null).length)) : 0;
}"""


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """An app of its own with the bundled checkpoint: others must not see another one serve."""
    with running_studio(tmp_path_factory.mktemp("loop"), "bundled", FOLDER) as app, no_run_left(app):
        yield app


@pytest.fixture
def lead(browser: Browser, app: Running) -> Iterator[Page]:
    """A lead's browser on the Train page. Faults and foreign requests fail the test."""
    with signed_in_page(browser, app, "/train") as page:
        page.set_default_timeout(PATIENCE)
        page.on("dialog", lambda dialog: dialog.accept())
        yield page


def wait_for_points(page: Page, least: int) -> None:
    """Wait until the curve of the loss has that many points. By the clock: a page behind another one draws no frames."""
    page.wait_for_function(f"() => ({POINTS})('loss') >= {least}", timeout=PATIENCE, polling=300)


def label_one(context: BrowserContext, app: Running, campaign: int) -> None:
    """Somebody answers a pair by keyboard, on the Label page."""
    page = context.new_page()
    page.goto(f"{app.url}/label?campaign={campaign}")
    page.locator(".label[data-state=labelling]").wait_for(timeout=PATIENCE)
    before = page.inner_text(".label-prompt-text")
    page.keyboard.press("1")
    page.keyboard.press("Enter")
    expect(page.locator(".label-prompt-text")).not_to_have_text(before)
    page.close()


def judged_by(context: BrowserContext, app: Running, pair: str) -> str:
    """Judge a bundled pair quickly on the Judge page; what the page says under the odds."""
    page = context.new_page()
    open_page(page, app.url)
    page.click(f"[data-id='{pair}']")
    page.get_by_role("radio", name="Quick, no thought").check()
    page.click("#judge")
    page.wait_for_function("() => document.querySelector('.verdict').dataset.phase === 'done'", timeout=PATIENCE)
    said = page.inner_text(".odds-status")
    served = page.inner_text(".page-head .served")
    page.close()
    return f"{said} | {served}"


@pytest.mark.endurance
def test_label_retrain_prove_promote_judge_roll_back(browser: Browser, app: Running, lead: Page) -> None:
    before = app.studio.served.name
    lead.get_by_text("No label is newer than this checkpoint").wait_for()
    campaign = open_round(app)
    people = browser.new_context(viewport={"width": 1360, "height": 900})
    sign_in_browser(people, app, "Ada")
    label_one(people, app, campaign.id)
    label_round(app, campaign)
    expect(lead.locator(".train-news")).to_contain_text("36")

    # Retrain: three steps, no benchmark.
    lead.get_by_text("Cold start only").click()
    expect(lead.get_by_label("Dual RL, steps")).to_be_hidden()
    lead.get_by_label("Cold start, steps").fill("3")
    lead.get_by_label("Name").fill("after round one")
    lead.get_by_text("Which labels, and the comparison").click()
    lead.get_by_label(re.compile("Benchmark pairs")).fill("0")
    expect(lead.locator(".train-plan")).to_contain_text("8 new")
    lead.get_by_role("button", name="Retrain").click()
    expect(lead.locator(".train-head")).to_contain_text("after round one")

    # The curves move, in their places; a reload finds the run again.
    wait_for_points(lead, 1)
    box = lead.locator("[data-figure=loss]").bounding_box()
    lead.reload()
    assert lead.url.endswith("/train#run-1")
    # The form keeps its settings, and the command has them.
    expect(lead.get_by_label("Cold start, steps")).to_have_value("3")
    expect(lead.locator("#train-command")).to_contain_text("--set cold_start.steps=3")
    expect(lead.get_by_label("Name")).to_have_value("")
    wait_for_points(lead, 3)
    after = lead.locator("[data-figure=loss]").bounding_box()
    assert box is not None
    assert after is not None
    assert box["height"] == after["height"]
    assert box["width"] == after["width"]

    # The gate, then promote: the page's head says so, and the next answer is the new one's.
    lead.locator(".train-verdict").wait_for(timeout=PATIENCE)
    expect(lead.locator(".train-sentence")).to_contain_text("held-out pairs")
    lead.locator(".train-head").get_by_role("button", name="Promote").click()
    expect(lead.locator(".train-status")).to_contain_text("after round one serves from now on")
    expect(lead.locator(".page-head .served")).to_contain_text("after round one")
    assert judged_by(lead.context, app, "pair-02").count("after round one") == 2

    row = lead.locator(".train-registry tr", has_text="comes with the program")
    row.get_by_role("button", name="Roll back to it").click()
    expect(lead.locator(".page-head .served")).to_contain_text(before)
    assert judged_by(lead.context, app, "pair-03").count(before) == 2
    people.close()


def test_nothing_sticks_out_on_a_phone_and_a_viewer_has_nothing_to_press(browser: Browser, app: Running) -> None:
    with signed_in_page(browser, app, "/train", "Vic", "viewer", viewport=PHONE) as page:
        expect(page.locator(".train-registry")).to_be_visible()
        assert overflow(page) <= 0
        right = page.evaluate(
            "() => Math.max(...[...document.querySelectorAll('.train *')].map((one) => one.getBoundingClientRect().right))"
        )
        assert right <= 391
        expect(page.locator(".train button[data-act]")).to_have_count(0)
        expect(page.locator(".train-make")).to_be_hidden()


@pytest.mark.parametrize("role", [None, "annotator"])
def test_others_read_whom_the_page_is_for(browser: Browser, app: Running, role: Role | None) -> None:
    with signed_in_page(browser, app, "/train", "Ada", role, refused=True) as page:
        expect_refusal(page, ".train-gate", "leads" if role is None else "signed in as Ada", "/train")
        expect(page.locator(".train-page")).to_be_hidden()
