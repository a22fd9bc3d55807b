"""`python -m trainer unpack OUT`: bring the result of a packed run back, then compare it as always.

Everything is checked before anything is changed. What comes back lies in the run's folder as if it had been trained here;
the rest of the run (gate, registry) is that of `trainer.runs.store_run`, which finds stages trained and pairs judged.
"""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from descore.checkpoints.folder import copy_checkpoint, folder_fingerprint, locate, read_manifest
from descore.errors import CheckpointError
from storage import Database, NotInStoreError
from storage.data_home import data_home_id
from storage.training.model_registry import Checkpoint, get_checkpoint
from storage.training.pack_folder import AWAY, CACHE, RUN, Pack, PackError, check_files, is_pack_of, read_pack, read_result
from storage.training.run_folder import CHECKPOINT, LOG, SAMPLES, RunLock
from storage.training.runs import Run, get_run, mark_running, mark_sent, requeue, set_progress
from trainer.evaluation.gate_judging import BENCHMARKS, FOLDER, rename_judgements
from trainer.runs.observer import read_progress
from trainer.runs.parent import location
from trainer.runs.publish import trained_folder
from trainer.runs.run_settings import stage_names
from trainer.runs.store_run import run_from_store

if TYPE_CHECKING:
    from descore.checkpoints.manifest import BaseModel, Manifest
    from trainer.paradigm import StageName

log = logging.getLogger(__name__)

_PARTIAL = ".unpacked.partial"


def unpack(database: Database, folder: Path) -> int:
    """Take the result of a pack into the store's run, and do what is left of that: the comparison, the registry.

    Returns:
        As `trainer.runs.store_run.run_from_store`.

    Raises:
        PackError: the pack is of another run, damaged or not finished; the run stays as it is, and its row says why.
        StorageError: another process works on the run, or the store can't be written.
    """
    folder = folder.absolute()
    pack = read_pack(folder)
    run = _run_of(database, pack, folder)
    with RunLock(database.home / run.folder):
        try:
            files = _checked(database, pack, folder, run)
        except PackError as error:
            _stay_away(database, run, str(error))
            raise
        _Unpacking(database, run, folder).take(files)
    return run_from_store(run.id, database.home)


def _run_of(database: Database, pack: Pack, folder: Path) -> Run:
    """Find the run that a pack is of.

    Raises:
        PackError: it is of a run of another store, or its run has its result.
    """
    other = f"{folder.name} is the pack of a run of another store (there it is run {pack.run})"
    try:
        with database.read() as session:
            run = get_run(session, pack.run)
            is_of_run = is_pack_of(session, pack, run)
    except NotInStoreError as error:
        raise PackError(f"{other}; give the pack of a run of this one") from error
    if not is_of_run:
        raise PackError(f"{other}; give the pack of a run of this one")
    if run.state == "finished":
        raise PackError(f"run {run.id} has its result already; start a new run")
    return run


def _checked(database: Database, pack: Pack, folder: Path, run: Run) -> Mapping[str, Mapping[str, Any]]:
    """Check the result of a pack, file by file.

    Raises:
        PackError: it is not finished, or damaged.
    """
    files = read_result(folder, pack)
    if files is None:
        told = read_progress(folder / RUN)
        far = "has not begun" if told is None else f"is at {told.done} of {told.total} in {told.stage} ({told.part})"
        raise PackError(
            f"{folder.name} is not finished: it {far}. Let `python -m trainer run {folder.name}` end, then bring it back"
        )
    with database.write() as session:
        if get_run(session, run.id).state in ("failed", "cancelled", "lost"):
            requeue(session, run.id)
        mark_running(session, run.id, os.getpid(), data_home_id(database.home))
        set_progress(session, run.id, {"stage": AWAY, "part": "unpack"})
    check_files(folder, files)
    for stage in stage_names(run):
        checkpoint = folder / RUN / stage / CHECKPOINT
        if (folder / RUN / stage).is_dir():
            try:
                read_manifest(checkpoint)
            except CheckpointError as error:
                raise PackError(f"the checkpoint of {stage} in {folder.name} can't be used: {error}") from error
    return files


def _stay_away(database: Database, run: Run, sentence: str) -> None:
    """Leave the run elsewhere, with the reason in its row."""
    with database.write() as session:
        now = get_run(session, run.id)
        if now.state == "running" and now.place == "elsewhere":
            progress = {"stage": AWAY, "refused": sentence}
            mark_sent(session, run.id, "elsewhere", now.job, progress, data_home_id(database.home))


class _Unpacking:
    """Puts the files of a checked result into the folder of its run."""

    def __init__(self, database: Database, run: Run, folder: Path) -> None:
        self._database, self._run, self._folder = database, run, folder
        self._target = database.home / run.folder

    def take(self, files: Mapping[str, Mapping[str, Any]]) -> None:
        """Copy them aside, then move each stage into its place: a kill leaves nothing half."""
        target, work = self._target, self._target / _PARTIAL
        shutil.rmtree(work, ignore_errors=True)
        stages = [stage for stage in stage_names(self._run) if (self._folder / RUN / stage).is_dir()]
        inside = {RUN: work, CACHE: self._database.home}
        for name in files:
            top, _, rest = name.partition("/")
            # Figures of the benchmark that this machine has measured itself stay.
            if self._is_wanted(top, rest, stages) and not (top == CACHE and (inside[top] / rest).exists()):
                (inside[top] / rest).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(self._folder / name, inside[top] / rest)
        for stage in stages:
            self._take_checkpoint(stage, work)
        for path in sorted(work.iterdir()):
            if path.name == LOG:
                with (target / LOG).open("ab") as log_file:
                    log_file.write(path.read_bytes())
                continue
            old = target / path.name
            if old.is_dir():
                shutil.rmtree(old)
            path.replace(old)
        shutil.rmtree(work, ignore_errors=True)
        self._rename_judgements(stages)
        log.info("run %d is back from %s", self._run.id, self._folder.name)

    def _is_wanted(self, top: str, rest: str, stages: list[StageName]) -> bool:
        """Whether a file of the result has a place here; a pack may bring nothing else into the data folder."""
        first = rest.partition("/")[0]
        if top == CACHE:
            return Path(rest).parent == BENCHMARKS and rest.endswith(".json")
        if top != RUN:
            return False
        return (
            rest in (SAMPLES, LOG) or first == FOLDER or (first in stages and not rest.startswith(f"{first}/{CHECKPOINT}/"))
        )

    def _take_checkpoint(self, stage: StageName, work: Path) -> None:
        """Copy a stage's checkpoint, and let it name what it was trained from as this machine does."""
        source = self._folder / RUN / stage / CHECKPOINT
        manifest = read_manifest(source)
        parent = self._parent()
        settings = dict(manifest.lineage.get("config", {}))
        settings["model"] = {**settings.get("model", {}), "checkpoint": location(self._database, parent.id)}
        lineage: dict[str, Any] = {"config": settings}
        base = manifest.base_model
        if base is not None and base.source != "bundled" and base.revision is None:
            base = replace(self._base_at_home(parent), fingerprint=base.fingerprint)
        copy_checkpoint(source, work / stage / CHECKPOINT, manifest.name, lineage, base, link=False)

    def _rename_judgements(self, stages: list[StageName]) -> None:
        """Let the judgements of the result follow it: its manifest, and so its fingerprint, has changed on the way."""
        packed = trained_folder(self._folder / RUN, stages)
        here = trained_folder(self._target, stages)
        rename_judgements(self._target, self._database.home, folder_fingerprint(packed), folder_fingerprint(here))

    def _parent(self) -> Checkpoint:
        assert self._run.parent_id is not None
        with self._database.read() as session:
            return get_checkpoint(session, self._run.parent_id)

    def _base_at_home(self, parent: Checkpoint) -> BaseModel:
        """Find the base model of the parent on this machine: its own, or the parent itself where that is a bare backbone."""
        found, base = locate(location(self._database, parent.id))
        try:
            manifest: Manifest | None = read_manifest(found)
        except CheckpointError:
            manifest = None
        return base if manifest is None or manifest.base_model is None else manifest.base_model
