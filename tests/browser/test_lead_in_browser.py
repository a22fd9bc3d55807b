"""The Lead page as a lead meets it: make a campaign, look at it, decide a pair, on a wide and on a narrow screen."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest
from playwright.sync_api import Browser, Page, expect

from storage.campaigns.campaign import list_campaigns
from storage.campaigns.label_schema import Answer
from storage.labelling.assignments import Assignment
from storage.labelling.labels import current_labels
from storage.labelling.next_assignment import next_assignment
from storage.labelling.submit import submit
from tests.helpers.accessibility import barriers
from tests.helpers.accounts import person
from tests.helpers.pages import PHONE, choose_tab, expect_refusal, overflow, signed_in_page
from tests.helpers.studios import Running, running_studio

if TYPE_CHECKING:
    from storage.schema import Choice, Role


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """An app of its own, so that the list of campaigns is empty at first."""
    with running_studio(tmp_path_factory.mktemp("lead")) as app:
        yield app


@pytest.fixture
def lead(browser: Browser, app: Running) -> Iterator[Page]:
    """The Lead page, signed in. Faults and foreign requests fail the test."""
    with signed_in_page(browser, app, "/lead") as page:
        yield page


def create(page: Page, name: str) -> None:
    """Make a campaign of the bundled pairs that asks the overall choice alone, two labels each."""
    page.get_by_role("tab", name="New campaign").click()
    page.get_by_role("textbox", name="Name").fill(name)
    for dimension in ("subject", "dynamics", "camera", "environment", "style"):
        page.get_by_label(dimension, exact=True).uncheck()
    page.get_by_label("Labels for each pair").fill("2")
    page.get_by_label("Repeats, %").fill("0")
    page.get_by_role("button", name="Create the campaign").click()
    expect(page.locator("#lead-new .ds-status")).to_contain_text(f"{name} is open for labelling.")
    expect(page.locator("#lead-new .ds-status")).to_contain_text("It asks for 5 % gold pairs and has none")


def disagree(app: Running, name: str) -> None:
    """Two people say the opposite of each other on every pair."""
    said: tuple[tuple[str, Choice], ...] = (("Ada", "A"), ("Ben", "B"))
    people = [(person(app, who).id, choice) for who, choice in said]
    with app.studio.database.write() as session:
        made = next(one for one in list_campaigns(session) if one.config.name == name)
        for annotator, choice in people:
            while isinstance(turn := next_assignment(session, made.id, annotator), Assignment):
                answer = Answer(choice=choice, strength="clearly", note="<img src=x onerror=alert(1)>", seconds=12)
                submit(session, turn.token, annotator, secrets.token_hex(8), answer)


def test_create_watch_and_decide(lead: Page, app: Running) -> None:
    expect(lead.get_by_text("No campaign yet.")).to_be_visible()
    create(lead, "First round")
    card = lead.locator(".lead-campaign")
    expect(card).to_contain_text("First round")
    expect(card).to_contain_text("0 of 2 pairs")
    disagree(app, "First round")
    lead.get_by_role("tab", name="Annotators").click()
    expect(lead.locator("#lead-annotators tbody tr")).to_have_count(2)
    assert barriers(lead) == []
    lead.get_by_role("tab", name="Agreement").click()
    expect(lead.locator("#lead-agreement")).to_contain_text("overall choice")
    lead.get_by_role("tab", name="Adjudicate").click()
    expect(lead.locator("#lead-adjudicate")).to_contain_text("2 pairs in disagreement")
    expect(lead.locator("#lead-adjudicate")).to_contain_text("<img src=x onerror=alert(1)>")
    lead.wait_for_function(
        "() => [...document.querySelectorAll('#lead-pair video')].every((video) => video.readyState >= 2)"
    )
    for left in ("1 pair in disagreement", "No pair in disagreement"):
        lead.locator(".lead-decision").get_by_text("A is better").click()
        lead.get_by_label("Strength").select_option("clearly")
        lead.get_by_role("button", name="Save the decision").click()
        expect(lead.locator("#lead-adjudicate .ds-body")).to_contain_text(left)
    with app.studio.database.read() as session:
        (made,) = list_campaigns(session)
        decisions = [one for one in current_labels(session, made.id) if one.kind == "adjudication"]
    assert [one.choice for one in decisions] == ["A", "A"]


@pytest.mark.usefixtures("app")
def test_refused_form_keeps_what_was_typed_and_a_reload_keeps_the_campaign(lead: Page) -> None:
    for name in ("Kept", "Later"):
        create(lead, name)
    lead.get_by_role("textbox", name="Name").fill("Kept")
    lead.get_by_label("Lease, minutes").fill("45")
    lead.get_by_role("button", name="Create the campaign").click()
    expect(lead.locator("#lead-new .ds-status")).to_contain_text("already")
    expect(lead.get_by_label("Lease, minutes")).to_have_value("45")
    lead.locator(".lead-campaign", has_text="Kept").locator(".lead-choose").click()
    expect(lead.locator(".lead-campaign.is-chosen")).to_contain_text("Kept")
    lead.reload()
    expect(lead.locator(".lead-campaign.is-chosen")).to_contain_text("Kept")
    lead.locator(".lead-campaign.is-chosen").get_by_role("button", name="Pause").click()
    expect(lead.locator(".lead-campaign.is-chosen")).to_contain_text("paused")


def test_progress_moves_by_itself_while_somebody_looks(lead: Page, app: Running) -> None:
    create(lead, "Live")
    lead.locator(".lead-campaign", has_text="Live").locator(".lead-choose").click()
    disagree(app, "Live")
    expect(lead.locator(".lead-campaign", has_text="Live")).to_contain_text("4 of 4 labels", timeout=25_000)


@pytest.mark.usefixtures("app")
def test_one_time_link_is_whole_and_shown_once(lead: Page) -> None:
    lead.get_by_role("tab", name="Accounts").click()
    lead.get_by_role("button", name="Make a one-time link").click()
    link = lead.get_by_label("One-time link for a new annotator")
    expect(link).to_have_value(lead.evaluate("() => location.origin") + "/" + link.get_attribute("data-path"))  # type: ignore[operator]
    lead.get_by_role("tab", name="Export").click()
    expect(lead.get_by_role("button", name="Download")).to_be_visible()
    lead.get_by_role("tab", name="Accounts").click()
    expect(link).to_have_count(0)


@pytest.mark.parametrize("role", [None, "annotator"])
def test_others_read_whom_the_page_is_for(browser: Browser, app: Running, role: Role | None) -> None:
    with signed_in_page(browser, app, "/lead", "Ada", role) as page:
        said = "This page is for leads" if role is None else "you are signed in as Ada"
        expect_refusal(page, ".ds-gate", said, "/lead")
        expect(page.locator("#lead-campaigns")).to_have_count(0)


def test_nothing_sticks_out_on_a_phone(browser: Browser, app: Running) -> None:
    with signed_in_page(browser, app, "/lead", viewport=PHONE) as page:
        expect(page.locator("#lead-campaigns .ds-body")).not_to_be_empty()
        assert overflow(page) <= 0
        for name in ("Annotators", "Adjudicate", "New campaign", "Accounts", "Guidelines"):
            choose_tab(page, "lead-tabs", name)
            expect(page.get_by_role("tabpanel").filter(visible=True).locator(".ds-body")).not_to_be_empty()
            assert overflow(page) <= 0, name
