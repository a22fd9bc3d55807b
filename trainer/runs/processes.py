"""The stages of a run in several processes, one a GPU, by accelerate's launcher; the caller's process waits for them.

The caller holds the lock of the run's folder, has written settings and pairs into it, and keeps store, gate and registry to
itself: the launched processes know the folder alone, and end when the caller's lock does (`trainer.runs.tether`).
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from storage.training.run_folder import CONFIG, is_finished
from trainer.config import load_preset
from trainer.engine.loop import TrainingFailedError
from trainer.runs.errors import RunRefusedError
from trainer.runs.observer import RunProgress, read_progress
from trainer.runs.pipeline import stages_to_train
from trainer.runs.tether import TETHER, LaunchNotes

if TYPE_CHECKING:
    from trainer.config import TrainConfig
    from trainer.engine.stop_signals import StopSignals
    from trainer.paradigm import StageName

PROJECT = Path(__file__).resolve().parents[2]
SETTINGS = PROJECT / "trainer" / "accelerate" / "ddp.yaml"
_SECONDS = 0.5  # between two looks at the processes
_COMMANDS = {("cold-start", "dual-rl"): "run", ("cold-start",): "cold-start", ("dual-rl",): "dual-rl"}


def launch_command(stages: Sequence[StageName], folder: Path, processes: int) -> list[str]:
    """Return the command line that trains the stages of the run in `folder` in so many processes on this machine.

    Raises:
        RunRefusedError: no command trains these stages in this order.
    """
    command = _COMMANDS.get(tuple(stages))
    if command is None:
        raise RunRefusedError(f"stages are cold-start and dual-rl, in this order, not {', '.join(stages)}")
    launcher = [sys.executable, "-m", "accelerate.commands.launch", "--config_file", str(SETTINGS)]
    # Port 0 is a free one: two runs may go on beside each other.
    launcher += ["--num_processes", str(processes), "--main_process_port", "0"]
    return [*launcher, "-m", "trainer", command, "--out", str(folder)]


def useful_processes(config: TrainConfig, devices: int) -> int:
    """Return how many of the devices a run can use: each process needs a pair of every step."""
    steps = (config.cold_start, config.dual_rl)
    return max(1, min([devices, *(stage.pairs_per_step for stage in steps if stage.steps)]))


def train_in_processes(
    stages: Sequence[StageName],
    folder: Path,
    processes: int,
    stop: StopSignals,
    on_progress: Callable[[RunProgress], None],
    home: Path,
    cpu: bool = False,
) -> int:
    """Train the stages of the run in `folder`, or go on with them; the caller holds its lock.

    Args:
        processes: how many; each takes one GPU.
        stop: of the caller; the processes end after their step when it has received a signal.
        on_progress: called with what the first process has told, when it has changed.
        home: the data folder, for caches of frames and features.
        cpu: on the processor, by gloo.

    Returns:
        0, or 130 / 143 when a signal ended the stages at a step boundary.

    Raises:
        RunRefusedError: the user has to change something.
        TrainingFailedError: the numbers were not finite, or a process died.
    """
    folder = folder.absolute()
    if _all_finished(stages, folder):
        return 0
    notes = LaunchNotes(folder)
    notes.clear()
    environment = {**os.environ, TETHER: str(folder), "DESCORE_HOME": str(home)}
    if cpu:
        environment["ACCELERATE_USE_CPU"] = "true"
    command = launch_command(stages, folder, processes)
    # A session of its own: what a terminal sends to the caller reaches the processes as one wish to stop, not as a second.
    launcher = subprocess.Popen(command, cwd=PROJECT, env=environment, stdin=subprocess.DEVNULL, start_new_session=True)
    told: RunProgress | None = None
    try:
        while launcher.poll() is None:
            if stop.received:
                notes.ask_to_stop()
            progress = read_progress(folder)
            if progress is not None and progress != told:
                told = progress
                on_progress(progress)
            time.sleep(_SECONDS)
    finally:
        if launcher.poll() is None:  # the caller fails: its processes must not go on without it
            launcher.terminate()
            launcher.wait()
    return _outcome(folder, stages, launcher.returncode, notes, stop)


def _outcome(folder: Path, stages: Sequence[StageName], code: int, notes: LaunchNotes, stop: StopSignals) -> int:
    """Find out how the processes ended: a launcher's own exit code says only whether one of them failed."""
    refusal = notes.refusal()
    if refusal is not None:
        raise (TrainingFailedError if refusal.failed else RunRefusedError)(refusal.sentence)
    if _all_finished(stages, folder):
        return 0
    if stop.received:
        return stop.exit_code
    raise TrainingFailedError(
        f"a training process died (the launcher ended with code {code}); the log says more. The last checkpoint is kept"
    )


def _all_finished(stages: Sequence[StageName], folder: Path) -> bool:
    return all(is_finished(folder / stage) for stage in stages_to_train(stages, load_preset(folder / CONFIG)))
