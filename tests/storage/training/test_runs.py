"""Runs: their queue, their ends, and their frozen data."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import text
from sqlalchemy.orm import Session

from storage import Database, NotInStoreError, StorageError
from storage.data_home import data_home_id
from storage.maintenance.integrity import check_store, check_tables
from storage.training.model_registry import mark_deleted, promote, register_checkpoint
from storage.training.run_queue import next_queued
from storage.training.runs import (
    Run,
    create_run,
    finish,
    get_run,
    is_here,
    list_runs,
    mark_lost,
    mark_running,
    mark_sent,
    newest_trained_label,
    request_cancel,
    requeue,
    runs_in,
    set_progress,
    snapshot_pairs,
)
from storage.training.snapshot_config import SnapshotConfig
from storage.training.snapshots import Snapshot, held_out_share_in_use, make_snapshot, snapshot_hash, with_share_in_use
from tests.helpers.labelling import make_team
from tests.helpers.retraining import add_run, let_say, make_checkpoint, serve_base, snapshot_of, training

if TYPE_CHECKING:
    from storage.schema import RunState

PAIRS = 12
Change = Callable[[Session, int], Run]
CHANGES: dict[str, Change] = {
    "start": lambda session, run: mark_running(session, run, 42, "here"),
    "progress": lambda session, run: set_progress(session, run, {"step": 3}),
    "fail": lambda session, run: finish(session, run, "failed", 1, "out of memory"),
    "cancel": request_cancel,
    "resume": requeue,
    "lose": lambda session, run: mark_lost(session, run, "process 42 is gone"),
}
# From each state what can be done, and where that leads.
ALLOWED: dict[RunState, dict[str, RunState]] = {
    "queued": {"start": "running", "cancel": "cancelled"},
    "running": {"start": "running", "progress": "running", "fail": "failed", "cancel": "running", "lose": "lost"},
    "failed": {"resume": "queued"},
    "cancelled": {"resume": "queued"},
    "lost": {"start": "running", "fail": "failed", "resume": "queued"},
    "finished": {},
}


@pytest.fixture
def snapshot(database: Database) -> Snapshot:
    """The data of a store with some labels."""
    team = make_team(database, pairs=PAIRS, people=1, overlap=1)
    let_say(database, team, 0, "AB=x" * 3)
    return snapshot_of(database)


def in_state(session: Session, state: RunState, snapshot: Snapshot) -> Run:
    """A new run that got there."""
    run = add_run(session, serve_base(session), snapshot)
    if state == "queued":
        return run
    if state == "cancelled":
        return request_cancel(session, run.id)
    mark_running(session, run.id, 42, "here")
    if state == "running":
        return get_run(session, run.id)
    if state == "finished":
        made = make_checkpoint(session, "made", run_id=run.id)
        return finish(session, run.id, "finished", 0, "", made.id, "better")
    return CHANGES["fail" if state == "failed" else "lose"](session, run.id)


def test_only_changes_that_make_sense_are_made(database: Database, snapshot: Snapshot) -> None:
    for state, allowed in ALLOWED.items():
        with database.write() as session:
            run = in_state(session, state, snapshot)
        assert run.state == state
        for name, change in CHANGES.items():
            with database.write() as session, session.begin_nested() as undone:
                if name in allowed:
                    assert change(session, run.id).state == allowed[name]
                else:
                    with pytest.raises(StorageError, match=f"run {run.id}: it "):
                        change(session, run.id)
                undone.rollback()
    assert check_store(database) == ()


def test_a_run_keeps_its_request_and_its_data(database: Database, snapshot: Snapshot) -> None:
    with database.write() as session:
        base = serve_base(session)
        asked = training(base, overrides=("dual_rl.steps=4",), request={"benchmark_pairs": 50}, auto_promote=True)
        run = create_run(session, asked, snapshot, None)
    with database.read() as session:
        assert get_run(session, run.id) == run
        kept = tuple(snapshot_pairs(session, run.id))
    assert (run.folder, run.state, run.overrides, run.request) == (
        f"runs/{run.id}",
        "queued",
        asked.overrides,
        asked.request,
    )
    assert kept == snapshot.pairs
    assert snapshot_hash(reversed(kept)) == run.snapshot_hash == snapshot.sha256
    assert run.counts == snapshot.counts
    assert sum(run.counts[part] for part in ("new", "replay", "held_out")) == PAIRS
    assert run.snapshot is not None
    assert run.snapshot["held_out_share"] == 0.2


def test_the_queue_keeps_its_order_and_one_run_has_a_device(database: Database, snapshot: Snapshot) -> None:
    with database.write() as session:
        base = serve_base(session)
        devices = ("cpu", "cpu", "cuda:0", "cpu")
        first, second, gpu, last = (add_run(session, base, snapshot, device=device).id for device in devices)

        def following(device: str | None = None) -> int | None:
            found = next_queued(session, device)
            return None if found is None else found.id

        assert following() == first
        assert following("cuda:0") == gpu
        mark_running(session, first, 1, "here")
        assert (following("cpu"), following(), following("cuda:1")) == (None, gpu, None)
        assert [run.id for run in runs_in(session, "queued")] == [second, gpu, last]
        mark_lost(session, first, "gone")
        assert following("cpu") == second
        requeue(session, first)
        assert following("cpu") == first
        request_cancel(session, first)
        assert following("cpu") == second
        assert [run.id for run in list_runs(session, limit=2)] == [last, gpu]
        assert list_runs(session, kind="score") == ()


def test_two_that_look_at_once_start_a_run_once(database: Database, snapshot: Snapshot) -> None:
    with database.write() as session:
        add_run(session, serve_base(session), snapshot)
    barrier, started = threading.Barrier(4), []

    def supervise(number: int) -> None:
        barrier.wait(20)
        with database.write() as session:
            run = next_queued(session)
            if run is not None:
                started.append(mark_running(session, run.id, number, "here").pid)

    threads = [threading.Thread(target=supervise, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(started) == 1
    with database.read() as session:
        (run,) = runs_in(session, "running")
        assert run.pid == started[0]


def test_a_run_tells_how_far_it_is_and_learns_that_it_should_stop(database: Database, snapshot: Snapshot) -> None:
    with database.write() as session:
        run = in_state(session, "running", snapshot)
        told = set_progress(session, run.id, {"stage": "dual-rl", "step": 3, "steps": 10, "seconds_left": 70.5})
        assert told.cancel_requested_at is None
        assert told.progress["step"] == 3
        asked = request_cancel(session, run.id)
        assert request_cancel(session, run.id) == asked
        assert asked.state == "running"
        assert set_progress(session, run.id, {"step": 4}).cancel_requested_at is not None
        ended = finish(session, run.id, "cancelled", 143, "cancelled after step 4")
        assert (ended.state, ended.exit_code, ended.pid, ended.progress) == ("cancelled", 143, None, {"step": 4})
        again = requeue(session, run.id)
        assert (again.cancel_requested_at, again.exit_code, again.ended_at, again.message) == (None, None, None, "")
        assert again.progress == {"step": 4}


def test_a_training_ends_with_a_checkpoint_which_knows_its_labels(database: Database, snapshot: Snapshot) -> None:
    with database.write() as session:
        run = in_state(session, "running", snapshot)
        with pytest.raises(StorageError, match="without the checkpoint"):
            finish(session, run.id, "finished", 0)
        with pytest.raises(NotInStoreError):
            finish(session, run.id, "finished", 0, "", 99, "better")
        made = make_checkpoint(session, "made", run_id=run.id, parent_id=run.parent_id, snapshot_hash=run.snapshot_hash)
        ended = finish(session, run.id, "finished", 0, "", made.id, "better")
        assert (ended.candidate_id, ended.verdict) == (made.id, "better")
        assert ended.ended_at is not None
        assert run.parent_id is not None
        assert (newest_trained_label(session, made.id), newest_trained_label(session, run.parent_id)) == (
            snapshot.last_label_id,
            0,
        )


def test_requests_that_make_no_sense_are_refused(database: Database, snapshot: Snapshot) -> None:
    nothing = Snapshot((), snapshot_hash(()), 0, {"new": 0}, snapshot.chosen_by)
    with database.write() as session:
        base, gone = serve_base(session), make_checkpoint(session, "gone")
        mark_deleted(session, gone.id)
        refused = [
            ("needs a name", training(base, name=" "), snapshot),
            ("needs its data", training(base), None),
            ("needs its data", training(base, stages=()), snapshot),
            ("nothing to train on", training(base), nothing),
            ("takes no labels", training(base, kind="score"), snapshot),
            ("was deleted", training(base, rival_id=gone.id), snapshot),
            ("no checkpoint 99", training(base, parent_id=99), snapshot),
        ]
        for message, request, data in refused:
            with pytest.raises(StorageError, match=message):
                create_run(session, request, data, None)
        assert list_runs(session) == ()
        scoring = create_run(session, training(base, kind="score", request={"modes": ["think"]}), None, None)
        mark_running(session, scoring.id, 1, "here")
        assert finish(session, scoring.id, "finished", 0).candidate_id is None


def test_pairs_that_were_learnt_are_never_held_out_later(database: Database, snapshot: Snapshot) -> None:
    larger, smaller = snapshot_of(database, held_out_share=0.4), snapshot_of(database, held_out_share=0.1)
    with database.write() as session:
        base = serve_base(session)
        run = add_run(session, base, snapshot)
        made = make_checkpoint(session, "made", run_id=run.id)
        with pytest.raises(StorageError, match="trained with 20% of the pairs held out"):
            add_run(session, base, larger)
        assert add_run(session, base, smaller).state == "queued"
        mark_deleted(session, made.id)
        assert add_run(session, base, larger).state == "queued"


def test_checkpoints_of_the_command_line_hold_their_pairs_out_too(database: Database, snapshot: Snapshot) -> None:
    with database.write() as session:
        base = serve_base(session)
        for name, csv, share in (("own", None, 0.1), ("a table", "x.csv", 0.01)):
            data = {"csv": csv, "held_out_share": share}
            register_checkpoint(session, name=name, location=f"/{name}", fingerprint=name, settings={"data": data})
        assert held_out_share_in_use(session) == 0.1
        with pytest.raises(StorageError, match="trained with 10% of the pairs held out"):
            add_run(session, base, snapshot)
        settings = with_share_in_use(session, SnapshotConfig())
        assert settings.held_out_share == 0.1
        assert add_run(session, base, make_snapshot(session, settings, 0, incremental=False)).state == "queued"


def test_a_run_belongs_to_its_data_folder_whatever_the_machine_is_called(
    database: Database, snapshot: Snapshot, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with database.write() as session:
        run = add_run(session, serve_base(session), snapshot)
        assert is_here(run, database.home)
        run = mark_running(session, run.id, 1, data_home_id(database.home))
    monkeypatch.setattr("socket.gethostname", lambda: "a new container")
    assert is_here(run, database.home)
    assert not is_here(run, tmp_path / "elsewhere")
    assert data_home_id(database.home) == data_home_id(database.home) != data_home_id(tmp_path / "elsewhere")


def test_a_run_of_several_gpus_waits_for_all_of_them_and_is_not_passed(database: Database, snapshot: Snapshot) -> None:
    with database.write() as session:
        base = serve_base(session)
        devices = ("cuda:0", "cuda:0-3", "cuda:1", "cuda:5", "slurm", "elsewhere")
        places = {"slurm": "slurm", "elsewhere": "elsewhere"}
        one, four, second, fifth, job, pack = (
            add_run(session, base, snapshot, device=device, place=places.get(device, "here")).id for device in devices
        )

        def following() -> int | None:
            found = next_queued(session)
            return None if found is None else found.id

        started = []
        while (run := next_queued(session)) is not None:
            started.append(mark_running(session, run.id, 1, "here").id)
        assert started == [one, fifth, job, pack]  # the second GPU is kept for the run that waits for four
        mark_lost(session, one, "gone")
        assert following() == four
        mark_running(session, four, 1, "here")
        assert following() is None
        mark_lost(session, four, "gone")
        assert following() == second


def test_a_run_that_was_sent_away_keeps_its_place_and_what_names_it_there(database: Database, snapshot: Snapshot) -> None:
    with database.write() as session:
        run = add_run(session, serve_base(session), snapshot)
        assert (run.place, run.job) == ("here", "")
        mark_running(session, run.id, 42, "here")
        sent = mark_sent(session, run.id, "slurm", "4711", {"stage": "slurm"}, "home")
        assert (sent.state, sent.place, sent.job, sent.device, sent.pid) == ("running", "slurm", "4711", "slurm", None)
        mark_lost(session, run.id, "gone")
        assert requeue(session, run.id).job == ""  # another job
        mark_sent(session, run.id, "elsewhere", "/packs/run-1", {"stage": "elsewhere"}, "home")
        mark_lost(session, run.id, "gone")
        again = requeue(session, run.id)
        assert (again.place, again.job) == ("elsewhere", "/packs/run-1")  # the same pack
        with pytest.raises(StorageError, match="it was cancelled"):
            mark_sent(session, request_cancel(session, run.id).id, "slurm", "1", {}, "home")
        with pytest.raises(StorageError, match="runs on this machine"):
            create_run(session, replace(training(serve_base(session)), kind="score", place="slurm"), None, None)


def test_a_gpu_has_one_name(database: Database, snapshot: Snapshot) -> None:
    with database.write() as session:
        assert add_run(session, serve_base(session), snapshot, device="cuda").device == "cuda:0"


def test_a_run_whose_parent_was_deleted_is_not_resumed(database: Database, snapshot: Snapshot) -> None:
    with database.write() as session:
        base, parent = serve_base(session), make_checkpoint(session, "parent")
        run = request_cancel(session, add_run(session, base, snapshot, parent_id=parent.id).id)
        mark_deleted(session, parent.id)
        with pytest.raises(StorageError, match="parent was deleted"):
            requeue(session, run.id)
        register_checkpoint(session, name="x", location="./checkpoints/x", fingerprint=parent.fingerprint)
        assert requeue(session, run.id).state == "queued"


DAMAGES = [
    ("without the checkpoint that it made", "UPDATE runs SET candidate_id = NULL"),
    ("is not what was frozen", "UPDATE run_pairs SET label = 0 WHERE label = 1"),
    ("pairs as new, its counts say", "DELETE FROM run_pairs WHERE part = 'new'"),
]


def test_check_finds_a_run_that_is_not_what_it_was(database: Database, snapshot: Snapshot) -> None:
    with database.write() as session:
        run = in_state(session, "finished", snapshot)
        assert run.candidate_id is not None
        promote(session, run.candidate_id, "automatic")
    with database.write() as session:
        assert check_tables(session) == []
        if database.engine.dialect.name == "postgresql":
            session.execute(text("SET LOCAL session_replication_role = replica"))
        else:
            for name in session.scalars(text("SELECT name FROM sqlite_master WHERE type = 'trigger'")).all():
                session.execute(text(f"DROP TRIGGER {name}"))
        for words, damage in DAMAGES:
            with session.begin_nested() as undone:
                session.execute(text(damage))
                session.expire_all()
                found = check_tables(session)
                assert any(one.rule == "runs" and words in one.message for one in found), found
                undone.rollback()


def test_the_database_refuses_to_change_the_data_of_a_run(database: Database, snapshot: Snapshot) -> None:
    with database.write() as session:
        in_state(session, "queued", snapshot)
    for change in ("UPDATE run_pairs SET label = 0", "DELETE FROM run_pairs"):
        with pytest.raises(StorageError, match="append-only"), database.write() as session:
            session.execute(text(change))
