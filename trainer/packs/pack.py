"""`python -m trainer pack RUN OUT`: one folder with all that a run of the store needs to be trained elsewhere.

What lies in it: `storage.training.pack_folder`. It is made beside its place and moved there whole; the same command again
finds it and does nothing. Of people it holds what the training learns from, their common answers, and no names.
"""

from __future__ import annotations

import errno
import json
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from descore.checkpoints.folder import BESIDE, MANIFEST_FILE, backbone_folder, locate, read_manifest
from descore.errors import CheckpointError
from storage.atomic import sha256_of, sync
from storage.data_home import data_home_id
from storage.training.model_registry import get_checkpoint
from storage.training.pack_folder import (
    AWAY,
    CLIPS,
    CONFIG,
    README,
    RUN,
    Pack,
    PackedCheckpoint,
    PackError,
    read_pack,
    run_key,
    summaries,
    write_pack,
)
from storage.training.run_folder import RunLock
from storage.training.runs import Run, get_run, mark_sent, requeue
from trainer.code_version import code_version
from trainer.config import save_config
from trainer.data.frozen_pairs import frozen_pairs, pair_ids
from trainer.data.run_pairs import save_pairs
from trainer.runs.observer import save_pair_ids
from trainer.runs.parent import benchmark_pairs, location
from trainer.runs.run_settings import run_settings, stage_names

if TYPE_CHECKING:
    from storage import Database
    from trainer.data.pairs import LoadedPairs, TrainingPair

OnProgress = Callable[[int, int], None]

_README = """\
Run {run} of a store of DeScore Studio, to be trained here: it needs a checkout of that program (code {code}) with its \
environment (`make setup`), and nothing else.
In the checkout: `python -m trainer run FOLDER` trains it, and goes on where it stopped; then \
`python -m trainer unpack FOLDER` at home, or the Train page, takes it back.
"""


@dataclass(frozen=True)
class _Origin:
    """A checkpoint of the registry that a pack needs: its number, name and fingerprint there."""

    id: int
    name: str
    fingerprint: str


def pack_run(database: Database, run_id: int, folder: Path, on_progress: OnProgress = lambda *_: None) -> Pack:
    """Pack a run of the store, and note in its row that it is elsewhere from now on.

    Args:
        folder: where the pack goes; a pack of this run that is there stays as it is, with its result if it has one.
        on_progress: called with the number of files that are packed, and of all of them.

    Raises:
        PackError: the run can't be packed, or the folder holds something else.
        StorageError: there is no such run, or a process works on it.
        RunRefusedError, ValueError, CheckpointError: its settings or checkpoints can't be used.
    """
    folder = folder.absolute()
    with database.read() as session:
        run = get_run(session, run_id)
    if run.kind != "train":
        raise PackError(f"run {run_id} judges pairs of this store; only a training can be packed")
    if run.state == "finished":
        raise PackError(f"run {run_id} is finished; start a new run")
    if run.place == "slurm" and run.state == "running":
        raise PackError(f"run {run_id} is job {run.job} of SLURM; cancel it first")
    with RunLock(database.home / run.folder):
        pack = _Packing(database, run, on_progress).into(folder)
        _mark_away(database, run, folder)
    return pack


def _mark_away(database: Database, run: Run, folder: Path) -> None:
    with database.write() as session:
        if get_run(session, run.id).state in ("failed", "cancelled", "lost"):
            requeue(session, run.id)
        mark_sent(session, run.id, "elsewhere", str(folder), {"stage": AWAY}, data_home_id(database.home))


class _Packing:
    """Makes the pack of one run."""

    def __init__(self, database: Database, run: Run, on_progress: OnProgress) -> None:
        self._database, self._run, self._on_progress = database, run, on_progress
        self._parent, self._rival = _origin(database, run.id, run.parent_id), _origin(database, run.id, run.rival_id)
        self._key = run_key(run, self._parent.fingerprint)

    def into(self, folder: Path) -> Pack:
        """Make the pack, or find it."""
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            pack = read_pack(folder)
            if pack.key != self._key:
                raise PackError(f"{folder} holds the pack of another run ({pack.run}); choose another folder")
            return pack
        try:
            folder.parent.mkdir(parents=True, exist_ok=True)
            for leftover in folder.parent.glob(f".{folder.name}.*.partial"):  # of a packing that was killed
                shutil.rmtree(leftover, ignore_errors=True)
            work = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", suffix=".partial", dir=folder.parent))
            try:
                pack = self._write(work)
                for path in [*work.rglob("*"), work]:
                    sync(path)
                work.replace(folder)
                sync(folder.parent)
            finally:
                shutil.rmtree(work, ignore_errors=True)
        except OSError as error:
            advice = "make room, or choose a folder on another disk" if error.errno == errno.ENOSPC else "choose another one"
            raise PackError(f"can't write the pack {folder}: {error.strerror or error}; {advice}") from error
        return pack

    def _write(self, work: Path) -> Pack:
        run, database = self._run, self._database
        config, stages = run_settings(database, run), stage_names(run)
        parent = self._packed(self._parent, work, "parent")
        same = self._rival.fingerprint == self._parent.fingerprint
        rival = parent if same else self._packed(self._rival, work, "rival")
        data = replace(config.data, campaigns=(), csv=None, videos=None, thoughts=None)
        save_config(replace(config, model=replace(config.model, checkpoint=parent.checkpoint), data=data), work / CONFIG)
        with database.read() as session:
            pairs, ids = frozen_pairs(session, run.id, database.home), pair_ids(session, run.id)
        (work / RUN).mkdir()
        save_pairs(self._with_clips(pairs, work), work / RUN, relative=True)
        save_pair_ids(work / RUN, ids)
        code = code_version()
        (work / README).write_text(_README.format(run=run.id, code=code), "utf-8")
        files = summaries(work, [path for path in work.rglob("*") if path.is_file()], self._on_progress)
        pack = Pack(run.id, self._key, tuple(stages), code, parent, rival, benchmark_pairs(database, run), files)
        write_pack(work, pack)
        work.chmod(0o755)
        return pack

    def _packed(self, origin: _Origin, work: Path, name: str) -> PackedCheckpoint:
        """Put a checkpoint into the pack, unless the Hub has it."""
        source = location(self._database, origin.id)
        found, base = locate(source)
        if base.revision is not None:
            return PackedCheckpoint(origin.name, f"{base.source}@{base.revision}", origin.fingerprint)
        _copy_folder(found, work / name)
        if (found / MANIFEST_FILE).exists():
            _bring_base(found, work / name, work / f"{name}-base")
        return PackedCheckpoint(origin.name, name, origin.fingerprint)

    def _with_clips(self, pairs: LoadedPairs, work: Path) -> LoadedPairs:
        """Copy the clips of the pairs; return the pairs with the paths of the copies."""
        (work / CLIPS).mkdir()
        both = (*pairs.train, *pairs.held_out)
        names = {
            content: f"{content}{video.suffix}"
            for pair in both
            for content, video in zip(pair.contents, pair.videos, strict=True)
        }
        sources = {c: video for pair in both for c, video in zip(pair.contents, pair.videos, strict=True)}
        for done, (content, source) in enumerate(sources.items(), start=1):
            target = work / CLIPS / names[content]
            shutil.copyfile(source, target)
            if sha256_of(target) != content:
                raise PackError(f"the video {source.name} is not the one that was stored; run `python -m storage check`")
            self._on_progress(done, len(sources))

        def moved(pair: TrainingPair) -> TrainingPair:
            a, b = (Path("..") / CLIPS / names[content] for content in pair.contents)
            return replace(pair, videos=(a, b))

        return replace(pairs, train=tuple(map(moved, pairs.train)), held_out=tuple(map(moved, pairs.held_out)))


def _origin(database: Database, run_id: int, checkpoint_id: int | None) -> _Origin:
    if checkpoint_id is None:
        raise PackError(f"run {run_id} does not name both of its checkpoints; start a new one")
    with database.read() as session:
        checkpoint = get_checkpoint(session, checkpoint_id)
    return _Origin(checkpoint.id, checkpoint.name, checkpoint.fingerprint)


def _copy_folder(source: Path, target: Path) -> None:
    """Copy a checkpoint's files with their times, which the fingerprint of a bare backbone has in it."""
    shutil.copytree(source, target, symlinks=False, ignore=shutil.ignore_patterns(".*", "__pycache__"))


def _bring_base(found: Path, packed: Path, beside: Path) -> None:
    """Bring along a base model that is a folder of this machine, and let the packed checkpoint name the copy."""
    manifest = read_manifest(found)
    base = manifest.base_model
    if base is None or base.source == "bundled" or base.revision is not None:
        return
    try:
        _copy_folder(backbone_folder(found, manifest), beside)
    except CheckpointError as error:
        raise PackError(f"the base model of {manifest.name} can't be packed: {error}") from error
    values: dict[str, Any] = json.loads((packed / MANIFEST_FILE).read_text("utf-8"))
    values["base_model"]["source"] = f"{BESIDE}{beside.name}"
    (packed / MANIFEST_FILE).write_text(json.dumps(values, indent=2, ensure_ascii=False) + "\n", "utf-8")
