"""A retrain by pack, as a lead meets it: chosen on the page, trained in a terminal, brought back, promoted."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from app.judge.gallery import FOLDER
from tests.helpers.pages import PHONE, overflow, signed_in_page
from tests.helpers.paths import ROOT
from tests.helpers.rounds import label_round, no_run_left, open_round
from tests.helpers.studios import Running, running_studio

pytestmark = pytest.mark.training

PATIENCE = 600_000  # milliseconds; a run takes half a minute on a machine of one's own


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """An app of its own with the bundled checkpoint, labels, and jobs of SLURM that can't be handed in."""
    with running_studio(tmp_path_factory.mktemp("places"), "bundled", FOLDER) as app, no_run_left(app):
        label_round(app, open_round(app))
        (app.studio.database.home / "slurm.yaml").write_text("gpus: 8\n")
        yield app


@pytest.fixture
def lead(browser: Browser, app: Running) -> Iterator[Page]:
    """A lead's browser on the Train page. Faults and foreign requests fail the test."""
    with signed_in_page(browser, app, "/train") as page:
        page.set_default_timeout(PATIENCE)
        page.on("dialog", lambda dialog: dialog.accept())
        yield page


def train(command: str, folder: Path) -> None:
    """Type the page's command on "the other machine": a folder and a data folder of its own, no store."""
    words = [word.replace("~/", f"{folder}/") for word in shlex.split(command)]
    assert words[:4] == ["python", "-m", "trainer", "run"]
    environment = {**os.environ, "DESCORE_HOME": str(folder / "none"), "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    environment.pop("DATABASE_URL", None)
    done = subprocess.run(
        [sys.executable, *words[1:]], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert not (folder / "none").exists()


@pytest.mark.endurance
def test_retrain_by_pack_and_promote(browser: Browser, app: Running, lead: Page, tmp_path: Path) -> None:
    # Where it runs: this machine is chosen, SLURM says what it lacks.
    expect(lead.locator("[name=place][value=here]")).to_be_checked()
    expect(lead.locator("[name=place][value=slurm]")).to_be_disabled()
    expect(lead.locator(".train-choices")).to_contain_text("can't hand in jobs")
    lead.get_by_text("Cold start only").click()
    lead.get_by_label("Cold start, steps").fill("2")
    lead.get_by_label("Name").fill("from elsewhere")
    lead.locator("[name=place][value=elsewhere]").check()
    expect(lead.locator(".train-plan-box")).to_contain_text("the commands for the other machine")
    expect(lead.get_by_label("Cold start, steps")).to_have_value("2")  # another place leaves what was typed
    lead.get_by_text("Which labels, and the comparison").click()
    lead.get_by_label("Benchmark pairs").fill("0")
    lead.get_by_role("button", name="Retrain").click()

    # The commands to type. The folder is taken away: a copy elsewhere is trained.
    away = lead.locator(".train-away")
    expect(away.locator("#train-step-train")).to_be_visible()
    expect(lead.locator(".train-head")).to_contain_text("elsewhere")
    field = away.get_by_label("Folder of the finished pack")
    pack = Path(field.input_value())
    assert str(pack) in away.locator("#train-step-take").inner_text()
    there = tmp_path / "other machine"
    shutil.copytree(pack, there / pack.name)

    # Not finished yet: refused at once, in a sentence.
    away.get_by_role("button", name="Bring the result back").click()
    expect(lead.locator(".train-status")).to_contain_text("is not finished")
    train(away.locator("#train-step-train").inner_text(), there)

    with signed_in_page(browser, app, "/train", viewport=PHONE) as phone:
        expect(phone.locator(".train-away")).to_be_visible()
        assert overflow(phone) <= 0

    # A damaged copy is refused once its files were checked; then the result.
    damaged = Path(shutil.copytree(there / pack.name, tmp_path / "damaged"))
    (damaged / "run" / "cold-start" / "report.json").write_text("{}")
    field.fill(str(damaged))
    away.get_by_role("button", name="Bring the result back").click()
    expect(away.locator(".train-message")).to_contain_text("report.json is not the file that was written")
    away.get_by_label("Folder of the finished pack").fill(str(there / pack.name))
    away.get_by_role("button", name="Bring the result back").click()
    lead.locator(".train-verdict").wait_for(timeout=PATIENCE)
    expect(lead.locator(".train-sentence")).to_contain_text("held-out pairs")
    expect(away).to_be_hidden()
    expect(lead.locator("[data-figure=loss]")).to_be_visible()

    lead.locator(".train-head").get_by_role("button", name="Promote").click()
    expect(lead.locator(".train-status")).to_contain_text("from elsewhere serves from now on")
    expect(lead.locator(".page-head .served")).to_contain_text("from elsewhere")
