"""The measurements of labelling in miniature, so that they keep running."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import label_store
from benchmarks.helpers.label_clients import Record
from benchmarks.helpers.label_verify import verify
from benchmarks.helpers.running_app import ROOT
from storage import open_database
from storage.accounts.users import add_user
from storage.campaigns.campaign import CampaignConfig, create_campaign
from storage.campaigns.guidelines import DEFAULT_GUIDELINES
from storage.campaigns.label_schema import Answer
from storage.labelling.assignments import Assignment
from storage.labelling.next_assignment import next_assignment
from storage.labelling.submit import submit, undo
from tests.helpers.stores import make_pair

pytestmark = pytest.mark.slow


@pytest.mark.endurance
def test_nothing_answered_is_lost_when_the_app_is_killed() -> None:
    small = ["--annotators", "5", "--seconds", "12", "--pause", "0.3", "--pairs", "60", "--kill"]
    # In a process of its own: a browser test before it may have left an event loop running in this one.
    command = [sys.executable, "-m", "benchmarks.label_load", *small]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    figures = json.loads(done.stdout.splitlines()[-1])
    assert figures["kills"] >= 1
    assert figures["answered"] >= 5
    assert figures["retries"] > 0
    assert figures["revisions"] == figures["answered"] + figures["withdrawn"]
    wrong = ("lost", "changed", "doubled", "above_overlap", "violations", "errors")
    assert not any(figures[name] for name in wrong), figures


def test_a_large_store_is_made_and_measured(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(label_store, "SMALL_PAIRS", 20)
    monkeypatch.setattr(label_store, "SMALL_LABELS", 60)
    label_store.main(["--pairs", "60", "--labels", "300", "--people", "12", "--calls", "30"])
    figures = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert figures["labels"] == 300
    assert figures["violations"] == figures["small"]["violations"] == 0
    assert figures["ms"]["next"]["calls"] == 30
    assert {"submit", "lead_page", "next_of_newcomer", "next_after_reorder", "reorder"} <= set(figures["ms"])


def test_what_is_lost_changed_or_doubled_is_seen(tmp_path: Path) -> None:
    database = open_database(home=tmp_path)
    with database.write() as session:
        pairs = [make_pair(session, prompt=f"scene {number}").id for number in range(3)]
        settings = CampaignConfig(name="c", dimensions=(), gold_share=0, repeat_share=0)
        campaign = create_campaign(session, settings, pairs, DEFAULT_GUIDELINES, created_by=None)
        person = add_user(session, "Ann", "annotator")
        for submission in ("kept", "changed", "unknown"):
            turn = next_assignment(session, campaign.id, person.id)
            assert isinstance(turn, Assignment)
            submit(session, turn.token, person.id, submission, Answer(choice="tie"))
            if submission == "kept":
                kept = turn.token
        undo(session, campaign.id, person.id, "taken back")
    fields = {"turn": kept, "answer": {"action": "label", "choice": "tie"}}
    record = Record(answered=dict.fromkeys(("kept", "changed", "gone"), ("Ann", fields)), withdrawn={"taken back"})
    found = verify(database, campaign.id, record)
    database.close()
    assert (found["lost"], found["changed"], found["doubled"]) == (1, 1, 1)
    assert (found["revisions"], found["above_overlap"], found["violations"]) == (4, 0, 0)
