"""A small SLURM on PATH: `sbatch`, `srun`, `squeue` and `scancel`, which run jobs as processes of this machine.

slurm = FakeSlurm.install(folder, monkeypatch)
slurm.fill()                    # the cluster has no room: jobs wait until `free`
slurm.end("1", "TIMEOUT")       # as SLURM does when the time of a job is over
slurm.options("1")["gpus-per-node"]

A job's files lie in FOLDER/jobs/NUMBER: script, state, the process that runs it.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pytest

COMMANDS = ("sbatch", "srun", "squeue", "scancel")
ROOT = "FAKE_SLURM"  # in the environment: the folder


@dataclass(frozen=True)
class FakeSlurm:
    """A cluster of one machine."""

    folder: Path

    @classmethod
    def install(cls, folder: Path, monkeypatch: pytest.MonkeyPatch) -> FakeSlurm:
        """Put the commands on PATH for the length of a test."""
        programs = folder / "bin"
        programs.mkdir(parents=True)
        (folder / "jobs").mkdir()
        for name in COMMANDS:
            program = programs / name
            program.write_text(f'#!/bin/sh\nexec {shlex.join([sys.executable, "-S", "-E", __file__, name])} "$@"\n')
            program.chmod(0o755)
        monkeypatch.setenv("PATH", f"{programs}{os.pathsep}{os.environ['PATH']}")
        monkeypatch.setenv(ROOT, str(folder))
        return cls(folder)

    def fill(self) -> None:
        """Let new jobs wait."""
        (self.folder / "full").touch()

    def free(self) -> None:
        """Let waiting jobs begin."""
        (self.folder / "full").unlink()

    def refuse(self, sentence: str) -> None:
        """Let sbatch refuse jobs with this sentence."""
        (self.folder / "refuse").write_text(sentence)

    def forget(self, job: str) -> None:
        """Let SLURM know a job no longer, as some minutes after its end."""
        shutil.rmtree(self.folder / "jobs" / job)

    def state(self, job: str) -> str:
        """SLURM's word for the state of a job."""
        return (self.folder / "jobs" / job / "state").read_text()

    def options(self, job: str) -> dict[str, str]:
        """The options of a job, as its script has them."""
        lines = (self.folder / "jobs" / job / "script.sh").read_text().splitlines()
        flags = [shlex.split(line)[1] for line in lines if line.startswith("#SBATCH --")]
        return {name.removeprefix("--"): value for name, _, value in (flag.partition("=") for flag in flags)}

    def end(self, job: str, state: str, number: signal.Signals = signal.SIGKILL) -> None:
        """End a job, and let SLURM say why."""
        _end(self.folder / "jobs" / job, state, number)

    def jobs(self) -> list[str]:
        """Numbers of all jobs."""
        return sorted(path.name for path in (self.folder / "jobs").iterdir())


def _write(job: Path, state: str) -> None:
    partial = job / f"state.{os.getpid()}"
    partial.write_text(state)
    partial.replace(job / "state")


def _end(job: Path, state: str, number: signal.Signals) -> None:
    _write(job, state)
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        os.killpg(int((job / "pid").read_text()), number)


def _sbatch(root: Path, script: str) -> int:
    if (root / "refuse").exists():
        print(f"sbatch: error: {(root / 'refuse').read_text()}", file=sys.stderr)
        return 1
    number = len(list((root / "jobs").iterdir())) + 1
    job = root / "jobs" / str(number)
    job.mkdir()
    shutil.copy(script, job / "script.sh")
    _write(job, "PENDING")
    silent = subprocess.DEVNULL
    command = [sys.executable, "-S", "-E", __file__, "job", str(number)]
    subprocess.Popen(command, stdin=silent, stdout=silent, stderr=silent, start_new_session=True)
    print(f"Submitted batch job {number}")
    return 0


def _job(root: Path, number: str) -> int:
    """Run a job's script once there is room."""
    job = root / "jobs" / number
    while (root / "full").exists():
        time.sleep(0.05)
        if not job.exists() or (job / "state").read_text() != "PENDING":
            return 0
    environment = {**os.environ, "SLURM_JOB_ID": number, "SLURM_NTASKS": "1", "SLURM_JOB_NUM_NODES": "1"}
    _write(job, "RUNNING")
    process = subprocess.Popen(["bash", str(job / "script.sh")], env=environment, start_new_session=True)
    (job / "pid").write_text(str(process.pid))
    code = process.wait()
    if job.exists() and (job / "state").read_text() == "RUNNING":
        _write(job, "FAILED" if code else "COMPLETED")
    return 0


def _srun(arguments: list[str]) -> int:
    """Become the command of a job's step, whose output goes into a file."""
    output = ""
    while arguments[0].startswith("--"):
        flag = arguments.pop(0)
        if flag == "--output":
            output = arguments.pop(0).replace("%j", os.environ["SLURM_JOB_ID"]).replace("%t", "0")
    handle = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.dup2(handle, 1)
    os.dup2(handle, 2)
    os.execvp(arguments[0], arguments)


def _squeue(root: Path, arguments: list[str]) -> int:
    asked = next(flag for flag in arguments if flag.startswith("--jobs=")).removeprefix("--jobs=").split(",")
    known = [number for number in asked if (root / "jobs" / number).exists()]
    for number in known:
        print(f"{number}|{(root / 'jobs' / number / 'state').read_text()}")
    if len(asked) == 1 and not known:
        print("slurm_load_jobs error: Invalid job id specified", file=sys.stderr)
        return 1
    return 0


def main(name: str, arguments: list[str]) -> int:
    root = Path(os.environ[ROOT])
    if name == "sbatch":
        return _sbatch(root, arguments[0])
    if name == "job":
        return _job(root, arguments[0])
    if name == "srun":
        return _srun(arguments)
    if name == "squeue":
        return _squeue(root, arguments)
    _end(root / "jobs" / arguments[-1], "CANCELLED", signal.SIGTERM)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2:]))
