"""The checkpoints of a run, so that it can be killed at any moment and go on.

    run/checkpoints/step-000120/   files of the writer, and manifest.json with the hash of each, written last
    run/LATEST                     "step-000120"

A checkpoint is written into a temporary folder and renamed; then LATEST is replaced. Reading starts at the newest and
verifies every hash; a damaged one is skipped for the one before it, and gone with the next save.
"""

from __future__ import annotations

import json
import logging
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from descore.checkpoints.disk_space import is_without_room, no_room_sentence
from storage.atomic import sha256_of, sync, write_atomic

log = logging.getLogger(__name__)

MANIFEST = "manifest.json"
LATEST = "LATEST"
_NAME = re.compile(r"step-(\d{6,})")
_PARTIAL = ".partial."


class CheckpointNotSavedError(RuntimeError):
    """The disk is full; the message says where and what to do."""


@dataclass(frozen=True)
class RunCheckpoint:
    """A whole checkpoint of a run; `step`: number of steps done."""

    step: int
    folder: Path


class RunCheckpoints:
    """The checkpoints in one run folder. One process writes them; any may read."""

    def __init__(self, run_folder: Path, keep: int) -> None:
        """keep: how many of the newest stay on disk, at least 1."""
        self._run = run_folder
        self._folder = run_folder / "checkpoints"
        self._keep = keep

    def save(self, step: int, write: Callable[[Path], None]) -> RunCheckpoint:
        """Save the checkpoint of `step`; `write` puts its files into the folder that it is given.

        Raises:
            CheckpointNotSavedError: the disk is full; nothing half is left, and the checkpoints before stay.
        """
        try:
            return self._save(step, write)
        except Exception as error:
            self._remove_partial()
            if is_without_room(error):
                raise CheckpointNotSavedError(
                    f"the run's checkpoint after step {step} could not be saved: {no_room_sentence(self._folder)}"
                ) from error
            raise

    def _save(self, step: int, write: Callable[[Path], None]) -> RunCheckpoint:
        self._folder.mkdir(parents=True, exist_ok=True)
        self._remove_partial()
        work = Path(tempfile.mkdtemp(prefix=_PARTIAL, dir=self._folder))
        write(work)
        sums = {path.relative_to(work).as_posix(): _file_summary(path) for path in _files(work)}
        (work / MANIFEST).write_text(json.dumps({"step": step, "files": sums}, indent=1), "utf-8")
        for path in [*_files(work), work]:
            sync(path)
        folder = self._folder / f"step-{step:06d}"
        if folder.exists():  # a damaged one that a resumed run went back behind
            folder.rename(Path(tempfile.mkdtemp(prefix=_PARTIAL, dir=self._folder)) / folder.name)
        work.rename(folder)
        sync(self._folder)
        self._point_at(folder.name)
        self._prune(step)
        return RunCheckpoint(step, folder)

    def newest(self) -> RunCheckpoint | None:
        """Find the newest whole checkpoint; damaged ones are logged and passed over."""
        for candidate in self._all():
            problem = damage(candidate.folder)
            if problem is None:
                return candidate
            log.warning("checkpoint %s is damaged (%s); going back to the one before it", candidate.folder.name, problem)
        return None

    def _all(self) -> list[RunCheckpoint]:
        """By step, the newest first."""
        checkpoints = []
        for path in self._folder.iterdir() if self._folder.is_dir() else ():
            if match := _NAME.fullmatch(path.name):
                checkpoints.append(RunCheckpoint(int(match[1]), path))
        return sorted(checkpoints, key=lambda checkpoint: checkpoint.step, reverse=True)

    def _point_at(self, name: str) -> None:
        # Only a hint for people: which checkpoint is the newest is found out from the folders.
        write_atomic(self._run / LATEST, f"{name}\n")
        sync(self._run)

    def _prune(self, step: int) -> None:
        # Those behind the one just saved are damaged, since the run went back behind them.
        checkpoints = self._all()
        kept = [checkpoint for checkpoint in checkpoints if checkpoint.step <= step][: self._keep]
        for checkpoint in checkpoints:
            if checkpoint not in kept:
                shutil.rmtree(checkpoint.folder, ignore_errors=True)

    def _remove_partial(self) -> None:
        for path in self._folder.glob(f"{_PARTIAL}*"):
            shutil.rmtree(path, ignore_errors=True)


def damage(folder: Path) -> str | None:
    """Name the fault of a checkpoint folder; None if it is whole."""
    try:
        files = json.loads((folder / MANIFEST).read_text("utf-8"))["files"]
        for name, summary in files.items():
            path = folder / name
            if not path.is_file():
                return f"{name} is missing"
            if _file_summary(path) != summary:
                return f"{name} is not the file that was saved"
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        return f"{MANIFEST} can't be read: {error}"
    return None


def _files(folder: Path) -> Iterator[Path]:
    return (path for path in sorted(folder.rglob("*")) if path.is_file())


def _file_summary(path: Path) -> dict[str, int | str]:
    return {"bytes": path.stat().st_size, "sha256": sha256_of(path)}
