"""The folder of a pack: a run with all that it needs, to be trained on a machine that has nothing else of ours.

    OUT/pack.json        which run this is, what it starts from, and every file with its size and hash
    OUT/README.md        two lines: what it needs, what to type
    OUT/config.yaml      settings; paths start from OUT
    OUT/clips/           the videos, named by the hash of their content
    OUT/parent/          the checkpoint to start from, unless it has a Hub id; rival/, if another one is compared with
    OUT/run/             the run's folder: its frozen pairs, then curves, checkpoints, judged held-out pairs, the log
    OUT/result.json      written last: the pack is finished; every file of the result with its size and hash

Nothing here is trusted when it comes back: names of files stay inside the folder, and a file that has changed is refused.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from storage.atomic import sha256_of, write_atomic
from storage.errors import StorageError
from storage.foreign_json import read_json
from storage.training.model_registry import get_checkpoint

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from storage.training.runs import Run

PACK, RESULT, README, CONFIG = "pack.json", "result.json", "README.md", "config.yaml"
CLIPS, RUN, CACHE = "clips", "run", "cache"
PACKS = "packs"  # the folder of packs in the data folder
AWAY = "elsewhere"  # the stage in the progress of a run that is packed and not back
_FORMAT = 1

OnProgress = Callable[[int, int], None]


class PackError(StorageError):
    """A pack can't be made, run or taken back; the message says why and what to do."""


@dataclass(frozen=True)
class PackedCheckpoint:
    """A checkpoint that a pack needs.

    Attributes:
        name: for people.
        checkpoint: a folder of the pack, or a Hub id with its revision (owner/name@commit).
        fingerprint: of its content, as the registry knows it.
    """

    name: str
    checkpoint: str
    fingerprint: str

    @property
    def is_packed(self) -> bool:
        """Whether its files are in the pack."""
        return "/" not in self.checkpoint

    def location(self, folder: Path) -> str:
        """Return what `load_checkpoint` takes. folder: of the pack."""
        return str(folder.absolute() / self.checkpoint) if self.is_packed else self.checkpoint


@dataclass(frozen=True)
class Pack:
    """What `pack.json` says.

    Attributes:
        run: its number in the store that it comes from.
        key: tells this run from all others, of other stores too; see `run_key`.
        stages: to train, in order.
        code: version of the code that packed it.
        parent: what it starts from.
        rival: what the result is compared with.
        benchmark_pairs: of the comparison.
        files: path in the pack -> {"bytes", "sha256"}.
    """

    run: int
    key: str
    stages: tuple[str, ...]
    code: str
    parent: PackedCheckpoint
    rival: PackedCheckpoint
    benchmark_pairs: int
    files: Mapping[str, Mapping[str, Any]] = field(hash=False)


def run_key(run: Run, parent_fingerprint: str) -> str:
    """Name a run so that no other run has the same name, whatever the store."""
    about = [run.id, run.created_at.isoformat(), run.snapshot_hash, parent_fingerprint]
    return hashlib.sha256(json.dumps(about).encode()).hexdigest()


def is_pack_of(session: Session, pack: Pack, run: Run) -> bool:
    """Whether a pack is of this run of this store."""
    if pack.run != run.id or run.parent_id is None:
        return False
    return run_key(run, get_checkpoint(session, run.parent_id).fingerprint) == pack.key


def write_pack(folder: Path, pack: Pack) -> None:
    """Write `pack.json`, which makes the folder a pack: last of its files."""
    write_atomic(folder / PACK, json.dumps({"format": _FORMAT, **asdict(pack)}, indent=1, ensure_ascii=False) + "\n")


def read_pack(folder: Path) -> Pack:
    """Read what a pack is of.

    Raises:
        PackError: the folder is no pack, or one of another version, or its `pack.json` is damaged.
    """
    if not (folder / PACK).is_file():
        raise PackError(f"{folder} is no pack: it has no {PACK}. Give the folder that `python -m trainer pack` wrote")
    values = _read(folder / PACK)
    if values.get("format") != _FORMAT:
        raise PackError(f"{folder.name} is a pack of another version of this program; update it, or pack the run again")
    try:
        parent, rival = (PackedCheckpoint(**values[name]) for name in ("parent", "rival"))
        return Pack(
            run=int(values["run"]),
            key=str(values["key"]),
            stages=tuple(values["stages"]),
            code=str(values["code"]),
            parent=parent,
            rival=rival,
            benchmark_pairs=int(values["benchmark_pairs"]),
            files=_files(values["files"]),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise _damaged(folder / PACK) from error


def write_result(folder: Path, pack: Pack, files: Mapping[str, Mapping[str, Any]]) -> None:
    """Write `result.json`, which says that the pack is finished."""
    write_atomic(folder / RESULT, json.dumps({"format": _FORMAT, "key": pack.key, "files": files}, indent=1) + "\n")


def read_result(folder: Path, pack: Pack) -> Mapping[str, Mapping[str, Any]] | None:
    """Read the files of the result; None while the pack is not finished.

    Raises:
        PackError: it is the result of another run, or damaged.
    """
    if not (folder / RESULT).is_file():
        return None
    values = _read(folder / RESULT)
    if values.get("key") != pack.key:
        raise PackError(f"{folder.name} holds the result of another run; copy the whole folder again")
    try:
        return _files(values["files"])
    except (KeyError, TypeError, ValueError) as error:
        raise _damaged(folder / RESULT) from error


def summaries(folder: Path, paths: Iterable[Path], on_progress: OnProgress = lambda *_: None) -> dict[str, dict[str, Any]]:
    """Return path in the pack -> size and hash."""
    ordered = sorted(paths)
    sums = {}
    for done, path in enumerate(ordered, start=1):
        sums[path.relative_to(folder).as_posix()] = {"bytes": path.stat().st_size, "sha256": sha256_of(path)}
        on_progress(done, len(ordered))
    return sums


def check_files(folder: Path, files: Mapping[str, Mapping[str, Any]], on_progress: OnProgress = lambda *_: None) -> None:
    """Check that every file is there, inside the pack, and what was written.

    Raises:
        PackError: one is not; the message names it.
    """
    for done, (name, summary) in enumerate(files.items(), start=1):
        path = folder / name
        if path.is_symlink() or not path.is_file():
            raise PackError(f"{folder.name} is not whole: {name} is missing. Copy the whole folder again")
        if path.stat().st_size != summary.get("bytes") or sha256_of(path) != summary.get("sha256"):
            raise PackError(f"{folder.name} is damaged: {name} is not the file that was written. Copy the folder again")
        on_progress(done, len(files))


def _files(values: Any) -> dict[str, dict[str, Any]]:
    """Check the names of a list of files.

    Raises:
        TypeError, ValueError: it has another shape, or a name leads out of the folder.
    """
    if not isinstance(values, dict):
        raise TypeError("no list of files")
    for name, summary in values.items():
        path = PurePosixPath(name)
        if path.is_absolute() or ".." in path.parts or "\\" in name or not isinstance(summary, dict):
            raise ValueError(f"{name[:80]} leads out of the pack")
    return values


def _read(path: Path) -> dict[str, Any]:
    try:
        values = read_json(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise _damaged(path) from error
    if not isinstance(values, dict):
        raise _damaged(path)
    return values


def _damaged(path: Path) -> PackError:
    return PackError(f"{path.parent.name} is damaged: {path.name} can't be read. Copy the whole folder again")
