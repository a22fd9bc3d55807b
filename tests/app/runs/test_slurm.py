"""Runs as jobs of SLURM, against a small one on PATH: handed in, waiting, running, ended in each way, resumed."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from app.runs.places.place import PlaceError
from app.runs.places.places import Places
from app.runs.places.slurm import INSTALL
from app.runs.places.slurm_settings import FILE, SlurmSettings, read_settings
from app.runs.supervisor import RunSupervisor
from storage import Database
from storage.training.model_registry import get_checkpoint
from storage.training.run_folder import LOG
from storage.training.runs import Run, get_run
from tests.helpers.fake_slurm import FakeSlurm
from tests.helpers.paths import ROOT
from tests.helpers.placed_runs import ask, goes_on, is_over, now, serving, supervise, until
from tests.helpers.store_world import make_world
from tests.helpers.waiting import wait_until

pytestmark = pytest.mark.training

SETTINGS = """
partition: gpu
gpus: 4
hours: 1.5
options: {account: vision, mem: 200G}
setup: [export PREPARED=yes]
same_machine: true
"""


@pytest.fixture
def slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeSlurm:
    (tmp_path / FILE).write_text(SETTINGS)
    return FakeSlurm.install(tmp_path / "cluster", monkeypatch)


def ask_slurm(database: Database, name: str = "week 12") -> Run:
    return ask(database, name, device="slurm", place="slurm")


def is_waiting(run: Run) -> bool:
    return run.progress == {"stage": "slurm", "part": "PENDING"}


def test_a_job_waits_runs_and_ends_with_its_run(database: Database, slurm: FakeSlurm) -> None:
    slurm.fill()
    run, supervisor = ask_slurm(database), supervise(database, "short")
    waiting = until(supervisor, database, run, is_waiting)
    assert (waiting.state, waiting.place, waiting.job, waiting.pid) == ("running", "slurm", "1", None)
    options = slurm.options("1")
    expected = {"partition": "gpu", "gpus-per-node": "4", "time": "90", "account": "vision", "mem": "200G", "nodes": "1"}
    assert {name: options[name] for name in expected} == expected
    assert options["job-name"] == f"descore-run-{run.id}"
    assert options["signal"] == "TERM@600"
    script = (slurm.folder / "jobs" / "1" / "script.sh").read_text()
    assert "export PREPARED=yes" in script
    assert "DATABASE_URL" not in script
    slurm.free()
    ended = until(supervisor, database, run, is_over)
    assert (ended.state, ended.verdict) == ("finished", "better")
    wait_until(lambda: slurm.state("1") == "COMPLETED", "the end of the job")


def test_a_waiting_job_is_cancelled_and_a_resumed_run_gets_another(database: Database, slurm: FakeSlurm) -> None:
    slurm.fill()
    run, supervisor = ask_slurm(database), supervise(database, "short")
    until(supervisor, database, run, is_waiting)
    supervisor.cancel(run.id)
    assert until(supervisor, database, run, is_over).state == "cancelled"
    assert slurm.state("1") == "CANCELLED"
    slurm.free()
    supervisor.resume(run.id)
    assert until(supervisor, database, run, is_over).state == "finished"
    assert slurm.jobs() == ["1", "2"]


def test_a_running_job_ends_after_its_step_or_at_once(database: Database, slurm: FakeSlurm) -> None:
    gentle, supervisor = ask_slurm(database, "gentle"), supervise(database, "wish")
    until(supervisor, database, gentle, goes_on)
    supervisor.cancel(gentle.id)
    ended = until(supervisor, database, gentle, is_over)
    assert (ended.state, ended.exit_code, ended.message) == ("cancelled", 143, "stopped")
    assert slurm.state("1") != "CANCELLED"  # the process itself has read the wish

    hard, supervisor = ask_slurm(database, "hard"), supervise(database, "deaf")
    job = until(supervisor, database, hard, goes_on).job
    supervisor.end_at_once(hard.id)
    slurm.end(job, "CANCELLED")  # SLURM kills what does not listen
    ended = until(supervisor, database, hard, is_over)
    assert (ended.state, ended.message) == ("cancelled", "ended at once; it can go on from its last checkpoint")


def test_slurms_warning_before_the_end_of_the_time_reaches_the_training_itself(database: Database, slurm: FakeSlurm) -> None:
    run, supervisor = ask_slurm(database), supervise(database, "long")
    job = until(supervisor, database, run, goes_on).job
    slurm.end(job, "RUNNING", signal.SIGTERM)
    ended = until(supervisor, database, run, is_over)
    assert (ended.state, ended.exit_code) == ("cancelled", 143)


@pytest.mark.parametrize(
    ("state", "becomes", "words"),
    [
        ("TIMEOUT", "lost", "the time of its job was over"),
        ("NODE_FAIL", "lost", "the node of its job failed"),
        ("PREEMPTED", "lost", "had to make room"),
        ("OUT_OF_MEMORY", "failed", "more memory than it had"),
    ],
)
def test_the_end_of_a_job_that_could_say_nothing_is_mapped(
    database: Database, slurm: FakeSlurm, state: str, becomes: str, words: str
) -> None:
    run, supervisor = ask_slurm(database), supervise(database, "long")
    job = until(supervisor, database, run, goes_on).job
    slurm.end(job, state)
    ended = until(supervisor, database, run, is_over)
    assert ended.state == becomes
    assert words in ended.message


def test_a_job_that_slurm_has_forgotten_is_lost_and_one_that_it_does_not_answer_for_is_not(
    database: Database, slurm: FakeSlurm
) -> None:
    run, supervisor = ask_slurm(database), supervise(database, "long")
    job = until(supervisor, database, run, goes_on).job
    squeue = slurm.folder / "bin" / "squeue"
    program = squeue.read_text()
    squeue.write_text("#!/bin/sh\necho 'Unable to contact slurm controller' >&2\nexit 1\n")
    for _ in range(3):
        supervisor.tick()
    assert now(database, run).state == "running"
    squeue.write_text(program)
    slurm.end(job, "RUNNING")
    slurm.forget(job)
    ended = until(supervisor, database, run, is_over)
    assert ended.state == "lost"
    assert "no longer lists its job" in ended.message


def test_a_job_whose_program_can_not_start_fails_with_its_last_words(database: Database, slurm: FakeSlurm) -> None:
    run = ask_slurm(database)
    places = Places(database, serving(), (str(database.home / "no-such-program"),), look_seconds=0.0)
    supervisor = RunSupervisor(database, serving(), places)
    ended = until(supervisor, database, run, is_over)
    assert ended.state == "failed"
    assert "its job failed before the training could say why" in ended.message
    assert "no-such-program" in ended.message
    assert "no-such-program" in places.of(ended).tail(ended, 4000)
    assert slurm.state("1") == "FAILED"


def test_what_slurm_refuses_is_the_message_of_a_failed_run(database: Database, slurm: FakeSlurm) -> None:
    slurm.refuse("invalid partition specified: gpu")
    run = ask_slurm(database)
    ended = until(supervise(database, "short"), database, run, is_over)
    assert (ended.state, slurm.jobs()) == ("failed", [])
    assert ended.message == "SLURM took no job: sbatch: error: invalid partition specified: gpu"
    assert not (database.home / run.folder / LOG).exists()


def test_the_choice_says_what_a_job_gets_or_what_is_missing(
    database: Database, slurm: FakeSlurm, monkeypatch: pytest.MonkeyPatch
) -> None:
    places, settings = Places(database, serving()), database.home / FILE

    def choice() -> tuple[str, str]:
        (found,) = (each for each in places.choices() if each.name == "slurm")
        return found.about, found.why_not

    assert choice() == ("partition gpu, 4 GPUs, 1.5 h", "")
    settings.write_text(SETTINGS.replace("same_machine: true", ""))
    assert "can't write to SQLite's file" in choice()[1]
    settings.write_text(SETTINGS)
    (slurm.folder / "bin" / "scancel").unlink()
    (slurm.folder / "bin" / "squeue").unlink()
    assert "there is no squeue and no scancel on PATH" in choice()[1]
    monkeypatch.setattr("app.runs.places.slurm.find_spec", lambda _name: None)
    assert choice() == ("", INSTALL)
    settings.unlink()
    assert "needs slurm.yaml" in choice()[1]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("gpus: many", "gpus must be a whole number from 0 to 64, not 'many'"),
        ("gpus: 1.5", "gpus must be"),
        ("gpus: true", "gpus must be"),
        ("hours: 0", "hours must be a number of hours"),
        ("gpu: 8", "there is no setting gpu; there are partition, gpus, hours"),
        ("options: [a]", "options must be a mapping"),
        ("setup: module load cuda", "setup must be a list"),
        ("same_machine: maybe", "same_machine must be true or false"),
        ("partition: 3", "partition must be a name"),
        ("- gpus", "holds no settings"),
        ("gpus: [", "is no YAML"),
    ],
)
def test_settings_that_can_not_be_used_are_named(tmp_path: Path, text: str, sentence: str) -> None:
    (tmp_path / FILE).write_text(text)
    with pytest.raises(PlaceError, match=sentence):
        read_settings(tmp_path)


def test_settings_may_be_left_out(tmp_path: Path) -> None:
    assert read_settings(tmp_path) is None
    (tmp_path / FILE).write_text("")
    assert read_settings(tmp_path) == SlurmSettings() == SlurmSettings("", 1, 24.0)
    (tmp_path / FILE).write_text("hours: 0.001")
    assert (read_settings(tmp_path) or SlurmSettings()).minutes == 1


def test_an_unknown_option_of_sbatch_goes_to_sbatch(database: Database, slurm: FakeSlurm) -> None:
    (database.home / FILE).write_text("same_machine: true\ngpus: 0\noptions: {mail_user: lab@example.org, exclusive: true}")
    run, supervisor = ask_slurm(database), supervise(database, "short")
    assert until(supervisor, database, run, is_over).state == "finished"
    options = slurm.options("1")
    assert options["mail-user"] == "lab@example.org"
    assert options["exclusive"] == ""
    assert "gpus-per-node" not in options


def test_a_real_training_is_done_by_a_job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world = make_world(tmp_path / "home", pairs=24)
    world.label(24)
    (world.home / FILE).write_text("same_machine: true\ngpus: 0")
    FakeSlurm.install(tmp_path / "cluster", monkeypatch)
    monkeypatch.delenv("DATABASE_URL", raising=False)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    run = world.ask(stages=("cold-start",), place="slurm")
    supervisor = RunSupervisor(world.database, serving(), Places(world.database, serving(), look_seconds=0.0))
    ended = until(supervisor, world.database, run, is_over)
    assert (ended.state, ended.exit_code, ended.device) == ("finished", 0, "slurm"), ended.message
    with world.database.read() as session:
        assert ended.candidate_id is not None
        assert get_checkpoint(session, ended.candidate_id).run_id == run.id
        assert get_run(session, run.id).job == "1"
    assert supervisor.places.of(ended).tail(ended, 100_000).count("cold-start is finished") == 1
    world.database.close()
