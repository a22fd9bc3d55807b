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
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import torch

from descore.errors import CheckpointError, RewardError
from storage import Database, StorageError, open_database
from storage.data_home import data_home_id
from storage.training.run_folder import CONFIG, LOG, RunLock, device_lock
from storage.training.runs import Run, finish, get_run, mark_running, requeue
from trainer.config import ModelConfig, TrainConfig, load_preset, preset_names
from trainer.data.frozen_pairs import frozen_pairs, pair_ids
from trainer.engine.loop import TrainingFailedError
from trainer.engine.stop_signals import StopSignals
from trainer.evaluation.gate_judging import GateStoppedError
from trainer.evaluation.sample_thoughts import save_samples
from trainer.evaluation.score_pairs import score
from trainer.planning.measured_runs import seconds_per_step
from trainer.runs.observer import Part, RunObserver
from trainer.runs.pipeline import run as train_stages
from trainer.runs.progress import Reporter, Schedule, SchedulePart
from trainer.runs.publish import (
    benchmark_pairs,
    compete,
    forget_steps,
    location,
    publish,
    register,
    rival_of,
    trained_folder,
)
from trainer.runs.stage import RunRefusedError

if TYPE_CHECKING:
    from trainer.data.pairs import LoadedPairs
    from trainer.evaluation.held_out import JudgedPairs
    from trainer.paradigm import StageName

log = logging.getLogger(__name__)

FAILED, REFUSED = 1, 2
# Settings that a run of the store takes from its row: files, and the checkpoint that it starts from.
_FIXED = ("data.", "model.checkpoint", "preset", "paradigm")


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
        with RunLock(folder), device_lock(database.home, run.device, run.id):
            return _StoreRun(database, _begin(database, run_id), folder).run()
    finally:
        database.close()


def _begin(database: Database, run_id: int) -> Run:
    """Mark the run as running in this process, which holds its lock."""
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise StorageError(
            "a run of the store takes one process; give several GPUs their run by --out, see docs/training.md"
        )
    with database.write() as session:
        if get_run(session, run_id).state in ("failed", "cancelled", "lost"):
            requeue(session, run_id)
        return mark_running(session, run_id, os.getpid(), data_home_id(database.home))


class _StoreRun:
    """A run of the store in its folder."""

    def __init__(self, database: Database, run: Run, folder: Path) -> None:
        self._database, self._run, self._folder = database, run, folder

    def run(self) -> int:
        """Do the run, and write into its row how it ended."""
        with _logged_into(self._folder / LOG):
            return self._done()

    def _done(self) -> int:
        try:
            with StopSignals() as stop:
                code = self._scored(stop) if self._run.kind == "score" else self._trained(stop)
        except (TrainingFailedError, CheckpointError, RewardError, StorageError, ValueError) as error:
            return self._failed(str(error), FAILED if isinstance(error, TrainingFailedError) else REFUSED)
        except torch.OutOfMemoryError:
            return self._failed("not enough memory on the device: lower micro_batch_pairs or num_generations", FAILED)
        except Exception as error:
            log.exception("run %d failed", self._run.id)
            return self._failed(f"{type(error).__name__}: {error}", FAILED)
        if code:
            self._end("cancelled", code, "stopped; it goes on from its last checkpoint when it is resumed")
        return code

    def _trained(self, stop: StopSignals) -> int:
        database, run, folder = self._database, self._run, self._folder
        config, pairs = self._settings(), self._pairs()
        rival_of(database, run)  # refused now, not in the gate after hours of training
        stages: list[StageName] = [_stage(name) for name in run.stages]
        with Reporter(database, run.id, self._schedule(config, stages, pairs), stop) as reporter:
            follower = _Follower(self, reporter, stages)
            code = train_stages(stages, config, folder, database.home, pairs, follower, stop)
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

    def _settings(self) -> TrainConfig:
        """Read the settings from the run folder, or for a new run from its row: preset, overrides, checkpoint."""
        run, kept = self._run, self._folder / CONFIG
        if run.parent_id is None:
            raise StorageError(f"run {run.id} names no checkpoint to start from")
        if run.preset not in preset_names():
            raise RunRefusedError(f"there is no preset {run.preset}; presets are {', '.join(preset_names())}")
        refused = [override for override in run.overrides if override.strip().startswith(_FIXED)]
        if refused:
            raise RunRefusedError(f"{', '.join(refused)}: data and checkpoint of a run come from its row")
        config = load_preset(kept) if kept.exists() else load_preset(run.preset, run.overrides)
        model: ModelConfig = replace(config.model, checkpoint=location(self._database, run.parent_id))
        snapshot = run.snapshot or {}
        data = replace(
            config.data,
            **{name: snapshot[name] for name in ("held_out_share", "min_labels", "consensus") if name in snapshot},
            campaigns=tuple(snapshot.get("campaigns", ())),
        )
        return replace(config, model=model, data=data)

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

    def keep_samples(self, stage: StageName, when: Literal["before", "after"], judged: JudgedPairs) -> None:
        """Write some thoughts of held-out pairs into the run folder."""
        with self._database.read() as session:
            ids = pair_ids(session, self._run.id)
        save_samples(self._folder, stage, when, judged.pairs, ids)

    def _failed(self, message: str, code: int) -> int:
        log.error("run %d: %s", self._run.id, message)
        self._end("failed", code, message)
        return code

    def _end(self, state: Literal["failed", "cancelled"], code: int, message: str) -> None:
        with self._database.write() as session:
            finish(session, self._run.id, state, code, message)


class _Follower(RunObserver):
    """Hands progress on to the row of a run, and judged pairs to its samples."""

    def __init__(self, work: _StoreRun, reporter: Reporter, stages: list[StageName]) -> None:
        self._work, self._reporter, self._stages = work, reporter, stages

    def progress(self, stage: StageName, part: Part, done: int, total: int) -> None:
        self._reporter.report(stage, part, done, total)

    def judged(self, stage: StageName, when: Literal["before", "after"], pairs: JudgedPairs) -> None:
        self._work.keep_samples(stage, when, pairs)
        following = self._stages[self._stages.index(stage) + 1 :]
        if when == "after" and following:  # it starts with the same weights
            self._work.keep_samples(following[0], "before", pairs)


def _stage(name: str) -> StageName:
    if name == "cold-start":
        return "cold-start"
    if name == "dual-rl":
        return "dual-rl"
    raise RunRefusedError(f"there is no stage {name}; stages are cold-start and dual-rl")


@contextmanager
def _logged_into(path: Path) -> Iterator[None]:
    """Write log messages into the run's log too, unless stderr of this process goes there already."""
    log_file = path.stat() if path.exists() else None
    if log_file is not None and os.path.samestat(os.fstat(2), log_file):
        yield
        return
    handler = logging.FileHandler(path, encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s"))
    logging.getLogger().addHandler(handler)
    try:
        yield
    finally:
        logging.getLogger().removeHandler(handler)
        handler.close()
