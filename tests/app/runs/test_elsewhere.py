"""Runs that are packed: away until their result is back, brought back by the app, cancelled, resumed."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from app.runs.places.elsewhere import is_away
from app.runs.places.place import PlaceError
from app.runs.places.places import Places
from app.runs.supervisor import RunSupervisor
from storage import StorageError
from storage.data_home import data_home_id
from storage.training.pack_folder import AWAY
from storage.training.run_folder import read_metrics
from storage.training.runs import mark_sent
from tests.helpers.paths import ROOT
from tests.helpers.placed_runs import is_over, now, serving, until
from tests.helpers.store_world import World, make_world
from trainer.packs.run_pack import run_pack

pytestmark = pytest.mark.training


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    monkeypatch.delenv("DATABASE_URL", raising=False)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    made = make_world(tmp_path / "home", pairs=24)
    made.label(24)
    yield made
    made.database.close()


@pytest.mark.endurance  # a whole training; tests/trainer/packs has a short one
def test_a_run_is_packed_taken_away_and_brought_back(world: World, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)  # as the command sets it
    database = world.database
    supervisor = RunSupervisor(database, serving(), Places(database, serving()))
    elsewhere = supervisor.places.elsewhere
    run = world.ask("cold_start.steps=1", stages=("cold-start",), place="elsewhere")
    away = until(supervisor, database, run, is_away)
    pack = world.home / "packs" / f"run-{run.id}"
    assert (Path(away.job), elsewhere.pack(away)) == (pack, pack)
    until(supervisor, database, run, lambda run: not elsewhere.is_busy(run))
    for _ in range(3):
        supervisor.tick()
    assert is_away(now(database, run))

    # Cancelled and resumed it is away again, in the same pack.
    supervisor.cancel(run.id)
    ended = until(supervisor, database, run, is_over)
    assert ended.state == "cancelled"
    assert f"can still be brought back from {pack}" in ended.message
    with pytest.raises(PlaceError, match="is not away"):
        supervisor.bring_back(run.id, pack)
    before = (pack / "pack.json").stat().st_mtime_ns
    supervisor.resume(run.id)
    until(supervisor, database, run, is_away)
    until(supervisor, database, run, lambda run: not elsewhere.is_busy(run))
    assert (pack / "pack.json").stat().st_mtime_ns == before

    # What is wrong at first sight is said at once.
    for folder, sentence in ((pack, "is not finished"), (tmp_path, "is no pack")):
        with pytest.raises(StorageError, match=sentence):
            supervisor.bring_back(run.id, folder)
    other = world.ask("cold_start.steps=1", stages=("cold-start",), place="elsewhere")
    with database.write() as session:
        mark_sent(session, other.id, "elsewhere", str(tmp_path / "of the other"), {"stage": AWAY}, data_home_id(world.home))
    assert is_away(now(database, other))
    with pytest.raises(PlaceError, match=f"the pack of another run; give that of run {other.id}"):
        supervisor.bring_back(other.id, pack)

    # Trained where the app can see it: curves and log are shown. Then a damaged copy, then the result.
    assert run_pack(pack) == 0
    running = now(database, run)
    assert len(read_metrics(elsewhere.folder(running) / "cold-start")) == 1
    assert "checking" in elsewhere.tail(running, 4000)
    damaged = Path(shutil.copytree(pack, tmp_path / "copy"))
    (damaged / "run" / "cold-start" / "metrics.jsonl").write_text("{}\n")
    supervisor.bring_back(run.id, damaged)
    refused = until(supervisor, database, run, lambda run: "refused" in run.progress)
    assert "metrics.jsonl is not the file that was written" in refused.progress["refused"]
    until(supervisor, database, run, lambda run: not elsewhere.is_busy(run))
    assert is_away(now(database, run))

    supervisor.bring_back(run.id, pack)
    done = until(supervisor, database, run, is_over)
    assert (done.state, done.exit_code) == ("finished", 0), done.message
    assert done.candidate_id is not None
    assert len(read_metrics(world.folder(run) / "cold-start")) == 1
    assert elsewhere.folder(done) == world.folder(run)
    with pytest.raises(PlaceError, match="is not away"):
        supervisor.bring_back(run.id, pack)


def test_what_can_not_be_packed_fails_with_the_reason(world: World) -> None:
    database = world.database
    supervisor = RunSupervisor(database, serving(), Places(database, serving()))
    run = world.ask("cold_start.steps=1", stages=("cold-start",), place="elsewhere")
    video = next((world.home / "videos").rglob("*.mp4"))
    video.write_bytes(b"no video")
    failed = until(supervisor, database, run, is_over)
    assert (failed.state, failed.exit_code) == ("failed", 2)
    assert "is not the one that was stored" in failed.message
    assert not (world.home / "packs" / f"run-{run.id}").exists()
