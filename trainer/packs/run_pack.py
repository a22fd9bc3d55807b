"""`python -m trainer run OUT`: train a packed run on this machine, without any store.

It takes every GPU that the machine shows. Killed or stopped anywhere, the same command goes on. At the end it judges the
held-out pairs with the result and with its rival, so that the machine at home only has to compare.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from descore.checkpoints.folder import MANIFEST_FILE, folder_fingerprint, locate
from storage.training.pack_folder import (
    CACHE,
    CONFIG,
    RUN,
    Pack,
    PackError,
    check_files,
    read_pack,
    read_result,
    summaries,
    write_result,
)
from storage.training.run_folder import CONFIG as RUN_CONFIG
from storage.training.run_folder import GATE, LOG, SAMPLES, RunLock
from trainer.code_version import code_version
from trainer.config import TrainConfig, load_preset, save_config
from trainer.data.pairs import LoadedPairs
from trainer.data.run_pairs import read_pairs
from trainer.engine.stop_signals import StopSignals
from trainer.evaluation.gate_judging import BENCHMARKS, FOLDER, GateStoppedError, GateWork, JudgedCheckpoint, run_gate
from trainer.runs.observer import FolderObserver, RunProgress
from trainer.runs.pipeline import run as train_stages
from trainer.runs.processes import train_in_processes, useful_processes
from trainer.runs.publish import familiar, forget_steps, trained_folder
from trainer.runs.run_log import logged_into
from trainer.runs.run_settings import to_stage_names

log = logging.getLogger(__name__)


def run_pack(folder: Path) -> int:
    """Train the run of a pack, or go on with it.

    Returns:
        0; 130 / 143 when a signal ended it, after which the same call goes on.

    Raises:
        PackError: the folder is no pack, or not whole.
        LockHeldError: another process works on it.
        RunRefusedError, ValueError, CheckpointError, TrainingFailedError, RewardError: as `trainer.runs.pipeline.run`.
    """
    folder = folder.absolute()
    pack = read_pack(folder)
    if read_result(folder, pack) is not None:
        print(f"{folder.name} is finished: take it back with `python -m trainer unpack {folder}`")
        return 0
    with RunLock(folder / RUN), logged_into(folder / RUN / LOG), StopSignals() as stop:
        return _PackRun(folder, pack, stop).run()


class _PackRun:
    """A packed run on this machine."""

    def __init__(self, folder: Path, pack: Pack, stop: StopSignals) -> None:
        self._folder, self._pack, self._stop = folder, pack, stop
        self._run, self._home = folder / RUN, folder / CACHE
        self._stages = to_stage_names(pack.stages)
        self._observer = FolderObserver(self._run, self._stages)

    def run(self) -> int:
        """Check, train, judge, and write the result."""
        pack, folder = self._pack, self._folder
        log.info("run %d: checking %d files of the pack", pack.run, len(pack.files))
        check_files(folder, pack.files)
        self._check_hub()
        if code_version() != pack.code:
            log.warning("this program is %s, the run was packed by %s; it may train otherwise", code_version(), pack.code)
        config = self._settings()
        code = self._train(config)
        if code:
            log.info("stopped; `python -m trainer run %s` goes on", folder)
            return code
        try:
            self._judge(config)
        except GateStoppedError:
            return self._stop.exit_code
        forget_steps(self._run)
        log.info("finished; take it back with `python -m trainer unpack`")
        write_result(folder, pack, self._result())
        return 0

    def _check_hub(self) -> None:
        """Refuse a checkpoint of the Hub that is not the one that the run was made for."""
        for checkpoint in {self._pack.parent, self._pack.rival}:
            # A bare backbone's fingerprint has times of files in it; its revision says the same.
            if not checkpoint.is_packed and _has_manifest(checkpoint.checkpoint):
                found = folder_fingerprint(locate(checkpoint.checkpoint)[0])
                if found != checkpoint.fingerprint:
                    raise PackError(
                        f"{checkpoint.checkpoint} is not the checkpoint that the run was made for; pack it again"
                    )

    def _settings(self) -> TrainConfig:
        """Read the settings, with the present path of the checkpoint: the pack may have moved since the last time."""
        config = load_preset(self._folder / CONFIG)
        checkpoint = self._pack.parent.location(self._folder)
        config = replace(config, model=replace(config.model, checkpoint=checkpoint))
        save_config(config, self._run / RUN_CONFIG)
        return config

    def _train(self, config: TrainConfig) -> int:
        stages, processes = self._stages, useful_processes(config, torch.cuda.device_count())
        if processes == 1:
            return train_stages(stages, config, self._run, self._home, observer=self._observer, stop=self._stop)
        return train_in_processes(stages, self._run, processes, self._stop, _ignore, self._home)

    def _judge(self, config: TrainConfig) -> None:
        """Judge the held-out pairs with both checkpoints, and say how they compare."""
        pack, pairs = self._pack, read_pairs(self._run) or LoadedPairs((), (), ())
        trained = trained_folder(self._run, self._stages)
        candidate = JudgedCheckpoint("the result", str(trained), folder_fingerprint(trained))
        rival = JudgedCheckpoint(pack.rival.name, pack.rival.location(self._folder), pack.rival.fingerprint)
        pairs_at_once = config.dual_rl.micro_batch_pairs * config.dual_rl.objective.num_generations
        cached = config.data.frame_cache
        work = GateWork(self._run, self._home, pairs_at_once, pack.benchmark_pairs, cached, familiar(pairs))
        gate = run_gate(candidate, rival, pairs.held_out, work, self._tell_judged, self._stop)
        log.info("%s", gate.sentence)

    def _tell_judged(self, done: int, total: int) -> None:
        self._observer.told(RunProgress("gate", "gate", done, total))

    def _result(self) -> Mapping[str, Mapping[str, Any]]:
        """List the files that go home: what each stage left, samples, judgements, the log."""
        run = self._run
        paths = [run / name for name in (SAMPLES, LOG, GATE) if (run / name).is_file()]
        paths += (run / FOLDER).glob("*.jsonl")
        paths += (self._home / BENCHMARKS).glob("*.json")
        for stage in self._stages:
            paths += (path for path in (run / stage).rglob("*") if path.is_file() and not path.is_symlink())
        return summaries(self._folder, paths)


def _ignore(_progress: RunProgress) -> None:
    """Do nothing: the processes keep their progress in the folder themselves."""


def _has_manifest(checkpoint: str) -> bool:
    return (locate(checkpoint)[0] / MANIFEST_FILE).exists()
