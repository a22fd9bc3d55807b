"""The whole loop with simulated people: import, label, retrain, gate, promote; and what it brought. One JSON line.

    python -m benchmarks.retrain_loop [--pairs 400] [--labelled 300] [--overlap 3] [--noise 0.1] [--kill] [--folder DIR]

The people's taste differs from what the bundled checkpoint learnt: style counts double, dynamics not at all, subject half.
Each pair gets the label of three people, as a new campaign has it; each of them is wrong in one of ten.
Everything goes through the running app as a browser would: labels through the Label page's endpoints, the retrain through
the Train page's, incrementally, with the bundled preset. --kill ends app and trainer with SIGKILL in the middle of the run
and starts the app again; the run is resumed on the Train page.

Measured: the gate's own comparison on held-out labels (noisy, as people are); agreement of both checkpoints with the same
taste on fresh pairs that nobody labelled, without noise; accuracy on the test split of the old taste (what was
forgotten); seconds. Intervals are paired bootstraps at 95 %.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import numpy as np

from app.clip_store import ROUTE
from app.web.auth import COOKIE
from benchmarks.helpers.labelled_shapes import Taste, fresh_pairs, write_clips, write_table
from benchmarks.helpers.running_app import ROOT, RunningApp
from benchmarks.helpers.taste_clients import Shown, Work, label_with_taste
from descore import DeScore
from storage import Database, open_database
from storage.accounts.sessions import open_sign_in
from storage.accounts.users import add_user
from storage.analysis.reward_margins import pair_ids_of
from storage.campaigns.campaign import CampaignConfig, create_campaign
from storage.campaigns.guidelines import DEFAULT_GUIDELINES
from storage.labelling.labels import IS_LAST
from storage.pairs import get_pair
from storage.schema import LabelRow
from storage.training.model_registry import get_checkpoint, list_checkpoints, serving, usable_location
from storage.training.runs import Run, get_run
from trainer.evaluation.paired_tests import paired_difference
from trainer.shapeworld.evaluate import evaluate
from trainer.shapeworld.write_dataset import clip_names

if TYPE_CHECKING:
    from trainer.shapeworld.pairs import ShapePair

TASTE = Taste(
    "style first", {"subject": 0.5, "dynamics": 0.0, "camera": 1.0, "environment": 1.0, "style": 2.0}, tie_below=0.1
)
SOURCE = "new models"
PEOPLE = ("ada", "bo", "cy")
FIRST_MEASURED = 10_000  # fresh pairs that nobody labels
RUN_SECONDS = 3600.0
OVER = ("finished", "failed", "cancelled", "lost")


def prepare(
    database: Database, known: Sequence[ShapePair], labelled: int, overlap: int
) -> tuple[int, dict[str, str], str, Shown]:
    """Make a campaign over the imported pairs; return its id, people's cookies, the lead's cookie and the truth."""
    by_name = {name: one for one in known for name in clip_names(one)}
    with database.write() as session:
        lead = add_user(session, "lead", "lead")
        ids = pair_ids_of(session, [SOURCE])[:labelled]
        settings = CampaignConfig(name="taste", overlap=overlap, gold_share=0, repeat_share=0)
        campaign = create_campaign(session, settings, ids, DEFAULT_GUIDELINES, created_by=lead.id)
        people = [add_user(session, name, "annotator") for name in PEOPLE]
        cookies = {person.name: open_sign_in(session, person.id).token for person in people}
        token = open_sign_in(session, lead.id).token
        pairs = [get_pair(session, pair_id) for pair_id in ids]
    shown = {}
    for pair in pairs:
        for video in (pair.video_a, pair.video_b):
            one = by_name[video.original_name]
            shown[f".{ROUTE}/{video.public_id}"] = (one, clip_names(one).index(video.original_name))
    return campaign.id, cookies, token, Shown(shown)


def retrain(app: RunningApp, database: Database, token: str, options: argparse.Namespace) -> Run:
    """Press Retrain as a lead, follow the run to its end; killed and resumed on the way if asked.

    Raises:
        RuntimeError: the run failed.
    """
    page = TrainPage(app.url, token)
    run_id = page.retrain(options.stages, options.preset, options.set)
    if options.kill:
        _wait(database, run_id, lambda run: run.progress.get("step", 0) >= 3 or run.state in OVER)
        kill_both(app, database, run_id)
        app.start()
        _wait(database, run_id, lambda run: run.state == "lost")
        page.act("resume", str(run_id))
    run = _wait(database, run_id, lambda run: run.state in OVER)
    if run.state != "finished":
        raise RuntimeError(f"the run ended as {run.state}: {run.message}")
    page.act("promote", str(run.candidate_id))
    return run


class TrainPage:
    """The Train page's endpoints, for a signed-in lead."""

    def __init__(self, url: str, token: str) -> None:
        self._client = httpx.Client(base_url=url, cookies={COOKIE: token}, timeout=300)

    def retrain(self, stages: str, preset: str, knobs: Sequence[str]) -> int:
        """Start a run and return its number.

        Raises:
            RuntimeError: it was refused.
        """
        fields = {"name": "new taste", "stages": stages, "start": "current", "preset": preset, "min_labels": "1"}
        fields |= {"replay_share": "50", "benchmark_pairs": "100"}
        fields |= {f"knob-{name}": value for name, _, value in (knob.partition("=") for knob in knobs)}
        deadline = time.monotonic() + 180
        while True:
            said = self._post("retrain", fields)
            if not said["bad"]:
                return int(said["run"])
            if "being found out" not in said["said"] or time.monotonic() > deadline:
                raise RuntimeError(said["said"])
            time.sleep(2)

    def act(self, act: str, key: str) -> None:
        """Press a button.

        Raises:
            RuntimeError: it was refused.
        """
        said = self._post(act, {"id": key})
        if said["bad"]:
            raise RuntimeError(said["said"])

    def _post(self, act: str, fields: dict[str, Any]) -> dict[str, Any]:
        response = self._client.post("/api/train/act", json={"act": act, **fields})
        response.raise_for_status()
        answer: dict[str, Any] = response.json()
        return answer


def kill_both(app: RunningApp, database: Database, run_id: int) -> None:
    """SIGKILL for the trainer and the app."""
    with database.read() as session:
        run = get_run(session, run_id)
    if run.pid is not None:
        os.kill(run.pid, 9)
    app.kill()


def _wait(database: Database, run_id: int, until: Any) -> Run:
    deadline = time.monotonic() + RUN_SECONDS
    while time.monotonic() < deadline:
        with database.read() as session:
            run = get_run(session, run_id)
        if until(run):
            return run
        time.sleep(0.5)
    raise RuntimeError(f"run {run_id} did not get there in time; it is {run.state}: {run.message}")


def labels_kept(database: Database, work: Work) -> int:
    """How many of the answered labels are in the store, in force."""
    with database.read() as session:
        kept = {row.token for row in session.query(LabelRow).filter(IS_LAST)}
    return sum(submission in kept for submission in work.submissions.values())


def taste_agreement(places: Sequence[str], known: Sequence[ShapePair], folder: Path) -> dict[str, Any]:
    """Agreement with the taste, without noise, before and after, on pairs with a preference."""
    decided = [one for one in known if TASTE.label(one) != "tie"]
    right = []
    for place in places:
        judge = DeScore.from_pretrained(place)
        paths = [folder / name for one in decided for name in clip_names(one)]
        judged = judge.score(paths, [one.prompt for one in decided for _ in range(2)], "think", batch_size=32)
        rewards = np.array([one.reward for one in judged]).reshape(-1, 2)
        signs = np.array([1 if TASTE.label(one) == "A" else -1 for one in decided])
        right.append((rewards[:, 0] - rewards[:, 1]) * signs > 0)
    found = paired_difference(right[0], right[1])
    assert found is not None
    return {"pairs": len(decided), **found.to_dict()}


def old_taste(places: Sequence[str], count: int, folder: Path) -> dict[str, Any]:
    """Accuracy without ties on the test split, whose labels are the old taste."""
    figures = [evaluate(DeScore.from_pretrained(place), "test", count, folder=folder).to_dict() for place in places]
    names = ("accuracy_without_ties", "accuracy_without_ties_interval", "strict_format", "sub_score_exact_match")
    before, after = ({name: one.get(name) for name in names} for one in figures)
    return {"pairs": count, "before": before, "after": after}


def measure(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Run the whole loop in `folder` and return its figures."""
    folder.mkdir(parents=True, exist_ok=True)
    home, known = folder / "home", fresh_pairs(options.pairs)
    table = write_table(known, None, folder / "pairs")
    environment = {**os.environ, "DESCORE_HOME": str(home)}
    environment.pop("DATABASE_URL", None)
    command = [sys.executable, "-m", "app", "import", str(table), "--source", SOURCE]
    subprocess.run(command, cwd=ROOT, env=environment, check=True)
    database = open_database(f"sqlite:///{home / 'descore.db'}", home)
    campaign_id, cookies, token, shown = prepare(database, known, options.labelled, options.overlap)
    with RunningApp(home, None, folder / "app.log") as app:
        labelling = label_with_taste(app.url, campaign_id, cookies, shown, TASTE, options.noise)
        work = asyncio.run(labelling)
        began = time.monotonic()
        run = retrain(app, database, token, options)
        seconds = time.monotonic() - began
    with database.read() as session:
        candidate, serves = get_checkpoint(session, run.candidate_id or 0), serving(session)
        first = list_checkpoints(session)[0]
    places = [usable_location(one, home) for one in (first, candidate)]
    fresh = fresh_pairs(options.measured, FIRST_MEASURED)
    write_clips(fresh, folder / "measured")
    gate = candidate.gate or {}
    report = {
        "labels_answered": len(work.submissions),
        "labels_kept": labels_kept(database, work),
        "run": {**run.counts, "seconds": round(seconds, 1), "stages": run.stages, "overrides": run.overrides},
        "killed": options.kill,
        "serves": None if serves is None else serves.name,
        "gate": {name: gate.get(name) for name in ("verdict", "sentence", "difference", "benchmark")},
        "taste": taste_agreement(places, fresh, folder / "measured"),
        "old_taste": old_taste(places, options.test, folder / "test"),
        "cores": os.cpu_count(),
    }
    database.close()
    return report


def main(arguments: Sequence[str] | None = None) -> int:
    """Print one JSON line; 0 if nothing was lost and the candidate serves."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=400)
    parser.add_argument("--labelled", type=int, default=300, help="of the pairs (default 300)")
    parser.add_argument("--overlap", type=int, default=3, help="people who label each pair, at most 3 (default 3)")
    parser.add_argument("--noise", type=float, default=0.1, help="share of choices that people get wrong (default 0.1)")
    parser.add_argument("--measured", type=int, default=400, help="fresh pairs that agreement is measured on (default 400)")
    parser.add_argument("--test", type=int, default=200, help="pairs of the old taste's test split (default 200)")
    parser.add_argument("--stages", default="cold-start,dual-rl")
    parser.add_argument("--preset", default="tiny-cpu")
    parser.add_argument("--set", action="append", default=[], metavar="KNOB=VALUE", help="such as cold_start.steps=40")
    parser.add_argument("--kill", action="store_true", help="SIGKILL app and trainer in the middle, and resume")
    parser.add_argument("--folder", type=Path, help="an empty or new folder that keeps store, clips and logs, to look at")
    options = parser.parse_args(arguments)
    with ExitStack() as stack:
        folder = options.folder or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        report = measure(options, folder)
    print(json.dumps(report))
    return 0 if report["labels_kept"] == report["labels_answered"] and report["serves"] == "new taste" else 1


if __name__ == "__main__":
    sys.exit(main())
