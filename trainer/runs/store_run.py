"""`python -m trainer run ID`: a run of the store, from its frozen data to a judged checkpoint.

    code = run_from_store(7)

    runs/7/                     as of any run: config.yaml, data.jsonl, cold-start/, dual-rl/
    runs/7/samples.jsonl        thoughts about a few held-out pairs, before and after each stage
    runs/7/gate/, gate.json     judgements of the held-out pairs by both checkpoints, and the comparison
    runs/7/lock                 held by the process that works on the run, as long as it lives

Killed anywhere, the same command goes on: steps from their last checkpoint, the gate from the last judged pair; a trained
checkpoint is registered once.
"""

from __future__ import annotations

import logging
import os
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import torch

from descore.errors import CheckpointError, RewardError
from storage import Database, StorageError, open_database
from storage.data_home import data_home_id
from storage.training.devices import process_count
from storage.training.run_folder import CONFIG, LOG, RunLock, device_lock, is_finished
from storage.training.runs import Run, finish, get_run, mark_running, requeue
from trainer.config import TrainConfig, save_config
from trainer.data.frozen_pairs import frozen_pairs, pair_ids
from trainer.engine.loop import TrainingFailedError
from trainer.engine.stop_signals import StopSignals
from trainer.evaluation.gate_judging import GateStoppedError
from trainer.evaluation.score_pairs import score
from trainer.planning.measured_runs import seconds_per_step
from trainer.runs.observer import FolderObserver, Part, RunProgress, save_pair_ids
from trainer.runs.parent import benchmark_pairs, location
from trainer.runs.pipeline import run as train_stages
from trainer.runs.pipeline import stages_to_train, write_run
from trainer.runs.processes import train_in_processes, useful_processes
from trainer.runs.progress import Reporter, Schedule, SchedulePart
from trainer.runs.publish import (
    compete,
    forget_steps,
    publish,
    register,
    rival_of,
    trained_folder,
)
from trainer.runs.run_log import logged_into
from trainer.runs.run_settings import run_settings, stage_names

if TYPE_CHECKING:
    from trainer.data.pairs import LoadedPairs
    from trainer.paradigm import StageName

log = logging.getLogger(__name__)

FAILED, REFUSED = 1, 2


def run_from_store(run_id: int, home: Path | None = None) -> int:
    """Do a run of the store, or resume an interrupted one.

    Args:
        home: the data folder, by default the user's.

    Returns:
        0; 1 or 2 where it failed (2: the user must change something), as its row says; 130 / 143 after a signal.

    Raises:
        StorageError: there is no such run, it is finished, or another process has it or its device.
    """
    database = open_database(home=home)
    try:
        with database.read() as session:
            run = get_run(session, run_id)
        if run.state == "finished":
            raise StorageError(f"run {run_id} is finished; start a new run")
        folder = database.home / run.folder
        # SLURM gives a job its devices; the stages of a packed run were trained elsewhere.
        device = device_lock(database.home, run.device, run.id) if run.place == "here" else nullcontext()
        with RunLock(folder), device:
            if run.place == "elsewhere":
                _check_is_back(database, run, folder)
            return _StoreRun(database, _begin(database, run_id), folder).run()
    finally:
        database.close()


def _begin(database: Database, run_id: int) -> Run:
    """Mark the run as running in this process, which holds its lock."""
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise StorageError(f"start `python -m trainer run {run_id}` without a launcher: it starts its processes itself")
    with database.write() as session:
        if get_run(session, run_id).state in ("failed", "cancelled", "lost"):
            requeue(session, run_id)
        return mark_running(session, run_id, os.getpid(), data_home_id(database.home))


def _check_is_back(database: Database, run: Run, folder: Path) -> None:
    """Refuse a packed run whose stages are not trained: nobody may train them twice.

    Raises:
        StorageError: its result is not back.
    """
    stages = stages_to_train(stage_names(run), run_settings(database, run))
    if not all(is_finished(folder / stage) for stage in stages):
        raise StorageError(
            f"run {run.id} is packed for another machine: `python -m trainer run {run.job or 'FOLDER'}` trains it there, "
            "and `python -m trainer unpack` takes its result back"
        )


class _StoreRun:
    """A run of the store in its folder."""

    def __init__(self, database: Database, run: Run, folder: Path) -> None:
        self._database, self._run, self._folder = database, run, folder

    def run(self) -> int:
        """Do the run, and write into its row how it ended."""
        with logged_into(self._folder / LOG):
            return self._done()

    def _done(self) -> int:
        try:
            with StopSignals() as stop:
                code = self._scored(stop) if self._run.kind == "score" else self._trained(stop)
        except (TrainingFailedError, CheckpointError, RewardError, StorageError, ValueError) as error:
            return self._failed(str(error), FAILED if isinstance(error, TrainingFailedError) else REFUSED)
        except torch.OutOfMemoryError:
            return self._failed(
                "not enough memory on the device beside what else uses it: free some, or lower forward_tokens and "
                "sampling_tokens, which may change in a run that has begun",
                FAILED,
            )
        except Exception as error:
            log.exception("run %d failed", self._run.id)
            return self._failed(f"{type(error).__name__}: {error}", FAILED)
        if code:
            self._end("cancelled", code, "stopped; it goes on from its last checkpoint when it is resumed")
        return code

    def _trained(self, stop: StopSignals) -> int:
        database, run, folder = self._database, self._run, self._folder
        config, pairs = run_settings(database, run), self._pairs()
        rival_of(database, run)  # refused now, not in the gate after hours of training
        stages = stage_names(run)
        with Reporter(database, run.id, self._schedule(config, stages, pairs), stop) as reporter:
            code = self._train(stages, config, pairs, reporter, stop)
            if code:
                return code
            published = publish(database, run, trained_folder(folder, stages))
            try:
                on_progress = lambda done, total: reporter.report("gate", "gate", done, total)  # noqa: E731
                candidate, gate = compete(database, run, published, config, on_progress, stop)
            except GateStoppedError:
                return stop.exit_code
        register(database, run, published, candidate, gate)
        log.info("%s", gate.sentence)
        forget_steps(folder)
        return 0

    def _train(
        self, stages: list[StageName], config: TrainConfig, pairs: LoadedPairs, reporter: Reporter, stop: StopSignals
    ) -> int:
        """Train the stages in this process, or in one for each GPU that the run has."""
        home, folder, run = self._database.home, self._folder, self._run
        folder.mkdir(parents=True, exist_ok=True)
        with self._database.read() as session:
            save_pair_ids(folder, pair_ids(session, run.id))
        devices = torch.cuda.device_count() if run.place == "slurm" else process_count(run.device)
        processes = useful_processes(config, devices)
        if processes == 1:
            return train_stages(stages, config, folder, home, pairs, _Follower(folder, stages, reporter), stop)
        write_run(config, folder, home, pairs)
        save_config(config, folder / CONFIG)  # the data folder may have moved since

        def on_progress(progress: RunProgress) -> None:
            reporter.report(progress.stage, progress.part, progress.done, progress.total)

        cpu = run.device.startswith("cpu")
        return train_in_processes(stages, folder, processes, stop, on_progress, home, cpu)

    def _scored(self, stop: StopSignals) -> int:
        database, run = self._database, self._run
        if run.parent_id is None:
            raise StorageError(f"run {run.id} names no checkpoint that judges")
        schedule = Schedule([])
        with Reporter(database, run.id, schedule, stop) as reporter:
            checkpoint = location(database, run.parent_id)
            summary = score(
                database, run, checkpoint, lambda done, total: reporter.report("score", "score", done, total), stop
            )
        if stop.received and not summary.complete:
            return stop.exit_code
        with database.write() as session:
            finish(session, run.id, "finished", 0, summary.sentence)
        log.info("%s", summary.sentence)
        return 0

    def _pairs(self) -> LoadedPairs:
        with self._database.read() as session:
            return frozen_pairs(session, self._run.id, self._database.home)

    def _schedule(self, config: TrainConfig, stages: list[StageName], pairs: LoadedPairs) -> Schedule:
        """Plan the parts of the run: thoughts, judging and steps of each stage, then the gate."""
        expected = self._run.request.get("seconds_per_step", {})  # of the preflight
        speeds = {**expected, **seconds_per_step(self._database, config, self._run.device)}
        held_out, parts = len(pairs.held_out), list[SchedulePart]()
        for stage in stages:
            steps = config.cold_start.steps if stage == "cold-start" else config.dual_rl.steps
            if not steps:
                continue
            if stage == "cold-start" and config.cold_start.mask_probability < 1:
                missing = sum(pair.thoughts is None for pair in pairs.train)
                parts.append(SchedulePart(stage, "thoughts", "thoughts", missing))
            if stage == stages[0]:
                parts.append(SchedulePart(stage, "before", "judging", held_out))
            parts.append(SchedulePart(stage, "training", f"step of {stage}", steps, speeds.get(stage)))
            parts.append(SchedulePart(stage, "after", "judging", held_out))
        judged = 2 * (held_out + benchmark_pairs(self._database, self._run))
        return Schedule([*parts, SchedulePart("gate", "gate", "judging", judged)])

    def _failed(self, message: str, code: int) -> int:
        log.error("run %d: %s", self._run.id, message)
        self._end("failed", code, message)
        return code

    def _end(self, state: Literal["failed", "cancelled"], code: int, message: str) -> None:
        with self._database.write() as session:
            finish(session, self._run.id, state, code, message)


class _Follower(FolderObserver):
    """Hands progress on to the row of a run too."""

    def __init__(self, folder: Path, stages: list[StageName], reporter: Reporter) -> None:
        super().__init__(folder, stages)
        self._reporter = reporter

    def progress(self, stage: StageName, part: Part, done: int, total: int) -> None:
        super().progress(stage, part, done, total)
        self._reporter.report(stage, part, done, total)
