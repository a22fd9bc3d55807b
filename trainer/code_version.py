"""Which code trained, judged or packed: one short name for the sources of `descore` and `trainer`."""

from __future__ import annotations

import hashlib
from pathlib import Path

import descore


def code_version() -> str:
    """Hash the sources of `descore` and `trainer`."""
    root = Path(descore.__file__).parents[1]
    digest = hashlib.sha256()
    for path in sorted(path for package in ("descore", "trainer") for path in (root / package).rglob("*.py")):
        digest.update(path.relative_to(root).as_posix().encode() + path.read_bytes())
    return f"sources-{digest.hexdigest()[:12]}"
