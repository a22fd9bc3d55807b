"""Runs: trainings and scorings that wait, go on or are over, each with its frozen data.

    with database.read() as session:                     # may take a while, and holds up nobody
        snapshot = make_snapshot(session, settings, since, incremental=True)
    checkpoints = {"parent_id": current.id, "rival_id": current.id}          # trained further, compared with
    request = RunRequest("train", "week 12", "cpu", **checkpoints, stages=("dual-rl",), preset="tiny-cpu")
    with database.write() as session:
        run = create_run(session, request, snapshot, lead.id)

    queued -> running -> finished | failed | cancelled | lost;  failed, cancelled, lost -> queued (resumed)

A queued run that is cancelled never ran; a running one is asked to stop, and says itself when it has. "lost" is a run whose
process is gone without a word. A run that was sent to another place (SLURM, a pack) is running from then on. Which queued
run starts next: `storage.training.run_queue`.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from sqlalchemy import select

from storage.data_home import data_home_id
from storage.errors import NotInStoreError, StorageError
from storage.schema import RunKind, RunPairRow, RunPlace, RunRow, RunState, Start, utc_now
from storage.sql import RUN_PAIRS
from storage.text_limits import text_limit
from storage.training.devices import one_name
from storage.training.model_registry import get_checkpoint
from storage.training.snapshots import Snapshot, SnapshotPair, keep_held_out

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

FOLDER = "runs"
_STREAM = 1000
_OVER: tuple[RunState, ...] = ("failed", "cancelled", "lost")


@dataclass(frozen=True)
class RunRequest:
    """What a lead asks for.

    Attributes:
        stages: of a training, in order.
        start: from the checkpoint that serves, or from the base.
        parent_id: the checkpoint that it starts from, of a scoring the one that judges.
        rival_id: the one to compare with.
        overrides: "name=value" as the trainer takes them.
        request: {"sources", "campaigns", "modes"} of a scoring, further settings of a training.
        place: where it is to run; device names a device of this machine, and elsewhere is the name of the place.
    """

    kind: RunKind
    name: str
    device: str
    parent_id: int
    rival_id: int | None = None
    stages: tuple[str, ...] = ()
    start: Start = "current"
    preset: str = ""
    overrides: tuple[str, ...] = ()
    request: Mapping[str, Any] = field(default_factory=dict, hash=False)
    auto_promote: bool = False
    place: RunPlace = "here"


@dataclass(frozen=True)
class Run:
    """A run as it stands; what was asked for means the same as in `RunRequest`.

    Attributes:
        folder: relative to the data folder.
        snapshot: the settings that chose its data.
        counts: {"new", "replay", "held_out", "labels", "annotators"}.
        last_label_id: the newest label that it could know; all empty for a scoring.
        progress: {"stage", "step", "steps", "done", "total", "seconds_left"}, as far as it told.
        candidate_id: what it trained.
        job: what names it at its place: SLURM's number of the job, the folder of its pack; "" on this machine.
    """

    id: int
    kind: RunKind
    state: RunState
    name: str
    stages: tuple[str, ...]
    start: Start
    parent_id: int | None
    rival_id: int | None
    preset: str
    overrides: tuple[str, ...]
    request: Mapping[str, Any] = field(hash=False)
    device: str
    folder: str
    snapshot: Mapping[str, Any] | None = field(hash=False)
    snapshot_hash: str | None
    last_label_id: int
    counts: Mapping[str, int] = field(hash=False)
    auto_promote: bool
    created_by_id: int | None
    created_at: datetime
    started_at: datetime | None
    ended_at: datetime | None
    pid: int | None
    host: str | None
    cancel_requested_at: datetime | None
    exit_code: int | None
    message: str
    progress: Mapping[str, Any] = field(hash=False)
    candidate_id: int | None
    verdict: str | None
    place: RunPlace
    job: str


_FIELDS = tuple(column.name for column in fields(Run))


def create_run(session: Session, request: RunRequest, snapshot: Snapshot | None, created_by: int | None) -> Run:
    """Put a run into the queue. Of a training the data is kept pair by pair, and never changes.

    Raises:
        NotInStoreError: a checkpoint is unknown.
        StorageError: the request makes no sense, a checkpoint was deleted, or the snapshot holds out pairs that a
            checkpoint in use was trained on.
    """
    _check(session, request, snapshot)
    if snapshot is not None:
        keep_held_out(session, snapshot)
    columns = asdict(request) | {"stages": list(request.stages), "overrides": list(request.overrides)}
    columns["device"] = one_name(request.device)
    row = RunRow(
        **columns,
        folder="",
        snapshot=None if snapshot is None else dict(snapshot.chosen_by),
        snapshot_hash=None if snapshot is None else snapshot.sha256,
        last_label_id=0 if snapshot is None else snapshot.last_label_id,
        counts={} if snapshot is None else dict(snapshot.counts),
        created_by_id=created_by,
    )
    session.add(row)
    session.flush()
    row.folder = f"{FOLDER}/{row.id}"
    if snapshot is not None and snapshot.pairs:
        session.execute(RUN_PAIRS.insert(), [{"run_id": row.id, **asdict(pair)} for pair in snapshot.pairs])
    session.flush()
    return _run(row)


def get_run(session: Session, run_id: int) -> Run:
    """Return a run by its id.

    Raises:
        NotInStoreError: there is none.
    """
    row = session.get(RunRow, run_id)
    if row is None:
        raise _unknown(run_id)
    return _run(row)


def list_runs(session: Session, limit: int = 100, kind: RunKind | None = None) -> tuple[Run, ...]:
    """List runs, the newest first."""
    statement = select(RunRow).order_by(RunRow.id.desc()).limit(limit)
    if kind is not None:
        statement = statement.where(RunRow.kind == kind)
    return tuple(map(_run, session.scalars(statement)))


def runs_in(session: Session, *states: RunState) -> tuple[Run, ...]:
    """All runs in one of these states, the oldest first: of queued ones the order in which they start."""
    return tuple(map(_run, session.scalars(select(RunRow).where(RunRow.state.in_(states)).order_by(RunRow.id))))


def snapshot_pairs(session: Session, run_id: int) -> Iterator[SnapshotPair]:
    """Yield the data of a run, by identity."""
    statement = select(RunPairRow).where(RunPairRow.run_id == run_id).order_by(RunPairRow.identity)
    for row in session.scalars(statement.execution_options(yield_per=_STREAM)):
        yield SnapshotPair(
            pair_id=row.pair_id,
            part=row.part,
            identity=row.identity,
            label=row.label,
            strength=row.strength,
            sub_scores=row.sub_scores,
            label_ids=tuple(row.label_ids),
        )


def mark_running(session: Session, run_id: int, pid: int, data_home: str) -> Run:
    """Mark a run as running in a process.

    The supervisor calls it in the transaction of `run_queue.next_queued`, the process itself once it has the run's lock.

    Args:
        data_home: the id of the data folder that it works in, see `data_home_id`.

    Raises:
        NotInStoreError: there is no such run.
        StorageError: it is finished, or was ended and not resumed.
    """
    row = _changing(session, run_id, ("queued", "running", "lost"), "start")
    if row.state != "running":
        row.started_at, row.ended_at, row.message = utc_now(), None, ""
    row.state, row.pid, row.host = "running", pid, data_home
    return _saved(session, row)


def mark_sent(session: Session, run_id: int, place: RunPlace, job: str, progress: Mapping[str, Any], data_home: str) -> Run:
    """Mark a run as running at a place where it has no process of this machine.

    Args:
        job: what names it there.
        data_home: as in `mark_running`.

    Raises:
        NotInStoreError: there is no such run.
        StorageError: it is over.
    """
    row = _changing(session, run_id, ("queued", "running"), "send")
    if row.state == "queued":
        row.started_at, row.ended_at, row.message = utc_now(), None, ""
    row.state, row.pid, row.host, row.progress = "running", None, data_home, dict(progress)
    row.place, row.device, row.job = place, place, job
    return _saved(session, row)


def set_progress(session: Session, run_id: int, progress: Mapping[str, Any]) -> Run:
    """Store the progress of a run; the answer tells its process whether to stop (`cancel_requested_at`).

    Raises:
        NotInStoreError: there is no such run.
        StorageError: it does not run.
    """
    row = _changing(session, run_id, ("running",), "report progress")
    row.progress = dict(progress)
    return _saved(session, row)


def finish(
    session: Session,
    run_id: int,
    state: Literal["finished", "failed", "cancelled"],
    exit_code: int | None,
    message: str = "",
    candidate_id: int | None = None,
    verdict: str | None = None,
) -> Run:
    """End a run that was running.

    Args:
        message: for people: why it failed. candidate_id: the checkpoint that a finished training made.

    Raises:
        NotInStoreError: there is no such run or candidate.
        StorageError: it does not run, or a finished training has no candidate.
    """
    row = _changing(session, run_id, ("running", "lost"), "end")
    if state == "finished" and row.kind == "train" and candidate_id is None:
        raise StorageError(f"run {run_id} can't be finished without the checkpoint that it made")
    if candidate_id is not None:
        get_checkpoint(session, candidate_id)
    row.state, row.exit_code, row.ended_at = state, exit_code, utc_now()
    row.message = message[: text_limit(RunRow.message)]  # the end of a run is kept, however long its message
    row.candidate_id, row.verdict, row.pid = candidate_id, verdict, None
    return _saved(session, row)


def request_cancel(session: Session, run_id: int) -> Run:
    """Cancel a run: one that waits at once, one that runs is asked to stop (and needs a signal besides).

    Raises:
        NotInStoreError: there is no such run.
        StorageError: it is over.
    """
    row = _changing(session, run_id, ("queued", "running"), "cancel")
    row.cancel_requested_at = row.cancel_requested_at or utc_now()
    if row.state == "queued":
        row.state, row.ended_at, row.message = "cancelled", utc_now(), "cancelled before it began"
    return _saved(session, row)


def requeue(session: Session, run_id: int) -> Run:
    """Resume a run that failed, was cancelled or lost: it goes on from its last checkpoint when its turn comes.

    Raises:
        NotInStoreError: there is no such run.
        StorageError: it waits, runs or is finished, or a checkpoint that it needs was deleted.
    """
    row = _changing(session, run_id, _OVER, "resume")
    for checkpoint_id in (row.parent_id, row.rival_id):
        _usable(session, checkpoint_id)
    row.state, row.message = "queued", ""
    row.ended_at = row.exit_code = row.cancel_requested_at = row.pid = row.host = None
    if row.place == "slurm":  # its job is over; a pack stays where it is
        row.job = ""
    return _saved(session, row)


def mark_lost(session: Session, run_id: int, message: str) -> Run:
    """Mark a running run as lost: its process is gone (its lock is free). message: what is known of it.

    Raises:
        NotInStoreError: there is no such run.
        StorageError: it does not run.
    """
    row = _changing(session, run_id, ("running",), "lose")
    row.state, row.message, row.ended_at, row.pid = "lost", message, utc_now(), None
    return _saved(session, row)


def newest_trained_label(session: Session, checkpoint_id: int) -> int:
    """Return the id of the newest label that a checkpoint could be trained on; 0 for one that was not trained here.

    Raises:
        NotInStoreError: there is no such checkpoint.
    """
    run_id = get_checkpoint(session, checkpoint_id).run_id
    return 0 if run_id is None else get_run(session, run_id).last_label_id


def is_here(run: Run, home: Path) -> bool:
    """Whether a run works in this data folder, or nobody works on it yet."""
    return run.host in (None, data_home_id(home), socket.gethostname())  # the machine's name is how it was kept once


def _check(session: Session, request: RunRequest, snapshot: Snapshot | None) -> None:
    if not request.name.strip() or not request.device:
        raise StorageError("a run needs a name and a device")
    if request.kind == "score" and request.place != "here":
        raise StorageError("a scoring judges pairs of this store and runs on this machine")
    if request.kind == "train":
        if snapshot is None or not request.stages or not request.preset or request.rival_id is None:
            raise StorageError("a training needs its data, stages, a preset and the checkpoint to compare with")
        if not any(pair.part != "held_out" for pair in snapshot.pairs):
            raise StorageError("there is nothing to train on: no new pair that people agree on, beside those held out")
    elif snapshot is not None:
        raise StorageError("a scoring takes no labels along")
    for checkpoint_id in (request.parent_id, request.rival_id):
        _usable(session, checkpoint_id)


def _usable(session: Session, checkpoint_id: int | None) -> None:
    if checkpoint_id is not None and (checkpoint := get_checkpoint(session, checkpoint_id)).deleted_at is not None:
        raise StorageError(f"the checkpoint {checkpoint.name} was deleted; start a new run from another one")


def _changing(session: Session, run_id: int, allowed: Sequence[RunState], what: str) -> RunRow:
    """Lock the row of a run till the end of the transaction, if it may change so."""
    row = session.get(RunRow, run_id, with_for_update={"key_share": True}, populate_existing=True)
    if row is None:
        raise _unknown(run_id)
    if row.state not in allowed:
        advice = {
            "queued": "it waits for its turn",
            "running": "it is running; cancel it first",
            "finished": "it is finished; start a new run",
        }.get(row.state, f"it was {row.state}; resume it first")
        raise StorageError(f"can't {what} run {run_id}: {advice}")
    return row


def _unknown(run_id: int) -> NotInStoreError:
    return NotInStoreError(f"there is no run {run_id}")


def _saved(session: Session, row: RunRow) -> Run:
    session.flush()
    return _run(row)


def _run(row: RunRow) -> Run:
    values = {name: getattr(row, name) for name in _FIELDS}
    return Run(**values | {"stages": tuple(row.stages), "overrides": tuple(row.overrides)})
