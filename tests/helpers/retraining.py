"""Checkpoints, snapshots and runs for tests of retraining; no weights are needed there."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from storage.splits import is_held_out
from storage.training.model_registry import BASE, Checkpoint, promote, register_checkpoint
from storage.training.runs import Run, RunRequest, create_run
from storage.training.snapshot_config import SnapshotConfig, pair_keys
from storage.training.snapshots import Snapshot, make_snapshot
from tests.helpers.opinions import opine

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from storage import Database
    from tests.helpers.labelling import Team


def make_checkpoint(session: Session, name: str = "winter", **fields: Any) -> Checkpoint:
    """Register a checkpoint whose content is its name."""
    values = {"location": f"./checkpoints/{name}", "fingerprint": hashlib.sha256(name.encode()).hexdigest()}
    return register_checkpoint(session, name=name, **{**values, **fields})


def serve_base(session: Session) -> Checkpoint:
    """Register the base checkpoint and make it serve."""
    base = make_checkpoint(session, "base", location=BASE)
    promote(session, base.id, "start")
    return base


def training(base: Checkpoint, **fields: Any) -> RunRequest:
    """Make the request of a training from a checkpoint, which is also its rival."""
    values = {"kind": "train", "name": "week 12", "device": "cpu", "parent_id": base.id, "rival_id": base.id}
    return RunRequest(**{**values, "stages": ("dual-rl",), "preset": "tiny-cpu", **fields})


def add_run(session: Session, base: Checkpoint, snapshot: Snapshot, **fields: Any) -> Run:
    """Queue a run."""
    return create_run(session, training(base, **fields), snapshot, None)


def snapshot_of(database: Database, since: int = 0, incremental: bool = False, **settings: Any) -> Snapshot:
    """Freeze the data that a training would have now."""
    with database.read() as session:
        return make_snapshot(session, SnapshotConfig(**settings), since, incremental)


def let_say(database: Database, team: Team, person: int, said: str) -> None:
    """Let one person, counted from 0, answer every pair that they get, see `opine`."""
    opine(database, replace(team, people=(team.people[person],)), [said])


def held_out_pairs(database: Database, team: Team, share: float = 0.2) -> set[int]:
    """Find the pairs of a team that are never trained on."""
    with database.read() as session:
        keys = pair_keys(session, team.pairs)
    return {pair_id for pair_id, key in keys.items() if is_held_out(key.identity, share)}
