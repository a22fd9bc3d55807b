"""Supervised runs at their places, for tests without a model: a store, a request, and waiting for what a run comes to."""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import SimpleNamespace
from typing import TYPE_CHECKING

from app.runs.places.places import Places
from app.runs.supervisor import RunSupervisor
from app.serving.serving import Served, Serving
from descore.checkpoints.manifest import Manifest
from storage.training.runs import Run, RunRequest, create_run, get_run
from storage.training.snapshots import Snapshot, SnapshotPair
from tests.helpers.paths import ROOT
from tests.helpers.waiting import wait_until

if TYPE_CHECKING:
    from storage import Database
    from storage.schema import RunPlace

SCRIPT = ROOT / "tests" / "helpers" / "stand_in_run.py"
# Only looked at for its engine.
MODEL = SimpleNamespace(engine=SimpleNamespace(at_once=2))


def serving() -> Serving:
    """What serves, known without its weights; `restore` is not asked of it."""
    return Serving(Served("bundled v1", "bundled", Manifest(name="bundled v1"), True, "base", model=MODEL), 1)  # type: ignore[arg-type]


def supervise(database: Database, mode: str) -> RunSupervisor:
    """Make a supervisor whose runs are stand-ins of this mode; SLURM is asked at each tick."""
    places = Places(database, serving(), (sys.executable, str(SCRIPT), mode), look_seconds=0.0)
    return RunSupervisor(database, serving(), places)


def ask(database: Database, name: str = "week 12", device: str = "cpu", auto: bool = False, place: RunPlace = "here") -> Run:
    """Queue a training of one pair."""
    pair = SnapshotPair(1, "new", "abc", 1, 1.0, {}, ())
    chosen = {"held_out_share": 0.2}
    snapshot = Snapshot((pair,), "hash", 0, {"new": 1}, chosen)
    request = RunRequest("train", name, device, 1, 1, ("cold-start",), "current", "tiny-cpu", auto_promote=auto, place=place)
    with database.write() as session:
        return create_run(session, request, snapshot, None)


def now(database: Database, run: Run) -> Run:
    """The run as it is now."""
    with database.read() as session:
        return get_run(session, run.id)


def until(supervisor: RunSupervisor, database: Database, run: Run, reached: Callable[[Run], bool]) -> Run:
    """Tick until a run has come so far."""

    def has_reached() -> bool:
        supervisor.tick()
        return reached(now(database, run))

    wait_until(has_reached, f"the awaited state of {run.name}")
    return now(database, run)


def goes_on(run: Run) -> bool:
    """Whether a process works on the run."""
    return run.progress.get("part") == "training" and run.state == "running"


def is_over(run: Run) -> bool:
    """Whether the run has ended, one way or another."""
    return run.state not in ("queued", "running")
