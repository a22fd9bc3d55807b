"""The Label page as an annotator meets it, in a real browser that plays real H.264."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, Route, expect

from descore.answer import DIMENSIONS
from storage.campaigns.campaign import Campaign, Gold
from storage.labelling.assignments import history
from storage.labelling.labels import Label, revisions
from storage.pairs import list_pairs
from tests.browser.conftest import Watched, watch
from tests.helpers.accessibility import barriers
from tests.helpers.accounts import person, sign_in_browser
from tests.helpers.campaigns import GENERATORS, SECRETS, make_campaign

if TYPE_CHECKING:
    from tests.helpers.studios import Running

Enter = Callable[..., Page]
BODIES = re.compile(r"json|html|javascript|text")


@pytest.fixture
def enter(browser: Browser, running: Running) -> Iterator[Enter]:
    """Opens a campaign for somebody in a fresh profile. Faults and foreign requests fail the test."""
    opened: list[tuple[BrowserContext, Watched]] = []

    def open_for(name: str, campaign: Campaign, faults: bool = False, **options: Any) -> Page:
        context = browser.new_context(**({"viewport": {"width": 1360, "height": 900}} | options))
        sign_in_browser(context, running, name)
        watched = Watched(context.new_page())
        if not faults:
            watch(watched, running.url)
        opened.append((context, watched))
        watched.page.goto(f"{running.url}/label?campaign={campaign.id}")
        wait_for(watched.page, "labelling")
        return watched.page

    yield open_for
    for context, watched in opened:
        context.close()
        assert watched.elsewhere == [], "the page asked other machines"
        assert watched.faults == [], "the browser's console reports errors"


def wait_for(page: Page, state: str) -> None:
    page.locator(f".label[data-state={state}]").wait_for()


def press(page: Page, keys: str) -> None:
    """Press keys, written with blanks between them."""
    for key in keys.split():
        page.keyboard.press(key)


def score_all(page: Page, left: str = "q", right: str = "o") -> None:
    press(page, " ".join([left, right] * len(DIMENSIONS)))


def prompt_of(page: Page) -> str:
    return page.inner_text(".label-prompt-text")


def other_pair(page: Page, before: str) -> str:
    """Wait until another prompt stands there, and return it."""
    expect(page.locator(".label-prompt-text")).not_to_have_text(before)
    return prompt_of(page)


def pressed(page: Page) -> list[str]:
    """What is chosen: the preference, then the sub-scores in reading order."""
    found: list[str] = page.evaluate(
        "() => [...document.querySelectorAll('.label-form [aria-pressed=true]')].map((one) => one.firstChild.data.trim())"
    )
    return found


def labels_of(running: Running, prompt: str) -> tuple[Label, ...]:
    """All revisions of the pair with this prompt."""
    with running.studio.database.read() as session:
        pair = next(one for one in list_pairs(session, "test") if one.prompt == prompt)
        return revisions(session, pair.id)


# ---- a session ---------------------------------------------------------------------------------------------------


def test_a_whole_session_by_keyboard_alone(enter: Enter, running: Running) -> None:
    page = enter("Kay", make_campaign(running, "by keys", number=3))
    status = page.locator(".label-status")
    first = prompt_of(page)
    press(page, "Enter")
    expect(status).to_contain_text("overall preference is missing")
    press(page, "4 q o w i ArrowDown ArrowUp")
    press(page, "Enter")
    expect(status).to_contain_text("camera has no score for A and B yet")
    assert page.locator(".label-row.is-current").get_attribute("data-dimension") == "camera"
    press(page, "e u r p q o")
    assert pressed(page) == ["B slightly", "2", "0", "1", "1", "0", "2", "N/A", "N/A", "2", "0"]
    press(page, "ArrowRight m ArrowRight n ArrowRight m")
    expect(page.locator(".label-chip")).to_have_count(3)
    expect(page.locator(".pair-ticks i")).to_have_count(3)
    press(page, "/")
    page.keyboard.type("the square melts, 1 2 q s?")
    press(page, "Escape Enter")
    second = other_pair(page, first)
    (label,) = labels_of(running, first)
    chosen = {"A": "B", "B": "A"}[label.left_video]
    assert (label.choice, label.strength, label.note) == (chosen, "slightly", "the square melts, 1 2 q s?")
    assert label.sub_scores[chosen] == dict(zip(DIMENSIONS, ("0", "1", "2", "N/A", "0"), strict=True))
    assert sorted(mark["time"] for mark in label.marks if mark["video"] == label.left_video) == [0.5, 1.5]

    press(page, "s")
    expect(page.locator("dialog[open]")).to_be_visible()
    press(page, "2")
    third = other_pair(page, second)
    assert [one.action for one in labels_of(running, second)] == ["skip"]
    press(page, "z")
    assert other_pair(page, third) == second
    expect(status).to_contain_text("Taken back")
    press(page, "1")
    score_all(page)
    press(page, "Enter")
    assert other_pair(page, second) == third
    assert [one.action for one in labels_of(running, second)] == ["skip", "withdraw", "label"]

    press(page, "f")
    expect(page.locator("dialog[open] h2")).to_have_text("What is broken?")
    press(page, "/")
    page.keyboard.type("1 frame only")
    press(page, "Enter")
    wait_for(page, "waiting")
    expect(page.locator(".label-wait h2")).to_have_text("Nothing left to do here")
    assert labels_of(running, third)[-1].reason == "1 frame only"

    press(page, "h")
    expect(page.locator(".label-history li")).to_have_count(3)
    press(page, "Tab Tab Enter")
    wait_for(page, "labelling")


def test_an_earlier_label_is_changed_and_the_open_pair_comes_back(enter: Enter, running: Running) -> None:
    page = enter("Edith", make_campaign(running, "edits", number=2))
    first = prompt_of(page)
    press(page, "1")
    score_all(page)
    press(page, "Enter")
    second = other_pair(page, first)
    press(page, "3")
    page.get_by_role("button", name="edit", exact=True).click()
    assert other_pair(page, second) == first
    assert pressed(page)[0] == "A clearly"
    expect(page.locator(".label-badge")).to_have_text("changing an earlier label")
    press(page, "Escape")
    assert other_pair(page, first) == second
    assert pressed(page) == ["tie"]
    page.get_by_role("button", name="edit", exact=True).click()
    other_pair(page, second)
    press(page, "0 Enter")
    assert other_pair(page, first) == second
    assert pressed(page) == ["tie"]
    assert [one.choice for one in labels_of(running, first)][1:] == ["both_bad"]


def test_reload_in_the_middle_of_a_draft_resumes_exactly_there(enter: Enter, running: Running) -> None:
    campaign = make_campaign(running, "reloads")
    page = enter("Rel", campaign)
    prompt = prompt_of(page)
    press(page, "2 q o w ArrowRight m /")
    page.keyboard.type("half a thou")
    page.reload()  # within half a second: what was typed last is sent while the page goes
    wait_for(page, "labelling")
    expect(page.locator(".label-prompt-text")).to_have_text(prompt)

    def check(page: Page) -> None:
        assert pressed(page) == ["A slightly", "2", "0", "1"]
        assert page.input_value(".label-note textarea") == "half a thou"
        expect(page.locator(".label-chip")).to_have_text("A0.50 s\u00d7")
        assert page.locator(".label-row.is-current").get_attribute("data-dimension") == "dynamics"

    check(page)
    elsewhere = enter("Rel", campaign)
    expect(elsewhere.locator(".label-prompt-text")).to_have_text(prompt)
    check(elsewhere)


def test_two_annotators_at_once_get_their_own_sides_and_keep_apart(enter: Enter, running: Running) -> None:
    campaign = make_campaign(running, "two", number=6, overlap=2)
    names = ("Anke", "Bernd")
    pages = [enter(name, campaign) for name in names]
    seen: dict[str, dict[str, str]] = {name: {} for name in names}
    for _ in range(6):
        for name, page in zip(names, pages, strict=True):
            seen[name][prompt_of(page)] = page.get_attribute(".pair-side.side-a video", "src") or ""
            press(page, "1" if name == "Anke" else "5")
        for page in pages:
            prompt = prompt_of(page)
            score_all(page)
            press(page, "Enter")
            expect(page.locator(".label-prompt-text, .label-wait h2").filter(visible=True)).not_to_have_text(prompt)
    assert set(seen["Anke"]) == set(seen["Bernd"])
    assert len(seen["Anke"]) == 6
    assert any(seen["Anke"][prompt] != seen["Bernd"][prompt] for prompt in seen["Anke"]), "sides belong to the person"
    for name, key in zip(names, ("left", "right"), strict=True):
        user = person(running, name)
        with running.studio.database.read() as session:
            for turn in history(session, campaign.id, user.id):
                assert turn.label is not None
                at_left = turn.pair.video_a if turn.left_video == "A" else turn.pair.video_b
                assert seen[name][turn.pair.prompt].endswith(at_left.public_id)
                assert (turn.label.choice == turn.left_video) == (key == "left")


def test_practice_pairs_tell_the_agreed_answer(enter: Enter, running: Running) -> None:
    gold = {0: Gold("tie", None, "Both squares move alike.")}
    page = enter("Pat", make_campaign(running, "practice page", number=2, gold=gold, qualification_pairs=1))
    expect(page.locator(".label-badge")).to_have_text("practice pair 1 of 1")
    prompt = prompt_of(page)
    press(page, "3")
    score_all(page)
    press(page, "Enter")
    wait_for(page, "feedback")
    expect(page.locator(".label-feedback")).to_contain_text("Both squares move alike.")
    press(page, "Enter")
    wait_for(page, "labelling")
    other_pair(page, prompt)
    expect(page.locator(".label-badge")).to_be_hidden()


# ---- what may not be seen ----------------------------------------------------------------------------------------


def test_a_blinded_page_and_all_its_network_answers_hold_no_generator_name(enter: Enter, running: Running) -> None:
    campaign = make_campaign(running, "unseen", number=2)
    page = enter("Blinda", campaign)
    heard: list[tuple[str, str]] = []

    def listen(response: Any) -> None:
        if BODIES.search(response.headers.get("content-type", "")) and response.request.resource_type != "media":
            heard.append((response.url, response.text()))

    page.on("requestfinished", lambda request: listen(request.response()))
    page.reload()
    wait_for(page, "labelling")
    prompt = prompt_of(page)
    press(page, "2")
    score_all(page)
    press(page, "h")
    expect(page.locator("dialog[open] .label-faint")).to_have_text("Nothing yet.")
    press(page, "h g")
    expect(page.locator("dialog[open]")).to_contain_text("version 1")
    press(page, "g Enter")
    other_pair(page, prompt)
    heard.append(("the page itself", page.content()))
    assert any("/api/label/next" in url for url, _ in heard)
    assert any("/api/label/submit" in url for url, _ in heard)
    own = [(url, text) for url, text in heard if "/assets/" not in url and "/static/" not in url]
    for url, text in own:
        assert not [secret for secret in SECRETS if secret in text], url
    addresses = page.evaluate("() => performance.getEntriesByType('resource').map((one) => one.name)")
    assert not [url for url in addresses for secret in SECRETS if secret in url]

    press(page, "c")
    drawer = page.locator("dialog[open]")
    expect(drawer).to_contain_text("made by")
    assert all(name in drawer.inner_text() for name in SECRETS[:5])
    expect(drawer).to_contain_text("A slightly")


def test_without_a_sign_in_the_page_says_so(browser: Browser, running: Running) -> None:
    page = browser.new_page()
    page.goto(f"{running.url}/label")
    wait_for(page, "waiting")
    expect(page.locator(".label-wait h2")).to_have_text("You are not signed in")
    page.locator(".label-wait").get_by_role("link", name="Sign in").click()
    page.wait_for_url("**/sign-in?next=/label")
    page.close()


# ---- keys --------------------------------------------------------------------------------------------------------


def test_keys_are_off_while_typing_in_dialogs_and_with_control(enter: Enter, running: Running) -> None:
    page = enter("Tim", make_campaign(running, "typing"))
    press(page, "Control+s Alt+1 Meta+q Control+z Control+Enter")
    assert pressed(page) == []
    assert page.locator("dialog[open]").count() == 0
    press(page, "/")
    page.keyboard.type("1qszhg?mn l,.[]0/")
    assert page.input_value(".label-note textarea") == "1qszhg?mn l,.[]0/"
    assert pressed(page) == []
    assert page.locator("dialog[open]").count() == 0
    assert page.get_attribute(".pair-loop", "aria-pressed") == "true"
    press(page, "Escape")
    for key in ("?", "h", "g"):
        press(page, key)
        expect(page.locator("dialog[open]")).to_have_count(1)
        press(page, "1 q u m l")
        press(page, key)
        expect(page.locator("dialog[open]")).to_have_count(0)
    # At once after a dialog was left by Escape, keys mean what they mean on the page.
    press(page, "s Escape 3")
    assert pressed(page) == ["tie"]
    assert page.locator(".label-chip").count() == 0
    assert page.get_attribute(".pair-loop", "aria-pressed") == "true"
    press(page, "]")
    expect(page.locator(".pair-speed [aria-pressed=true]")).to_have_text("2\u00d7")
    press(page, "[ [")
    expect(page.locator(".pair-speed [aria-pressed=true]")).to_have_text("0.5\u00d7")


# ---- sending -----------------------------------------------------------------------------------------------------


def test_a_lost_answer_is_sent_again_and_saved_once(enter: Enter, running: Running) -> None:
    page = enter("Nina", make_campaign(running, "network"), faults=True)
    prompt, bodies = prompt_of(page), []

    def lose(route: Route) -> None:
        bodies.append(route.request.post_data_json)
        if len(bodies) == 1:
            route.abort()
        elif len(bodies) == 2:
            route.fetch()  # arrives, but its answer is lost
            route.abort()
        else:
            route.continue_()

    page.route("**/api/label/submit", lose)
    press(page, "2")
    score_all(page)
    press(page, "Enter Enter Enter")
    expect(page.locator(".label-status")).to_have_text("not saved yet, trying again")
    other_pair(page, prompt)
    assert len(bodies) == 3
    assert len({body["submission"] for body in bodies}) == 1
    assert len(labels_of(running, prompt)) == 1


def test_time_and_watched_parts_are_counted_and_survive_a_reload(enter: Enter, running: Running) -> None:
    page = enter("Tess", make_campaign(running, "watched"))
    prompt = prompt_of(page)
    page.wait_for_function("() => [...document.querySelectorAll('.pair video')].every((one) => one.readyState >= 3)")
    press(page, "l Space")
    expect(page.locator(".pair")).not_to_have_class(re.compile("is-playing"))
    press(page, "3")
    expect(page.locator(".label-status")).to_have_text("draft saved")
    page.reload()
    wait_for(page, "labelling")
    score_all(page)
    press(page, "Enter")
    other_pair(page, prompt)
    (label,) = labels_of(running, prompt)
    assert 2.5 < label.seconds < 60
    for facts in label.playback.values():
        assert facts["watched"] >= 0.9
        assert facts["plays"] == 1


def test_everything_for_a_label_is_on_one_screen(enter: Enter, running: Running) -> None:
    page = enter("Ona", make_campaign(running, "screen"))
    for selector in (".label-prompt", ".pair-transport", ".label-overall", ".label-grid", ".label-note", ".label-foot"):
        box = page.locator(selector).bounding_box()
        assert box is not None, selector
        assert box["y"] >= 0, selector
        assert box["y"] + box["height"] <= 900, selector
    assert page.evaluate("() => document.documentElement.scrollWidth") <= 1360
    assert barriers(page) == []


def test_a_phone_labels_by_touch_with_submit_in_reach(enter: Enter, running: Running) -> None:
    campaign = make_campaign(running, "phone")
    page = enter("Fon", campaign, viewport={"width": 390, "height": 844}, has_touch=True, is_mobile=True)
    assert page.evaluate("() => document.documentElement.scrollWidth") <= 390
    a, b = (page.locator(f".pair-side.side-{side}").bounding_box() for side in "ab")
    assert a is not None, "the videos are not stacked"
    assert b is not None, "the videos are not stacked"
    assert b["y"] >= a["y"] + a["height"], "the videos are not stacked"
    prompt = prompt_of(page)

    def submit_is_in_reach() -> None:
        box = page.locator(".label-form .label-submit").bounding_box()
        assert box is not None
        assert box["y"] + box["height"] <= 844
        assert box["height"] >= 44

    submit_is_in_reach()
    page.locator(".label-form .label-submit").tap()  # before anything is chosen
    status = page.locator(".label-status")
    expect(status).to_contain_text("overall preference is missing")
    expect(status).to_be_in_viewport(ratio=1)
    covers = "(node) => { const box = node.getBoundingClientRect();"
    covers += " return document.elementFromPoint(box.x + box.width / 2, box.y + box.height / 2) === node; }"
    assert status.evaluate(covers), "something lies over the message"
    page.get_by_role("button", name="B clearly").tap()
    for name in DIMENSIONS:
        for letter in "AB":
            page.get_by_role("button", name=f"{letter}, {name}: 1").tap()
    submit_is_in_reach()
    page.locator(".label-form .label-submit").tap()
    other_pair(page, prompt)
    expect(page.locator(".label-prompt")).to_be_in_viewport()
    (label,) = labels_of(running, prompt)
    assert label.choice != label.left_video
    assert label.strength == "clearly"


def test_an_assisted_campaign_shows_what_it_opens_while_labelling(enter: Enter, running: Running) -> None:
    page = enter("Assa", make_campaign(running, "assisted page", visible=("generators", "thoughts", "rewards")))
    line = page.locator(".label-open")
    expect(line).to_contain_text("preferred")
    expect(line).to_contain_text(GENERATORS[0])
    # The model's score for each cell of the grid.
    expect(page.locator(".label-cells .is-suggested")).to_have_count(2 * len(DIMENSIONS))
    press(page, "t")
    expect(page.locator("dialog[open]")).to_contain_text("Vlimber")
    press(page, "t 1")
    assert pressed(page) == ["A clearly"]
