"""The Analyse page as a lead meets it: every tab with its figures, what can be saved, on a wide and on a narrow screen."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from playwright.sync_api import Browser, Page, expect

from storage.training.runs import list_runs
from tests.helpers.accessibility import barriers
from tests.helpers.analysed_studio import add_gallery_pairs, judge_pairs, label_pairs
from tests.helpers.pages import PHONE, choose_tab, expect_refusal, signed_in_page
from tests.helpers.studios import Running, running_studio

if TYPE_CHECKING:
    from storage.schema import Role

FIGURES = {"Agreement": 10, "Hacking watch": 4, "Generators": 1, "Benchmarks": 1}
# Figures on the screen that have no picture in them.
UNDRAWN = """() => [...document.querySelectorAll('.analyse-plot')]
  .filter((plot) => plot.offsetParent && !plot.querySelector('svg')).length"""
# How far anything inside the page reaches beyond the screen's right edge; what scrolls by itself may.
STICKS_OUT = """() => Math.max(0, ...[...document.querySelectorAll('#analyse-page *')]
  .filter((one) => one.offsetParent && !one.closest('.ds-scroll, .thought-tabs, .thought-box, svg, .tab-wrapper'))
  .map((one) => one.getBoundingClientRect().right - innerWidth))"""


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """An app with four judged and labelled pairs; people contradict the model on one."""
    with running_studio(tmp_path_factory.mktemp("analyse"), checkpoint="bundled") as app:
        app.studio.supervisor.close()
        pairs = add_gallery_pairs(app, 4)
        judge_pairs(app, pairs)
        label_pairs(app, "first round", pairs, contradict=1)
        yield app


@pytest.fixture
def lead(browser: Browser, app: Running) -> Iterator[Page]:
    """The Analyse page, signed in. Faults and foreign requests fail the test."""
    with signed_in_page(browser, app, "/analyse", accept_downloads=True) as page:
        yield page


def open_tab(page: Page, name: str) -> None:
    """Choose a tab, also where it stands behind three dots."""
    expect(page.locator("#analyse-agreement .ds-body")).not_to_be_empty()
    choose_tab(page, "analyse-tabs", name)


def see_figures(page: Page, least: int) -> None:
    """Scroll through the tab until every figure in it is drawn."""
    panel = page.get_by_role("tabpanel").filter(visible=True)
    expect(panel.locator(".analyse-finding").first).to_be_visible()
    plots = panel.locator(".analyse-plot")
    expect(plots.nth(least - 1)).to_be_attached()
    for place in range(plots.count()):
        plots.nth(place).scroll_into_view_if_needed()
        expect(plots.nth(place).locator("svg.main-svg").first).to_be_visible()
    assert page.evaluate(UNDRAWN) == 0


def test_every_tab_draws_its_figures(lead: Page) -> None:
    for name, least in FIGURES.items():
        open_tab(lead, name)
        see_figures(lead, least)
        assert barriers(lead) == [], name
    open_tab(lead, "Report")
    expect(lead.get_by_role("button", name="Write the report")).to_be_visible()


def test_a_disagreement_opens_with_videos_thoughts_and_labels(lead: Page) -> None:
    open_tab(lead, "Disagreements")
    expect(lead.locator("#analyse-disagreements")).to_contain_text("1 of 4 labelled pairs")
    lead.wait_for_function(
        "() => [...document.querySelectorAll('#analyse-pair video')].every((video) => video.readyState >= 2)"
    )
    expect(lead.locator("#analyse-verdict .odds-headline")).to_contain_text("preferred")
    expect(lead.locator("#analyse-case")).to_contain_text("Zoe the annotator")
    expect(lead.locator("#analyse-case")).to_contain_text("<b>look</b> at the edge")


def test_numbers_and_pictures_can_be_saved(lead: Page, app: Running) -> None:
    see_figures(lead, FIGURES["Agreement"])
    finding = lead.locator("[data-name='accuracy']")
    with lead.expect_download() as saved:
        finding.get_by_role("button", name="CSV").click()
    table = saved.value.path().read_text("utf-8-sig").splitlines()
    assert saved.value.suggested_filename == "accuracy.csv"
    assert table[1].startswith(f"{app.studio.served.name},think,4,0,0.75,")
    with lead.expect_download() as saved:
        finding.get_by_role("button", name="PNG").click()
    assert saved.value.path().read_bytes().startswith(b"\x89PNG")
    assert saved.value.suggested_filename == "accuracy.png"


def test_the_report_opens_without_a_network(browser: Browser, lead: Page, app: Running, tmp_path: Path) -> None:
    open_tab(lead, "Report")
    with lead.expect_download(timeout=120_000) as saved:
        lead.get_by_role("button", name="Write the report").click()
    file = tmp_path / "report.html"
    saved.value.save_as(file)
    context = browser.new_context(offline=True, color_scheme="dark")
    page = context.new_page()
    faults: list[str] = []
    page.on("console", lambda message: faults.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.goto(file.as_uri())
    page.wait_for_function(f"() => ({UNDRAWN})() === 0")
    assert page.locator(".analyse-plot svg.main-svg").count() >= 16
    expect(page.get_by_role("heading", level=1)).to_contain_text(app.studio.served.name)
    assert faults == []
    context.close()


def test_the_selection_is_kept_and_scoring_waits_in_the_queue(lead: Page, app: Running) -> None:
    pairs = lead.locator("select[name='scope']")
    pairs.select_option("source:bundled")
    expect(lead.locator("#analyse-scoring")).to_contain_text("of 2 pairs (0 labelled)")
    lead.reload()
    expect(pairs).to_have_value("source:bundled")
    lead.get_by_role("button", name="Score missing pairs").click()
    expect(lead.locator("#analyse-scoring .analyse-run")).to_contain_text("queued")
    with app.studio.database.read() as session:
        assert list_runs(session)[0].kind == "score"
    lead.get_by_role("button", name="Cancel").last.click()
    expect(lead.locator("#analyse-scoring .analyse-run")).to_contain_text("cancelled")


def test_nothing_sticks_out_on_a_phone(browser: Browser, app: Running) -> None:
    with signed_in_page(browser, app, "/analyse", viewport=PHONE) as page:
        for name in ("Agreement", "Hacking watch", "Generators", "Benchmarks"):
            open_tab(page, name)
            see_figures(page, FIGURES[name])
            assert page.evaluate(STICKS_OUT) <= 1, name
        open_tab(page, "Disagreements")
        expect(page.locator("#analyse-case")).to_contain_text("Zoe the annotator")
        assert page.evaluate(STICKS_OUT) <= 1


@pytest.mark.parametrize(("scheme", "ground"), [("light", "rgb(255, 255, 255)"), ("dark", "rgb(25, 29, 34)")])
def test_figures_are_drawn_in_the_colours_of_the_page(browser: Browser, app: Running, scheme: str, ground: str) -> None:
    with signed_in_page(browser, app, "/analyse", color_scheme=scheme) as page:
        expect(page.locator(".analyse-plot svg.main-svg").first).to_be_visible()
        assert page.locator(".analyse-plot .bg").first.evaluate("(one) => getComputedStyle(one).fill") == ground


@pytest.mark.parametrize("role", [None, "annotator"])
def test_others_read_whom_the_page_is_for(browser: Browser, app: Running, role: Role | None) -> None:
    with signed_in_page(browser, app, "/analyse", "Ada", role) as page:
        said = "for leads and viewers" if role is None else "you are signed in as Ada"
        expect_refusal(page, ".ds-gate", said, "/analyse")
        expect(page.locator("#analyse-choose")).to_have_count(0)
