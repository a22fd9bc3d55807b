"""Runs side by side: which rows are marked, whose lines are drawn, and what is no run."""

from __future__ import annotations

import json
import re
from pathlib import Path

from app.train.compare import compare_runs, run_ids
from app.train.summaries import read_store
from app.train.views.compare import MOST_SETTINGS
from app.train.views.compare_curves import MOST_COMPARED, PATTERNS, compared_figures
from app.train.views.curves import StageLog
from storage import Database
from storage.accounts.users import add_user
from storage.training.model_registry import set_gate
from storage.training.run_notes import write_note
from storage.training.runs import Run, finish, get_run, mark_running
from tests.helpers.labelling import make_team
from tests.helpers.retraining import add_run, let_say, make_checkpoint, serve_base, snapshot_of

DIFFERENCE = {"before": 0.6, "after": 0.8, "difference": 0.2, "interval": [0.05, 0.33], "better": 9, "worse": 2}
EVIL = "<img src=x onerror=alert(1)>"


def write_folder(home: Path, run: Run, steps: int, rate: float) -> None:
    folder = home / run.folder
    (folder / "dual-rl").mkdir(parents=True)
    many = "".join(f"x{number}: {steps}\n" for number in range(MOST_SETTINGS + 10))
    settings = f"dual_rl:\n  steps: {steps}\n  optim: {{lr: {rate}}}\nseed: 0\n{many}"
    (folder / "config.yaml").write_text(settings, "utf-8")
    lines = (json.dumps({"step": step, "loss": 1.0 - 0.1 * step, "accuracy": 0.5}) for step in range(steps))
    (folder / "dual-rl" / "metrics.jsonl").write_text("\n".join(lines), "utf-8")


def test_two_runs_stand_side_by_side_with_what_differs_marked(sqlite_database: Database) -> None:
    database = sqlite_database
    team = make_team(database, pairs=12, people=1, overlap=1)
    let_say(database, team, 0, "AB=x" * 3)
    snapshot = snapshot_of(database)
    with database.write() as session:
        base, lead = serve_base(session), add_user(session, "Mira", "lead")
        runs = [add_run(session, base, snapshot, name=name) for name in ("short", EVIL)]
        mark_running(session, runs[0].id, 1, "here")
        made = make_checkpoint(session, "made", run_id=runs[0].id)
        gate = {"verdict": "better", "pairs": 2, "candidate": {"accuracy_without_ties": 0.8}, "difference": DIFFERENCE}
        set_gate(session, made.id, gate)
        finish(session, runs[0].id, "finished", 0, "", made.id, "better")
        write_note(session, runs[0].id, "as before", lead.id)
    for run, steps, rate in zip(runs, (4, 6), (1e-5, 1e-5), strict=True):
        write_folder(database.home, run, steps, rate)

    found = compare_runs(database, lambda run: database.home / run.folder, read_store(database), run_ids("2,1,99,x,2"))
    assert (found.runs, found.live) == ((2, 1), True)
    rows = {
        re.sub("<[^>]*>", "", name).replace(" (differs)", ""): (bool(marked), cells)
        for marked, name, cells in re.findall(
            r'<tr( class="is-different")?><th scope="row">(.*?)</th>(.*?)</tr>', found.html, re.DOTALL
        )
    }
    assert rows["verdict"][0]
    assert "better" in rows["verdict"][1]
    assert "+5.0 to +33.0" in rows["difference, points"][1]
    assert rows["dual_rl.steps"] == (True, "<td>6</td><td>4</td>")
    assert not rows["new pairs"][0]
    assert "as before" in rows["note"][1]
    assert "dual_rl.optim.lr" not in rows, "equal settings are left out"
    assert "11 more settings differ; the folders of the runs have them" in rows
    assert "<img" not in found.html
    loss = found.figures["loss"]["data"]
    assert [(len(trace["x"]), trace["line"]["dash"]) for trace in loss] == [(6, "solid"), (4, "dash")]
    assert "from 1 at step 1 to 0.7 at step 4" in found.figures["loss"]["text"]
    assert "drift" not in found.figures

    with database.read() as session:
        assert get_run(session, 1).state == "finished"
    alone = compare_runs(database, lambda run: database.home / run.folder, read_store(database), (1, 99))
    assert (alone.runs, alone.html, alone.figures) == ((1,), "", {})


def test_no_more_runs_are_compared_than_can_be_told_apart() -> None:
    assert run_ids(",".join(map(str, range(20)))) == tuple(range(MOST_COMPARED))
    logs = [StageLog("dual-rl", 3, [{"step": 0, "accuracy": 0.5}], {"accuracy_without_ties": 0.4}, {})]
    lines = compared_figures([(f"run {number}", logs) for number in range(MOST_COMPARED)])["accuracy"]["data"]
    held_out = [line for line in lines if "held-out" in line["name"]]
    assert [line["line"]["dash"] for line in held_out] == list(PATTERNS)
    assert len({line["line"]["color"] for line in held_out}) == MOST_COMPARED
