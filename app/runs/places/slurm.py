"""SLURM: a run is a job that submitit hands in, and that does `python -m trainer run ID` on a node of the cluster.

The node sees the data folder and the store as the app does: a shared disk, and PostgreSQL. The job itself keeps its row, its
log and its checkpoints; SLURM is asked only about jobs that wait, and about those that ended without a word.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import time
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from app.runs.places.place import THERE, PlaceError, PlaceState
from app.runs.places.run_processes import PROJECT, is_starting
from app.runs.places.slurm_settings import FILE, SlurmSettings, read_settings
from storage import Database
from storage.data_home import data_home_id
from storage.training.run_folder import LOG, tail
from storage.training.runs import Run, mark_sent

INSTALL = "SLURM needs the library submitit: pip install submitit"
LOOK_SECONDS = 15.0  # between two questions to SLURM, which answers for a whole cluster
STOP_SECONDS = 600  # before its time is over, a job is asked to stop
QUEUED = "slurm"  # the stage in the progress of a run whose job has not begun
_JOBS = "slurm"  # the folder of the scripts and outputs of a run's jobs, in the run's folder
_GONE = "GONE"

# What SLURM says of a job that has ended although its run goes on by its row.
_FAILED = {
    "FAILED": "its job failed before the training could say why",
    "OUT_OF_MEMORY": "its job took more memory than it had; ask for more (mem among the options of slurm.yaml)",
    "BOOT_FAIL": "the node of its job could not start",
    "DEADLINE": "its job could not be done before its deadline",
}
_LOST = {
    "TIMEOUT": "the time of its job was over; resume it, and a new job goes on from its last checkpoint",
    "PREEMPTED": "its job had to make room for another one; resume it, and a new job goes on from its last checkpoint",
    "NODE_FAIL": "the node of its job failed; resume it, and a new job goes on from its last checkpoint",
    "CANCELLED": "its job was cancelled in SLURM; it can go on from its last checkpoint",
    "REVOKED": "its job was taken back by SLURM; it can go on from its last checkpoint",
    "COMPLETED": "its job ended without a message; it can go on from its last checkpoint",
    _GONE: "SLURM no longer lists its job, and the run left no message; it can go on from its last checkpoint",
}


class Slurm:
    """Runs as jobs of SLURM."""

    def __init__(self, database: Database, command: Sequence[str], look_seconds: float = LOOK_SECONDS) -> None:
        """Set the command that does a run, given its number, and how often SLURM is asked."""
        self._database, self._command, self._look_seconds = database, tuple(command), look_seconds
        self._states: dict[str, str] = {}
        self._looked_at = -float("inf")
        self._watched: set[str] = set()

    def settings(self) -> SlurmSettings:
        """Read the settings, and make sure that jobs can be handed in and reach the store.

        Raises:
            PlaceError: they are missing or wrong, or something is missing on this machine.
        """
        settings = read_settings(self._database.home)
        if settings is None:
            raise PlaceError(f"needs {FILE} in the data folder, see docs/lab.md")
        if find_spec("submitit") is None:
            raise PlaceError(INSTALL)
        missing = [name for name in ("sbatch", "srun", "squeue", "scancel") if shutil.which(name) is None]
        if missing:
            raise PlaceError(f"this machine can't hand in jobs: there is no {' and no '.join(missing)} on PATH")
        if self._database.engine.dialect.name == "sqlite" and not settings.same_machine:
            raise PlaceError(
                "jobs on other machines can't write to SQLite's file: use PostgreSQL (docs/lab.md), or set same_machine: "
                f"true in {FILE} where they run on this one"
            )
        return settings

    def start(self, run: Run) -> None:
        """Hand in a job for the run.

        Raises:
            PlaceError: SLURM, or a setting, refuses.
        """
        settings, folder = self.settings(), self.folder(run)
        (folder / _JOBS).mkdir(parents=True, exist_ok=True)
        try:
            import submitit

            executor = submitit.SlurmExecutor(folder=folder / _JOBS)
            executor.update_parameters(**_parameters(run, settings))
            # The job becomes the trainer, so that SLURM's signals reach that itself.
            job = executor.submit(os.execv, "/bin/sh", ["sh", "-c", self._script(run, folder)])
        except ImportError as error:
            raise PlaceError(INSTALL) from error
        except (ValueError, TypeError) as error:  # an option that it does not know
            raise PlaceError(f"{FILE}: {' '.join(str(error).split())[:500]}") from error
        except Exception as error:  # what sbatch said, in submitit's own exceptions
            raise PlaceError(f"SLURM took no job: {_last_line(str(error))}") from error
        with self._database.write() as session:
            progress = {"stage": QUEUED, "part": "PENDING"}
            mark_sent(session, run.id, "slurm", job.job_id, progress, data_home_id(self._database.home))

    def state(self, run: Run) -> PlaceState:
        """Map what SLURM says of the run's job."""
        if not run.job:
            return THERE if is_starting(run) else PlaceState("lost", "the app ended before it had handed in a job")
        state = self._job_state(run.job)
        if state in _FAILED:
            return PlaceState("failed", f"{_FAILED[state]}{self._words(run)}")
        if state in _LOST:
            return PlaceState("lost", _LOST[state])
        if state and run.progress.get("stage") == QUEUED and run.progress.get("part") != state:
            return PlaceState(progress={"stage": QUEUED, "part": state})
        return THERE

    def cancel(self, run: Run) -> None:
        """Cancel a job that waits. One that runs reads the wish in its row, and ends after its step."""
        if run.progress.get("stage") == QUEUED and self._job_state(run.job) not in (*_FAILED, *_LOST):
            self.end(run)

    def end(self, run: Run) -> bool:
        """Cancel the job at once."""
        if not run.job:
            return False
        try:
            subprocess.run(["scancel", run.job], check=True, capture_output=True, timeout=60)
        except (OSError, subprocess.SubprocessError):
            return False
        self._looked_at = -float("inf")
        return True

    def resumed(self, run: Run) -> None:
        """Do nothing: a resumed run gets a job of its own."""

    def folder(self, run: Run) -> Path:
        """Return the run's folder, which the job sees too."""
        return self._database.home / run.folder

    def tail(self, run: Run, size: int) -> str:
        """Return the end of the log; before the training writes one, what the job said."""
        folder = self.folder(run)
        return tail(folder, size) or self._output(run)[-size:]

    def _script(self, run: Run, folder: Path) -> str:
        """Return the shell that becomes the trainer: in the project, with the store's folder, into the run's log."""
        trainer = shlex.join([*self._command, str(run.id)])
        home, log = shlex.quote(str(self._database.home)), shlex.quote(str(folder / LOG))
        begin = f"cd {shlex.quote(str(PROJECT))} && export DESCORE_HOME={home} PYTHONUNBUFFERED=1"
        return f"{begin} && exec {trainer} >> {log} 2>&1"

    def _job_state(self, job: str) -> str:
        """Return SLURM's word for the state of a job; "" where SLURM does not answer."""
        if not job:
            return ""
        is_new = job not in self._watched
        self._watched.add(job)
        if is_new or time.monotonic() - self._looked_at >= self._look_seconds:
            self._looked_at = time.monotonic()
            self._states = _ask(sorted(self._watched))
            self._watched = {watched for watched in self._watched if self._states.get(watched) not in _LOST}
        return self._states.get(job, "")

    def _words(self, run: Run) -> str:
        """Return the last line that the job wrote, as the end of a sentence."""
        line = _last_line(self.tail(run, 4000))
        return f": {line}" if line else ""

    def _output(self, run: Run) -> str:
        path = self.folder(run) / _JOBS / f"{run.job}_0_log.out"
        try:
            return path.read_text("utf-8", errors="replace")
        except OSError:
            return ""


def _parameters(run: Run, settings: SlurmSettings) -> dict[str, Any]:
    """Return the parameters of a job, as submitit names them."""
    stop = min(STOP_SECONDS, settings.minutes * 60 // 5)
    options = {name.replace("_", "-"): value for name, value in settings.options.items()}
    parameters: dict[str, Any] = {
        "job_name": f"descore-run-{run.id}",
        "time": settings.minutes,
        "nodes": 1,
        "ntasks_per_node": 1,
        "stderr_to_stdout": True,
        "additional_parameters": {"signal": f"TERM@{stop}", **options},
    }
    if settings.partition:
        parameters["partition"] = settings.partition
    if settings.gpus:
        parameters["gpus_per_node"] = settings.gpus
    if settings.setup:
        parameters["setup"] = list(settings.setup)
    return parameters


def _ask(jobs: Sequence[str]) -> dict[str, str]:
    """Ask SLURM for the states of jobs; those that it does not know are gone. Empty where it does not answer."""
    command = ["squeue", "--noheader", "--states=all", "--format=%i|%T", f"--jobs={','.join(jobs)}"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    except (OSError, subprocess.SubprocessError):
        return {}
    if done.returncode and "invalid job id" not in done.stderr.lower():
        return {}
    rows = (line.strip().partition("|") for line in done.stdout.splitlines())
    return {**dict.fromkeys(jobs, _GONE), **{job: state for job, _, state in rows if job in jobs}}


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else ""
