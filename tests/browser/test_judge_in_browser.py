"""The Judge page as a person meets it, in a real browser that plays real H.264."""

from __future__ import annotations

import csv
import re
import zipfile
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.browser.conftest import SHIFTED, Watched, open_page, watch
from tests.helpers.studios import PROMPTS, Running, make_clip

TIMES = "() => [...document.querySelectorAll('.pair video')].map((video) => video.currentTime)"
SHOWN = "() => [...document.querySelectorAll('.view-raw')].map((box) => box.textContent.length)"
# Sampled inside the page, so that a busy machine can't come between the two readings.
PLAYED = """async () => {
  const videos = [...document.querySelectorAll('.pair video')], samples = [];
  while (videos[0].currentTime < 1.8) {
    await new Promise(requestAnimationFrame);
    if (videos.some((video) => video.paused || video.seeking)) continue;
    samples.push(videos.map((video) => video.currentTime));
  }
  return samples;
}"""
HEIGHTS = """() => [...document.querySelectorAll(".odds, .scores, .thoughts")]
  .map((box) => [box.offsetTop, box.offsetHeight]).join()"""
# One entry for each state that the page shows while an answer comes in.
WATCH = """() => {
  window.seen = [];
  const look = () => window.seen.push({
    phase: document.querySelector('.verdict').dataset.phase,
    lengths: [...document.querySelectorAll('.view-raw')].map((box) => box.textContent.length),
    rewards: [...document.querySelectorAll('.reward-main')].map((cell) => cell.textContent.trim()),
    height: ($HEIGHTS)(),
  });
  const all = {childList: true, subtree: true, characterData: true};
  new MutationObserver(look).observe(document.querySelector('#verdict'), all);
}""".replace("$HEIGHTS", HEIGHTS)
# How the pictures are enlarged and moved: [2, 0, 0, 2, x, y] is twice as large, moved by x and y pixels.
SHIFTS = """() => [...document.querySelectorAll(".pair video")]
  .map((video) => getComputedStyle(video).transform.match(/[-\\d.]+/g).map(Number))"""
MOST_SHIFTED = 0.05  # layout shift while the page loads, as browsers count it


def times(page: Page) -> tuple[float, float]:
    a, b = page.evaluate(TIMES)
    return a, b


def wait_for_times(page: Page, a: float, b: float) -> None:
    """Wait until both videos stand at these times, to .02 s."""
    page.wait_for_function(
        f"([a, b]) => {{ const at = ({TIMES})(); return Math.abs(at[0] - a) < .02 && Math.abs(at[1] - b) < .02; }}",
        arg=[a, b],
    )


def wait_for_phase(page: Page, phase: str) -> None:
    page.wait_for_function(f"() => document.querySelector('.verdict').dataset.phase === '{phase}'")


def choose_quick(page: Page) -> None:
    page.get_by_role("radio", name="Quick, no thought").check()


def judge_quickly(page: Page) -> None:
    choose_quick(page)
    page.click("#judge")
    wait_for_phase(page, "done")


def ask(page: Page, prompt: str) -> None:
    """Ask with thoughts, and come back as soon as text of both stands on the page."""
    page.fill("#prompt textarea", prompt)
    page.click("#judge")
    page.wait_for_function(f"() => ({SHOWN})().every((length) => length > 5)")


# ---- the player --------------------------------------------------------------------------------------------------


def test_pair_plays_in_sync_and_the_shorter_clip_holds_its_last_frame(watched: Watched) -> None:
    page = watched.page
    assert page.evaluate(SHIFTED) < MOST_SHIFTED
    page.click(".pair-loop")
    page.click(".pair-play")
    samples = page.evaluate(PLAYED)
    assert len(samples) > 10
    assert samples[-1][0] - samples[0][0] > 1
    assert max(abs(a - b) for a, b in samples) < 0.1
    page.wait_for_function("() => !document.querySelector('.pair').classList.contains('is-playing')")
    a, b = times(page)
    assert 1.9 <= a <= 2.0
    assert 2.85 <= b <= 3.0
    expect(page.locator(".side-a .pair-held")).to_be_visible()
    expect(page.locator(".side-b .pair-held")).to_be_hidden()


def test_loop_starts_both_again(watched: Watched) -> None:
    page = watched.page
    page.click("[data-rate='2']")
    page.click(".pair-play")
    page.wait_for_function("() => document.querySelectorAll('.pair video')[1].currentTime > 2")
    page.wait_for_function("() => document.querySelectorAll('.pair video')[1].currentTime < 1.5")
    page.wait_for_function(f"() => {{ const [a, b] = ({TIMES})(); return a > 0 && Math.abs(a - b) < 0.1; }}")
    expect(page.locator(".pair")).to_have_class(re.compile("is-playing"))


def test_keyboard_drives_the_player_but_not_while_writing(watched: Watched) -> None:
    page = watched.page
    page.keyboard.press("ArrowRight")
    wait_for_times(page, 0.5, 0.5)
    page.keyboard.press("Period")
    # A and B have 24 and 12 frames a second: one step of the faster one, to the middle of its frame.
    wait_for_times(page, (12 + 1.5) / 24, (12 + 1.5) / 24)
    page.keyboard.press("Comma")
    wait_for_times(page, (12 + 0.5) / 24, (12 + 0.5) / 24)
    page.keyboard.press("l")
    assert page.get_attribute(".pair-loop", "aria-pressed") == "false"
    page.keyboard.press("Space")
    expect(page.locator(".pair")).to_have_class(re.compile("is-playing"))
    page.keyboard.press("Space")
    page.fill("#prompt textarea", "")
    page.type("#prompt textarea", "l , . x")
    assert page.input_value("#prompt textarea") == "l , . x"
    assert page.get_attribute(".pair-loop", "aria-pressed") == "false"


def test_scrubbing_moves_both(watched: Watched) -> None:
    page = watched.page
    box = page.locator(".pair-scrub").bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + 5, box["y"] + box["height"] / 2)
    page.mouse.down()
    for share in (0.2, 0.5, 0.35):
        page.mouse.move(box["x"] + share * box["width"], box["y"] + box["height"] / 2, steps=4)
    page.mouse.up()
    in_place = "Math.abs(a - b) < 0.05 && a > 0.9 && a < 1.2"
    page.wait_for_function(f"() => {{ const [a, b] = ({TIMES})(); return {in_place}; }}")


# ---- judging -----------------------------------------------------------------------------------------------------


def test_both_thoughts_stream_before_either_ends_then_the_rewards_appear(watched: Watched) -> None:
    page = watched.page
    page.evaluate(WATCH)
    page.click("#judge")
    wait_for_phase(page, "done")
    seen = [one for one in page.evaluate("() => window.seen") if one["phase"] == "running" and min(one["lengths"]) > 0]
    assert len(seen) > 5
    for side in (0, 1):
        assert seen[0]["lengths"][side] < seen[len(seen) // 2]["lengths"][side] < seen[-1]["lengths"][side]
    growing = [one for one in seen if one["lengths"] != seen[-1]["lengths"]]
    assert all(one["rewards"] == ["–", "–"] for one in growing), "a reward came before its thought had ended"
    heights = {one["height"] for one in seen} | {page.evaluate(HEIGHTS)}
    assert len(heights) == 1, "the page jumped"
    assert all(re.search(r"\d\.\d\d SD", text) for text in page.locator(".reward-main").all_inner_texts())
    assert re.search(r"preferred|Too close", page.inner_text(".odds-headline"))
    expect(page.locator("#judge")).to_be_enabled()
    page.click("#judge")
    page.wait_for_function("() => document.querySelector('.verdict').dataset.source === 'store'")
    assert "from the store" in page.inner_text(".odds-status")


def test_cancel_stops_and_the_next_question_is_answered(watched: Watched) -> None:
    page = watched.page
    ask(page, "A question that will be cancelled.")
    page.click("#cancel")
    wait_for_phase(page, "cancelled")
    stopped = page.evaluate(SHOWN)
    expect(page.locator("#judge")).to_be_enabled()  # the stream has ended
    assert page.evaluate(SHOWN) == stopped
    judge_quickly(page)


def test_choosing_another_pair_in_mid_stream_leaves_nothing_of_the_old_one(watched: Watched) -> None:
    page = watched.page
    ask(page, "A question whose pair is left.")
    page.click("[data-id='blue']")
    expect(page.locator("#prompt textarea")).to_have_value(PROMPTS["blue"])
    expect(page.locator("#judge")).to_be_enabled()
    wait_for_phase(page, "idle")
    assert page.evaluate(SHOWN) == [0, 0]


def test_reload_in_mid_stream_leaves_a_working_app(watched: Watched, running: Running) -> None:
    page = watched.page
    ask(page, "A question that nobody waits for.")
    open_page(page, running.url)
    watched.faults.clear()  # the abandoned stream is logged by the page that is gone
    assert page.input_value("#prompt textarea") == "A question that nobody waits for."
    judge_quickly(page)


def test_error_is_shown_in_place_and_the_app_goes_on(watched: Watched) -> None:
    page = watched.page
    page.fill("#prompt textarea", "  ")
    page.click("#judge")
    wait_for_phase(page, "error")
    assert "prompt" in page.inner_text(".odds-status")
    page.fill("#prompt textarea", "A square.")
    judge_quickly(page)


# ---- choosing, bringing, voting ----------------------------------------------------------------------------------


def test_vote_survives_a_reload_and_belongs_to_its_pair(watched: Watched, running: Running) -> None:
    page = watched.page
    page.click("[data-id='blue']")
    expect(page.locator("#prompt textarea")).to_have_value(PROMPTS["blue"])
    page.fill(".vote-note", "A is steadier")
    page.click("[data-choice='A']")
    expect(page.locator("[data-choice='A']")).to_have_attribute("aria-pressed", "true")
    expect(page.locator(".vote-status")).to_contain_text("saved")
    open_page(page, running.url)
    expect(page.locator("[data-id='blue']")).to_have_attribute("aria-pressed", "true")
    expect(page.locator("[data-choice='A']")).to_have_attribute("aria-pressed", "true")
    assert page.input_value(".vote-note") == "A is steadier"
    page.click("[data-id='red']")
    expect(page.locator("[data-choice='A']")).to_have_attribute("aria-pressed", "false")


def test_own_videos_play_and_are_judged_and_a_bad_one_is_refused(watched: Watched, running: Running, tmp_path: Path) -> None:
    page = watched.page
    good = make_clip(tmp_path / "good.mp4", (200, 200, 40), seconds=1.5)
    other = make_clip(tmp_path / "other.mp4", (40, 200, 200), seconds=1.0)
    third = make_clip(tmp_path / "third.mp4", (40, 90, 200), seconds=0.8)
    bad = tmp_path / "bad.mp4"
    bad.write_bytes(good.read_bytes()[:900])
    page.click(".gallery-own")
    expect(page.locator("#prompt textarea")).to_have_value("")
    a, b = (page.locator(f".own-box.side-{side}") for side in "ab")
    a.locator("input").set_input_files(good)
    expect(a).to_contain_text("1.5 s, 128 × 128")
    b.locator("input").set_input_files(bad)
    expect(b).to_contain_text("Video B can't be used")
    b.locator("input").set_input_files(other)
    expect(b).to_contain_text("1.0 s")
    page.wait_for_function("() => Math.abs(document.querySelector('.pair video').duration - 1.5) < 0.1")
    page.fill("#prompt textarea", "A yellow square.")
    judge_quickly(page)
    shown = page.locator(".pair-side.side-a video").get_attribute("src")
    b.locator("input").set_input_files(third)  # B alone: A and the prompt stay
    expect(b).to_contain_text("0.8 s")
    wait_for_phase(page, "idle")
    assert page.locator(".pair-side.side-a video").get_attribute("src") == shown
    assert page.input_value("#prompt textarea") == "A yellow square."
    judge_quickly(page)
    headline = page.inner_text(".odds-headline")
    page.wait_for_function("() => JSON.parse(localStorage.getItem('descore-history')).length === 2")
    open_page(page, running.url)
    wait_for_phase(page, "done")  # again, without a click
    assert page.inner_text(".odds-headline") == headline
    expect(page.locator("#mode label.selected")).to_have_text("Quick, no thought")
    page.keyboard.press("h")
    expect(page.locator(".history-entry")).to_have_count(2)
    page.fill(".history-search", "no such words")
    expect(page.locator(".history-entry")).to_have_count(0)
    page.fill(".history-search", "YELLOW")
    page.locator(".history-entry").last.click()
    expect(b).to_contain_text("1.0 s")
    wait_for_phase(page, "done")


def test_a_pair_is_wiped_zoomed_swapped_and_covered_until_the_vote(watched: Watched) -> None:
    page = watched.page
    page.keyboard.press("w")
    boxes = [page.locator(f".side-{side} .pair-frame").bounding_box() for side in "ab"]
    assert boxes[0] == boxes[1], "both stand in one frame"
    page.locator(".pair-edge").fill("20")
    assert "20%" in page.evaluate("() => getComputedStyle(document.querySelector('.side-b .pair-frame')).clipPath")
    page.keyboard.press("w")
    page.keyboard.press("z")
    frame = page.locator(".side-b .pair-frame").bounding_box()
    assert frame is not None
    page.mouse.move(frame["x"] + 50, frame["y"] + 50)
    page.mouse.down()
    page.mouse.move(frame["x"] + 90, frame["y"] + 70, steps=3)
    page.mouse.up()
    shifts = page.evaluate(SHIFTS)
    assert shifts[0] == pytest.approx(shifts[1], abs=0.1)
    assert shifts[0] == pytest.approx([2, 0, 0, 2, 40, 20], abs=0.1)
    expect(page.locator(".pair")).not_to_have_class(re.compile("is-playing"))  # a drag is no click
    sources = "() => [...document.querySelectorAll('.pair video')].map((video) => video.getAttribute('src'))"
    before = page.evaluate(sources)
    page.click(".pair-swap")
    page.wait_for_function(f"([a, b]) => String(({sources})()) === String([b, a])", arg=before)
    page.locator("#vote-first input").check()
    judge_quickly(page)
    expect(page.locator(".odds-headline")).to_have_text("Vote to see the answer")
    page.keyboard.press("2")
    expect(page.locator("[data-choice='tie']")).to_have_attribute("aria-pressed", "true")
    expect(page.locator(".odds-headline")).to_contain_text(re.compile("preferred|close"))
    page.keyboard.press("n")
    expect(page.locator("[data-id='blue']")).to_have_attribute("aria-pressed", "true")


def test_phone_has_no_sideways_scroll_and_keeps_the_transport_in_reach(browser: Browser, running: Running) -> None:
    context = browser.new_context(viewport={"width": 390, "height": 844}, has_touch=True, is_mobile=True)
    watched = Watched(context.new_page())
    watch(watched, running.url)
    page = watched.page
    open_page(page, running.url)
    assert page.evaluate(SHIFTED) < MOST_SHIFTED
    assert page.evaluate("() => document.documentElement.scrollWidth") <= 390
    a, b = (page.locator(f".pair-side.side-{side}").bounding_box() for side in "ab")
    assert a is not None, "the videos are not stacked"
    assert b is not None, "the videos are not stacked"
    assert b["y"] >= a["y"] + a["height"], "the videos are not stacked"
    play = page.locator(".pair-play").bounding_box()
    assert play is not None, "the transport is off the screen"
    assert play["y"] + play["height"] <= 844, "the transport is off the screen"
    page.tap(".pair-play")
    page.wait_for_function("() => [...document.querySelectorAll('.pair video')].every((video) => video.currentTime > 0.2)")
    page.tap(".pair-play")
    choose_quick(page)
    page.tap("#judge")
    wait_for_phase(page, "done")
    assert page.evaluate("() => document.documentElement.scrollWidth") <= 390
    assert watched.elsewhere == []
    assert watched.faults == []
    context.close()


def test_a_zip_with_a_table_is_judged_sorted_and_saved(watched: Watched, tmp_path: Path) -> None:
    page = watched.page
    rows = [
        "left_video;right_video;caption",
        "clips/a.mp4;clips/b.mp4;One.",
        "clips/b.mp4;clips/a.mp4;Two.",
        "c.mp4;a.mp4;Three.",
    ]
    with zipfile.ZipFile(tmp_path / "pairs.zip", "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("pairs/pairs.csv", "\n".join(rows))
        for name, colour in (("a", (200, 40, 90)), ("b", (40, 90, 200))):
            file.write(make_clip(tmp_path / f"{name}.mp4", colour, seconds=0.5), f"pairs/clips/{name}.mp4")
    page.keyboard.press("m")
    page.locator(".batch-input").set_input_files(tmp_path / "pairs.zip")
    expect(page.locator(".batch-found")).to_contain_text("3 pairs; 1 without their videos")
    page.select_option(".batch-mode", "quick")
    page.click(".batch-start")
    expect(page.locator(".batch-status")).to_have_text("2 of 3 judged, 1 with an error")
    expect(page.locator(".batch-stop")).to_be_disabled()
    page.get_by_role("button", name="prompt", exact=True).click()
    expect(page.locator(".batch tbody [data-name='prompt']")).to_have_text(["One.", "Three.", "Two."])
    page.select_option(".batch-show", "error")
    expect(page.locator(".batch tbody [data-name='verdict']")).to_have_text(["not among the files: c.mp4"])
    page.select_option(".batch-show", "")
    with page.expect_download() as download:
        page.click(".batch-csv")
    saved = list(csv.DictReader(download.value.path().read_text("utf-8-sig").splitlines()))
    assert [row["prompt"] for row in saved] == ["One.", "Three.", "Two."]
    assert float(saved[0]["P(A preferred)"]) == pytest.approx(1 - float(saved[2]["P(A preferred)"]), abs=0.02)
    page.locator(".batch tbody tr").first.click()
    expect(page.locator("#prompt textarea")).to_have_value("One.")
    wait_for_phase(page, "done")


# ---- links -------------------------------------------------------------------------------------------------------


def test_a_pair_is_shared_opened_by_somebody_else_and_ended(
    watched: Watched, browser: Browser, running: Running, tmp_path: Path
) -> None:
    page = watched.page
    clips = make_clip(tmp_path / "a.mp4", (200, 120, 40)), make_clip(tmp_path / "b.mp4", (40, 120, 200))
    bring(page, *clips, "A shared square.")
    expect(page.locator(".share")).to_be_hidden()
    judge_quickly(page)
    page.click(".share-make")
    link = page.locator(".share-link")
    expect(link).to_have_value(re.compile(rf"^{re.escape(running.url)}/judge\?share=[\w-]{{43}}$"))
    expect(page.locator(".share-title")).to_contain_text("until 20")
    address, headline = link.input_value(), page.inner_text(".odds-headline")
    watched.faults.clear()  # the preview of Gradio's box looks for a module of its own, which the policy forbids

    context = browser.new_context(viewport={"width": 1360, "height": 900})
    guest = Watched(context.new_page())
    watch(guest, running.url)
    open_page(guest.page, address)
    wait_for_phase(guest.page, "done")
    expect(guest.page.locator("#prompt textarea")).to_have_value("A shared square.")
    expect(guest.page.locator("#prompt textarea")).to_be_disabled()
    assert guest.page.inner_text(".odds-headline") == headline
    expect(guest.page.locator("#link-notice")).to_contain_text("Somebody shared this pair")
    expect(guest.page.locator(".share")).to_be_hidden()
    assert all("/shared/" in video.get_attribute("src") for video in guest.page.locator(".pair video").all())
    guest.page.click(".pair-play")
    guest.page.wait_for_function(f"() => ({TIMES})().every((time) => time > 0.2)")
    open_page(guest.page, guest.page.url)  # a reload opens it again
    wait_for_phase(guest.page, "done")
    guest.page.click("[data-id='red']")  # and another pair leaves it
    expect(guest.page.locator("#prompt textarea")).to_have_value(PROMPTS["red"])
    expect(guest.page.locator("#prompt textarea")).to_be_enabled()
    expect(guest.page.locator("#link-notice")).to_be_hidden()
    guest.page.wait_for_url(f"{running.url}/")

    open_page(page, running.url)  # the maker comes back and finds it
    expect(page.locator(".share-title")).to_contain_text("You shared this pair")
    page.click(".share-end")
    expect(page.locator(".share-status")).to_contain_text("The link has ended")
    guest.page.goto(address)
    expect(guest.page.locator("#link-notice")).to_contain_text("This link ended on 20")
    context.close()
    assert (guest.elsewhere, guest.faults) == ([], [])


def test_a_link_to_a_bundled_pair_is_copied_and_opens_it(watched: Watched, running: Running) -> None:
    page = watched.page
    page.click("[data-id='blue']")
    expect(page.locator(".share-link")).to_have_value(f"{running.url}/judge?pair=blue")
    page.click(".share-copy")
    expect(page.locator(".share-copy")).to_have_text("Copied")
    page.click("[data-id='red']")
    expect(page.locator(".share-link")).to_have_value(f"{running.url}/judge?pair=red")
    expect(page.locator("[data-id='red']")).to_have_attribute("aria-pressed", "true")
    open_page(page, f"{running.url}/judge?pair=blue")
    expect(page.locator("#prompt textarea")).to_have_value(PROMPTS["blue"])
    expect(page.locator("[data-id='blue']")).to_have_attribute("aria-pressed", "true")
    page.wait_for_url(f"{running.url}/")


def bring(page: Page, a: Path, b: Path, prompt: str) -> None:
    """Use two videos of one's own, chosen at once."""
    page.click(".gallery-own")
    expect(page.locator("#prompt textarea")).to_have_value("")
    page.locator(".own input[type=file]").first.set_input_files([a, b])
    page.fill("#prompt textarea", prompt)
    expect(page.locator(".own-poster:visible")).to_have_count(2)
