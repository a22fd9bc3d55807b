"""The Analyse page's handlers and route against a real server, with what the bundled checkpoint says of ShapeWorld pairs."""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy import update

from app.analyse.figures.judged_pairs import FITTED_HERE
from app.analyse.figures.plot_style import COLOURS
from app.ui.assets import read_static
from storage.analysis.external_scores import external_scores, scorers
from storage.analysis.judged_pairs import analysed_pairs
from storage.pairs import Pair
from storage.schema import CheckpointRow
from storage.training.runs import list_runs
from tests.helpers.accounts import signed_in_client
from tests.helpers.analysed_studio import GENERATORS, SOURCE, add_gallery_pairs, judge_pairs, label_pairs
from tests.helpers.direct_calls import call, handlers
from tests.helpers.studios import Running, running_studio

pytestmark = pytest.mark.slow

TABS = ("agreement", "disagreements", "hacking", "generators", "benchmarks", "report")
ACTS = ("choose", "score", "cancel-run", "resume-run", "look", "turn", "import", "leave")
SECRETS = ("Zoe", *GENERATORS, SOURCE, "analyse-finding")


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """An app that serves the bundled checkpoint; its supervisor rests, so that runs stay where they are."""
    with running_studio(tmp_path_factory.mktemp("analyse"), checkpoint="bundled") as app:
        app.studio.supervisor.close()
        yield app


@pytest.fixture(scope="module")
def pairs(app: Running) -> list[Pair]:
    """Four pairs; people contradict the model on the first one."""
    pairs = add_gallery_pairs(app, 4)
    judge_pairs(app, pairs)
    label_pairs(app, "first round", pairs, contradict=1)
    return pairs


class Desk:
    """One tab of a browser on the Analyse page."""

    def __init__(self, running: Running, client: httpx.Client) -> None:
        self.running, self.client, self.session = running, client, secrets.token_hex(8)

    def act(self, section: str, act: str, key: object = "", **fields: Any) -> dict[str, Any]:
        """Press a button or send a form of a section; the panel's value."""
        event = {"asked": {"act": act, "id": str(key), **fields}}
        return dict(self._call(f"analyse-{section}", "act", event)[0])

    def open(self, section: str) -> list[Any]:
        """Bring a tab to the front; the values of its components."""
        return self._call(section, "select", None)[1:]

    def html(self, section: str) -> str:
        """What the panel of a tab shows."""
        return str(self.open(section)[0]["html"])

    def _call(self, name: str, kind: str, event: dict[str, Any] | None) -> list[Any]:
        blocks = self.running.studio.blocks
        for number, function in blocks.fns.items():
            for target, found in function.targets:
                block = blocks.blocks.get(target) if target is not None else None
                named = name in (getattr(block, "elem_id", None), getattr(block, "id", None))
                if function.page == "analyse" and found == kind and named:
                    inputs = [None] * len(function.inputs)
                    return list(call(self.client, number, inputs, event, self.session)["output"]["data"])
        raise AssertionError(f"{name} has no {kind}")


@pytest.fixture
def desk(app: Running, pairs: list[Pair]) -> Desk:  # noqa: ARG001 - labelled before the page is asked
    return Desk(app, signed_in_client(app, "Mira", "lead"))


def figures(html: str) -> list[dict[str, Any]]:
    """The figures of a panel, as the browser reads them."""
    found = re.findall(r'<script type="application/json" class="analyse-figure">(.*?)</script>', html, re.DOTALL)
    return [json.loads(one) for one in found]


# ---- who may --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("role", ["nobody", "annotator"])
def test_no_handler_tells_or_does_anything_for_others(app: Running, pairs: list[Pair], role: str) -> None:
    """Every handler of the page, called by hand with what would name a pair, a run or an act."""
    client = httpx.Client(base_url=app.url) if role == "nobody" else signed_in_client(app, "Ada", "annotator")
    with app.studio.database.read() as session:
        before = len(list_runs(session))
    html = ""
    for number in handlers(app, "analyse"):
        function = app.studio.blocks.fns[number]
        inputs = [None] * len(function.inputs)
        for act in ACTS if function.collects_event_data else ACTS[:1]:
            event = {"asked": {"act": act, "id": str(pairs[0].id), "scorer": "VideoScore", "role": "lead"}}
            html += json.dumps(call(client, number, inputs, event)["output"])
    assert not [one for one in SECRETS if one in html]
    report = client.get("/api/analyse/report")
    assert report.status_code == (401 if role == "nobody" else 403)
    assert not [one for one in SECRETS if one in report.text]
    with app.studio.database.read() as session:
        assert len(list_runs(session)) == before
        assert not scorers(session)


@pytest.mark.usefixtures("pairs")
def test_handlers_are_no_public_endpoints_and_the_page_itself_says_nothing(app: Running) -> None:
    assert not [one for one in app.studio.blocks.fns.values() if one.page == "analyse" and one.api_visibility != "private"]
    page = httpx.get(f"{app.url}/analyse").text
    assert not [one for one in SECRETS[:-1] if one in page]  # the last one is in the style sheet


def test_a_viewer_reads_everything_and_starts_nothing(app: Running, pairs: list[Pair]) -> None:
    viewer = Desk(app, signed_in_client(app, "Vic", "viewer"))
    assert all("This is for" not in viewer.html(tab) for tab in TABS)
    cases = json.dumps(viewer.open("disagreements"))
    assert "annotator 1" in cases
    assert "Zoe" not in cases
    for section, act in (("scoring", "score"), ("scoring", "cancel-run"), ("benchmarks", "import")):
        refused = viewer.act(section, act, 1, scorer="VideoScore")
        assert refused["bad"]
        assert "This is for a lead" in refused["status"]
    assert viewer.act("disagreements", "look", pairs[0].id)["html"]


# ---- what it shows --------------------------------------------------------------------------------------------------


def test_every_tab_has_figures_of_real_judgements(desk: Desk) -> None:
    agreement = desk.html("agreement")
    # One of the four pairs is contradicted, so 3 of 4 are right, and few cases are marked as such.
    assert "75.0" in agreement
    assert "is-few" in agreement
    assert "Cohen" in agreement
    for tab, least in (("agreement", 10), ("hacking", 4), ("generators", 1), ("benchmarks", 1)):
        found = figures(desk.html(tab))
        assert len(found) >= least, tab
        assert all(one["data"] for one in found)


def test_figures_use_no_colour_that_the_dark_page_could_not_exchange(desk: Desk) -> None:
    text = json.dumps([figures(desk.html(tab)) for tab in ("agreement", "hacking", "generators", "benchmarks")])
    assert set(re.findall(r"#[0-9a-fA-F]{6}\b", text)) <= set(COLOURS.values())
    light = re.search(r":root \{(.*?)\}", read_static("shared/colours.css"), re.DOTALL)
    assert light is not None
    page = dict(re.findall(r"--([\w-]+): (#\w+)", light[1]))
    assert {name: page[name] for name in COLOURS} == COLOURS
    known = dict(re.findall(r'"(#\w+)": "--([\w-]+)"', read_static("analyse/figures.js")))
    assert {name: colour for colour, name in known.items()} == COLOURS


def test_the_surest_contradiction_opens_with_videos_thoughts_and_labels(desk: Desk, pairs: list[Pair]) -> None:
    panel, head, player, model, people = desk.open("disagreements")
    assert pairs[0].prompt in head
    assert "1 of 4 labelled pairs" in panel["html"]
    assert player["a"]["url"].endswith(pairs[0].video_a.public_id)
    assert model["phase"] == "done"
    assert model["source"] == "store"
    assert model["sides"][0]["thought"]
    assert "Zoe the annotator" in people
    assert "&lt;b&gt;look&lt;/b&gt;" in people
    assert "<b>look</b>" not in people


def test_a_selection_narrows_every_tab(desk: Desk) -> None:
    chosen = desk.act("choose", "choose", scope="source:bundled", way="quick", checkpoint="none of these")
    assert "People have not labelled any of these pairs" in chosen["html"]
    assert "No labelled pair has been judged" in desk.html("agreement")
    assert "of 2 pairs (0 labelled)" in desk.act("scoring", "score", 1)["html"]
    back = desk.act("choose", "choose", scope="source:nowhere; DROP TABLE pairs")
    assert not back["bad"]
    assert "75.0" in desk.html("agreement")


def test_held_out_pairs_are_those_that_training_holds_out(app: Running, desk: Desk) -> None:
    desk.act("choose", "choose", held_out=["yes"], scope=f"source:{SOURCE}")
    shown = re.search(r"of (\d) pairs", str(desk.act("scoring", "score", 1)["html"]))
    with app.studio.database.read() as session:
        held_out = analysed_pairs(session, None, sources=[SOURCE], held_out_share=0.2)
    assert (int(shown[1]) if shown else 0) == len(held_out)


def test_a_checkpoint_that_was_trained_here_is_not_called_fair_on_what_fitted_its_scale(
    app: Running, desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.analyse.selection.held_out_share_in_use", lambda _session: 1.0)
    asked = {"held_out": ["yes"], "scope": f"source:{SOURCE}", "way": "quick"}
    assert FITTED_HERE not in desk.act("choose", "choose", **asked)["html"]
    assert FITTED_HERE not in desk.html("agreement")
    with app.studio.database.write() as session:
        session.execute(update(CheckpointRow).values(snapshot_hash="0" * 64))
    try:
        assert FITTED_HERE in desk.act("choose", "choose", **asked | {"way": "think"})["html"]
        assert FITTED_HERE in desk.html("agreement")
    finally:
        with app.studio.database.write() as session:
            session.execute(update(CheckpointRow).values(snapshot_hash=None))


# ---- what it does ---------------------------------------------------------------------------------------------------


def test_scoring_what_is_missing_is_a_run_in_the_queue(app: Running, desk: Desk) -> None:
    desk.act("choose", "choose", scope="source:bundled")
    with app.studio.database.read() as session:
        before = list_runs(session)
    reply = desk.act("scoring", "score", app.studio.serving.checkpoint_id)
    with app.studio.database.read() as session:
        run = list_runs(session)[0]
    assert len(before) == run.id - 1
    assert run.kind == "score"
    assert run.state == "queued"
    assert run.device == "cpu"
    assert run.request == {"sources": ["bundled"], "campaigns": None, "modes": ["think", "quick"]}
    assert run.parent_id == app.studio.serving.checkpoint_id
    assert "queued" in reply["html"]
    assert "Score missing pairs" not in reply["html"]
    assert "cancelled" in desk.act("scoring", "cancel-run", run.id)["html"]
    assert desk.act("scoring", "cancel-run", 9999)["bad"]


def test_held_out_pairs_are_judged_with_the_rest_and_the_button_says_so(
    app: Running, desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.analyse.selection.held_out_share_in_use", lambda _session: 1.0)
    desk.act("choose", "choose", scope=f"source:{SOURCE}", held_out=["yes"], way="quick")
    desk.act("scoring", "score", app.studio.serving.checkpoint_id)
    with app.studio.database.read() as session:
        run, *others = [run for run in list_runs(session) if run.state == "queued"]
    assert run.request == {"sources": [SOURCE], "campaigns": None, "modes": ["think", "quick"]}
    for other in others:  # of other tests; while one waits there is no button
        desk.act("scoring", "cancel-run", other.id)
    assert "Score missing pairs, held out or not" in desk.act("scoring", "cancel-run", run.id)["html"]


def upload(desk: Desk, path: Path) -> dict[str, Any]:
    """Send a file as the page's button does; the panel's value."""
    with path.open("rb") as file:
        (sent,) = desk.client.post("/gradio_api/upload", files={"files": (path.name, file)}).json()
    blocks = desk.running.studio.blocks
    number = next(n for n, name in handlers(desk.running, "analyse").items() if name == "analyse-upload")
    data = [{"path": sent, "orig_name": path.name, "meta": {"_type": "gradio.FileData"}}]
    assert len(blocks.fns[number].inputs) == 1
    return dict(call(desk.client, number, data, None, desk.session)["output"]["data"][0])


def test_scores_of_another_model_stand_in_the_same_table(
    app: Running, desk: Desk, pairs: list[Pair], tmp_path: Path
) -> None:
    desk.act("choose", "choose", scope="all")
    lines = [f"{one.video_a.original_name},{one.video_b.original_name},1.0,2.0" for one in pairs]
    file = tmp_path / "scores.csv"
    file.write_text("\n".join(["path_A,path_B,reward_A,reward_B", *lines, "lost.mp4,away.mp4,1,2"]), "utf-8")
    assert "5 rows in scores.csv" in upload(desk, file)["html"]
    refused = desk.act("benchmarks", "import", scorer=" ")
    assert refused["bad"]
    assert "which model" in refused["status"]
    done = desk.act("benchmarks", "import", scorer="VideoScore2")
    assert "4 pairs of scores.csv" in done["html"]
    assert "1 rows belong to no pair" in done["html"]
    assert "VideoScore2, imported" in done["html"]
    assert "measured on GenAI-Bench shapes" in done["html"]
    with app.studio.database.read() as session:
        assert {one.reward_b for one in external_scores(session, "VideoScore2").values()} == {2.0}
    file.write_text("no scores here", "utf-8")
    assert upload(desk, file)["bad"]


def test_the_report_is_one_file_that_asks_nobody(desk: Desk, pairs: list[Pair]) -> None:
    assert "api/analyse/report" in desk.html("report")
    answer = desk.client.get("/api/analyse/report", params={"scope": "all", "beside": ["7", "no"]}, timeout=120)
    assert answer.status_code == 200
    assert "attachment" in answer.headers["content-disposition"]
    page = answer.text
    assert page.count("plotly.js v") == 1
    assert "default-src 'none'" in page
    own = re.sub(r"<script>.*?</script>", "", page, flags=re.DOTALL)
    assert not re.findall(r'(?:src|href)="(?!data:)[^"]*"', own)
    assert len(figures(own)) >= 16
    assert pairs[0].prompt in own
    assert "Zoe" not in own
    assert all(f"<h2>{title}</h2>" in own for title in ("Agreement", "Disagreements", "Hacking watch", "Benchmarks"))
