"""Atomic file writes, and the hash of a file.

write_atomic(folder / "report.json", text)   # readers see the old text or all of the new one
sync(folder)                                # make names and contents survive a power cut
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

PARTIAL = ".partial"


def write_atomic(path: Path, text: str) -> None:
    """Write a text file beside its place, then move it there. A kill leaves at most a file that ends in `PARTIAL`."""
    partial = path.with_name(f"{path.name}.{os.getpid()}{PARTIAL}")
    partial.write_text(text, "utf-8")
    partial.replace(path)


def sync(path: Path) -> None:
    """Wait until a file's content, or a folder's names, are on the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def sha256_of(path: Path) -> str:
    """Hash a file's content with sha256 (hex).

    Raises:
        OSError: it can't be read.
    """
    digest = hashlib.sha256()
    with path.open("rb") as reader:
        while chunk := reader.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()
