"""Runs as processes of their own: one at a time, ended, found again, noticed when they die."""

from __future__ import annotations

import os
import signal
import socket

import pytest

from app.runs.places.places import Places
from app.runs.places.run_processes import last_words
from app.runs.supervisor import RunSupervisor
from storage import Database, StorageError
from storage.training.run_folder import LOG, is_held
from storage.training.runs import mark_running, request_cancel
from tests.helpers.placed_runs import ask, goes_on, is_over, now, serving, supervise, until
from tests.helpers.stand_in_run import HEARD
from tests.helpers.waiting import wait_until

pytestmark = pytest.mark.training


def test_one_run_a_device_at_a_time_and_the_others_wait(database: Database) -> None:
    first, second, elsewhere = ask(database, "first"), ask(database, "second"), ask(database, "third", device="cuda:0")
    supervisor = supervise(database, "long")
    until(supervisor, database, first, goes_on)
    until(supervisor, database, elsewhere, goes_on)
    assert now(database, second).state == "queued"
    for run in (first, elsewhere):
        supervisor.cancel(run.id)
        assert until(supervisor, database, run, is_over).state == "cancelled"
    until(supervisor, database, second, goes_on)
    supervisor.cancel(second.id)
    ended = until(supervisor, database, second, is_over)
    assert (ended.state, ended.exit_code) == ("cancelled", 143)
    until(supervisor, database, second, lambda run: not is_held(database.home / run.folder))


def test_a_queued_run_is_cancelled_without_ever_starting_and_can_be_resumed(database: Database) -> None:
    run, supervisor = ask(database), supervise(database, "short")
    assert supervisor.cancel(run.id).state == "cancelled"
    supervisor.tick()
    assert not (database.home / run.folder / LOG).exists()
    assert supervisor.resume(run.id).state == "queued"
    assert until(supervisor, database, run, is_over).state == "finished"
    with pytest.raises(StorageError, match="finished"):
        supervisor.cancel(run.id)


def test_a_killed_process_is_noticed_and_its_run_resumed(database: Database) -> None:
    run, supervisor = ask(database), supervise(database, "long")
    found = until(supervisor, database, run, goes_on)
    assert found.pid is not None
    os.kill(found.pid, signal.SIGKILL)
    lost = until(supervisor, database, run, is_over)
    assert lost.state == "lost"
    assert "ended without a message" in lost.message
    supervisor.resume(run.id)
    until(supervisor, database, run, goes_on)
    supervisor.cancel(run.id)
    assert until(supervisor, database, run, is_over).state == "cancelled"


def test_a_process_that_ends_without_a_word_is_lost(database: Database) -> None:
    run = ask(database)
    assert until(supervise(database, "mute"), database, run, is_over).state == "lost"


def test_what_refuses_at_once_says_why_in_the_runs_own_message(database: Database) -> None:
    run = ask(database)
    failed = until(supervise(database, "refuse"), database, run, is_over)
    assert (failed.state, failed.exit_code, failed.message) == ("failed", 2, "nothing to do here")
    assert last_words(database.home / run.folder) == "nothing to do here"


def test_a_program_that_is_not_there_is_a_failed_run(database: Database) -> None:
    run = ask(database)
    places = Places(database, serving(), (str(database.home / "no-such-program"),))
    supervisor = RunSupervisor(database, serving(), places)
    assert "could not be started" in until(supervisor, database, run, is_over).message


def test_a_new_app_finds_what_still_runs_and_can_end_it(database: Database) -> None:
    run, before = ask(database), supervise(database, "long")
    pid = until(before, database, run, goes_on).pid
    after = supervise(database, "long")
    for _ in range(3):
        after.tick()
    found = now(database, run)
    assert (found.state, found.pid) == ("running", pid)
    assert is_held(database.home / run.folder)
    after.cancel(run.id)
    assert until(after, database, run, is_over).state == "cancelled"


def test_a_new_app_notices_what_died_while_no_app_was_there(database: Database) -> None:
    run = ask(database)
    with database.write() as session:
        mark_running(session, run.id, 2**22 - 3, socket.gethostname())
    assert until(supervise(database, "long"), database, run, is_over).state == "lost"


def test_a_run_on_another_machine_is_left_alone(database: Database) -> None:
    run = ask(database)
    with database.write() as session:
        mark_running(session, run.id, 1, "elsewhere")
    supervisor = supervise(database, "long")
    supervisor.tick()
    assert now(database, run).state == "running"
    with pytest.raises(StorageError, match="does not run on this machine"):
        supervisor.end_at_once(run.id)


def test_a_run_that_does_not_listen_is_ended_at_once(database: Database) -> None:
    run, supervisor = ask(database), supervise(database, "deaf")
    until(supervisor, database, run, goes_on)
    supervisor.cancel(run.id)
    supervisor.tick()
    wait_until((database.home / run.folder / HEARD).exists, "the signal")
    assert now(database, run).state == "running"
    supervisor.end_at_once(run.id)
    ended = until(supervisor, database, run, is_over)
    assert ended.state == "cancelled"
    assert "last checkpoint" in ended.message


def test_a_wish_to_cancel_that_came_from_elsewhere_is_carried_out(database: Database) -> None:
    run, supervisor = ask(database), supervise(database, "long")
    until(supervisor, database, run, goes_on)
    with database.write() as session:
        request_cancel(session, run.id)
    assert until(supervisor, database, run, is_over).state == "cancelled"


def test_the_thread_does_it_alone_and_leaves_runs_going_when_it_stops(database: Database) -> None:
    run, supervisor = ask(database), supervise(database, "long")
    supervisor.start()
    wait_until(lambda: goes_on(now(database, run)), "the start of the run")
    supervisor.close()
    assert goes_on(now(database, run))
    assert is_held(database.home / run.folder)
    supervisor.end_at_once(run.id)
    assert until(supervisor, database, run, is_over).state == "cancelled"
