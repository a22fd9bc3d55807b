"""The list of a folder's files in its `descore.json`, each with its size and SHA-256."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from descore.errors import CheckpointError
from descore.modeling.backbone_files import PICKLES

MANIFEST_FILE, SCORING_FILE = "descore.json", "scoring.safetensors"
# Larger files (an 8B's shards) are checked by size alone: hashing 16 GB at each start would take minutes.
_HASHED_UP_TO = 64 * 1024 * 1024


def list_files(folder: Path) -> dict[str, dict[str, Any]]:
    """Return path -> size and hash of every file in a folder that is not empty."""
    return {
        path.relative_to(folder).as_posix(): {"bytes": path.stat().st_size, "sha256": _sha256(path)}
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.stat().st_size > 0
    }


def check_files(folder: Path, listed: Mapping[str, Any]) -> None:
    """Check that every listed file is there and whole.

    Raises:
        CheckpointError: a file is missing or was changed, or an entry can't be read.
    """
    for name, entry in listed.items():
        _check_file(folder, name, entry)


def _check_file(folder: Path, name: str, entry: Any) -> None:
    path = folder / name
    if not isinstance(entry, dict) or ".." in Path(name).parts or Path(name).is_absolute() or len(name) > 1000:
        raise CheckpointError(f"{MANIFEST_FILE} lists {name[:80]!r} in a way that can't be read")
    if path.suffix.lower() in PICKLES:
        raise CheckpointError(f"{name} is a pickle, which can run code when it is opened; save the weights as safetensors")
    if not path.is_file():
        raise CheckpointError(f"{name} is missing; copy or download the whole folder again")
    if path.stat().st_size != entry.get("bytes"):
        raise CheckpointError(f"{name} has {path.stat().st_size} bytes instead of {entry.get('bytes')}; fetch it again")
    if path.stat().st_size <= _HASHED_UP_TO and _sha256(path) != entry.get("sha256"):
        raise CheckpointError(f"{name} is not the file that was saved (its hash differs); fetch it again")


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
