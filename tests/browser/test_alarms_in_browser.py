"""Alarms and curves of health on the Train page: they come and go while a run goes on, without a reload."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from playwright.sync_api import Browser, expect

from storage.training.run_folder import METRICS, RunLock
from storage.training.runs import Run, RunRequest, create_run, finish, mark_running, request_cancel
from storage.training.snapshots import Snapshot, SnapshotPair
from tests.helpers.pages import PHONE, overflow, signed_in_page
from tests.helpers.tiny_runs import tiny_config, tiny_pairs, tiny_run

if TYPE_CHECKING:
    from tests.helpers.studios import Running

pytestmark = pytest.mark.training

STEPS = 6
FROZEN = Snapshot((SnapshotPair(1, "new", "abc", 1, 1.0, {}, ()),), "hash", 0, {"new": 1}, {"held_out_share": 0.2})
REQUEST = RunRequest("train", "week 12", "another machine", 1, 1, ("dual-rl",), "current", "tiny-cpu")
COMES_FIRST = "document.querySelector('.train-run').compareDocumentPosition(document.querySelector('.train-news')) & 4"


@pytest.fixture
def run(running: Running, tmp_path: Path) -> Iterator[Run]:
    """A run that goes on, in whose folder stage 2 of a tiny random model has trained: its thoughts are all cut off."""
    config = tiny_config(save_every=STEPS)
    tiny_run("dual-rl", replace(config, dual_rl=replace(config.dual_rl, steps=STEPS)), tiny_pairs(4), tmp_path)
    database = running.studio.database
    with database.write() as session:
        made = create_run(session, REQUEST, FROZEN, None)
    folder = database.home / made.folder
    (folder / "dual-rl").mkdir(parents=True)
    (folder / "dual-rl" / METRICS).write_bytes((tmp_path / "run" / METRICS).read_bytes())
    with RunLock(folder):
        with database.write() as session:
            mark_running(session, made.id, os.getpid(), socket.gethostname())
        yield made
        with database.write() as session:
            finish(session, made.id, "cancelled", 143, "stopped")


def test_an_alarm_comes_and_goes_while_the_run_goes_on(browser: Browser, running: Running, run: Run) -> None:
    metrics = running.studio.database.home / run.folder / "dual-rl" / METRICS
    with signed_in_page(browser, running, f"/train#run-{run.id}") as page:
        alarm = page.locator(".train-notices .is-alarm", has_text="cut off at the limit")
        expect(alarm).to_contain_text("dual RL, since step 5")
        expect(alarm).to_contain_text("Raise dual_rl.objective.max_tokens")
        for name, about in (("health", "All should stay low"), ("entropy", "near zero"), ("outside", "should be near zero")):
            expect(page.locator(f".train-figure:has([data-figure={name}]) figcaption")).to_contain_text(about)
        page.locator("[data-figure=health] .main-svg").first.wait_for()
        rows = [json.loads(line) for line in metrics.read_text().splitlines()]
        assert page.evaluate("document.querySelector('[data-figure=health]').data[0].y") == pytest.approx(
            [row["cut_off"] for row in rows], rel=1e-4
        )

        # The next steps, as a log has them: thoughts end by themselves, and memory runs out once.
        with metrics.open("a") as file:
            for step in range(STEPS, STEPS + 6):
                file.write(
                    json.dumps({**rows[-1], "step": step, "cut_off": 0.0, "out_of_memory": 1, "forward_tokens": 512}) + "\n"
                )
        past = page.locator(".train-notices .is-past")
        expect(past.filter(has_text="cut off at the limit")).to_contain_text("steps 5 to")
        expect(alarm).to_have_count(0)
        expect(past.filter(has_text="Memory ran out once; sequences now go through in pieces of 512 tokens")).to_be_visible()

        # What runs stands on top. Ticked beside another run it stands beside that one, after a reload too; so does a note.
        assert page.evaluate(COMES_FIRST)
        with running.studio.database.write() as session:
            other = create_run(session, replace(REQUEST, name="week 13"), FROZEN, None)
            request_cancel(session, other.id)
        page.get_by_text("Write a note").click()
        page.get_by_label("Note on week 12").fill("too many are cut off")
        page.get_by_role("button", name="Save note").click()
        for number in (run.id, other.id):
            page.locator(f"[data-compare='{number}']").check()
        for _ in range(2):
            expect(page.locator(".train-comparison")).to_contain_text("2 runs compared")
            page.locator(".train-compare [data-figure=entropy] .main-svg").first.wait_for()
            expect(page.locator(".train-note-text")).to_have_text("too many are cut off")
            page.reload()


def test_alarms_fit_on_a_phone(browser: Browser, running: Running, run: Run) -> None:
    with signed_in_page(browser, running, f"/train#run-{run.id}", viewport=PHONE) as page:
        expect(page.locator(".train-notices .is-alarm").first).to_be_visible()
        page.locator("[data-figure=outside] .main-svg").first.wait_for()
        assert overflow(page) <= 0
