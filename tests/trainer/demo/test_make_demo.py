"""The demo store: its people and rounds quickly, all of it in the endurance tests."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import pytest

from descore.answer import DIMENSIONS
from storage import Database, StorageError, open_database
from storage.analysis.judged_pairs import analysed_pairs
from storage.campaigns.campaign import list_campaigns
from storage.campaigns.label_schema import checked
from storage.campaigns.members import members
from storage.campaigns.progress import progress
from storage.demo_store import MARK, begin_demo, demo_state, finish_demo
from storage.labelling.consensus import consensus
from storage.maintenance.integrity import check_store
from storage.training.model_registry import serving
from storage.training.runs import list_runs
from tests.helpers.paths import ROOT
from trainer.demo.make_demo import choose_pairs, fill_stock
from trainer.demo.people import PEOPLE

SECONDS = 120.0  # on two cores of one's own; the machines of tests are shared, so only the endurance test looks


def test_simulated_people_give_whole_answers_and_differ() -> None:
    shapes = choose_pairs(60)
    assert len({shape.identity for shape in shapes}) == 60
    assert sum(shape.label == "tie" for shape in shapes) == 7
    answers = {person.name: [person.answer(shape, DIMENSIONS) for shape in shapes] for person in PEOPLE}
    for given in answers.values():
        assert all(checked(answer, DIMENSIONS, 2.0, 2.0) == answer for answer in given)
        assert {answer.choice for answer in given} >= {"A", "B", "tie"}
    first, second, third = answers.values()
    agreed = sum(len({one.choice for one in three}) == 1 for three in zip(first, second, third, strict=True))
    assert 15 < agreed < 55
    split = sum(len({one.choice for one in three}) == 3 for three in zip(first, second, third, strict=True))
    assert split > 0, "nobody would have anything to decide under Adjudicate"
    assert [PEOPLE[0].answer(shape, DIMENSIONS) for shape in shapes] == first
    assert sum(answer.seconds for answer in second) < sum(answer.seconds for answer in third)


def test_two_rounds_one_closed_and_one_half_labelled(sqlite_database: Database) -> None:
    lines: list[str] = []
    fill_stock(sqlite_database, lines.append, pairs=8)
    with sqlite_database.read() as session:
        first, second = list_campaigns(session)
        done, half = (progress(session, campaign.id) for campaign in (first, second))
        assert (first.status, done.pairs, done.left) == ("closed", 5, 0)
        assert (second.status, second.config.gold_share, half.gold) == ("open", 0.1, 1)
        assert 0 < half.given < half.wanted
        assert len(members(session, first.id)) == len(PEOPLE)
        assert not any(member.annotator.can_sign_in for member in members(session, first.id))
        assert len(consensus(session)) >= 5
    assert [line[:3] for line in lines] == ["1/5", "2/5", "3/5"]
    assert check_store(sqlite_database, videos=True) == ()


def test_a_folder_with_anything_else_in_it_is_left_alone(tmp_path: Path) -> None:
    own = tmp_path / "own"
    own.mkdir()
    (own / "descore.db").write_text("mine")
    with pytest.raises(StorageError, match="holds no demo store"):
        begin_demo(own)
    assert (own / "descore.db").read_text() == "mine"
    assert demo_state(own) == "none"
    demo = tmp_path / "demo"
    begin_demo(demo)
    (demo / "videos").mkdir()
    assert demo_state(demo) == "begun"
    begin_demo(demo)  # an interrupted call begins again
    assert [entry.name for entry in demo.iterdir()] == [MARK]
    finish_demo(demo)
    assert demo_state(demo) == "finished"
    with pytest.raises(StorageError, match="finished"):
        begin_demo(demo)
    (demo / MARK).write_text("?")
    assert demo_state(demo) == "begun"


def test_the_command_says_what_is_in_its_way(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from trainer.__main__ import main

    (tmp_path / "notes.txt").write_text("mine")
    assert main(["demo", str(tmp_path)]) == 2
    assert "name an empty or new folder" in capsys.readouterr().err


@pytest.mark.endurance
def test_the_whole_demo_is_made_and_sound(tmp_path: Path) -> None:
    home, began = tmp_path / "home", time.monotonic()
    command = [sys.executable, "-m", "trainer", "demo", str(home)]
    environment = {**os.environ, "DATABASE_URL": "postgresql://nobody@nowhere/none"}  # which must not be asked
    made = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    seconds = time.monotonic() - began
    assert made.returncode == 0, made.stderr
    assert "the demo store is ready" in made.stdout
    print(json.dumps({"seconds": round(seconds, 1)}))
    with closing(open_database(f"sqlite:///{home / 'descore.db'}", home)) as database:
        assert check_store(database, videos=True) == ()
        with database.read() as session:
            base = serving(session)
            assert base is not None
            scored, trained = sorted(list_runs(session), key=lambda run: run.kind)
            assert (scored.state, trained.state) == ("finished", "finished")
            assert trained.verdict is not None
            pairs = analysed_pairs(session, base.fingerprint)
        assert all(pair.think is not None and pair.quick is not None for pair in pairs)
        assert demo_state(home) == "finished"
    assert seconds < SECONDS * max(1.0, os.getloadavg()[0] / 2)
