"""Memory and time of a process, with or without its children, and the room that a folder takes, as Linux counts them."""

from __future__ import annotations

import os
import threading
from contextlib import suppress
from pathlib import Path

_PAGE = os.sysconf("SC_PAGE_SIZE")


def tree_memory(root: int) -> int:
    """Return the bytes of resident memory of a process and all that it started, pages that they share counted for each."""
    parents: dict[int, int] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with suppress(OSError):
                # The name in brackets may hold anything; the parent is the second field behind it.
                parents[int(entry.name)] = int((entry / "stat").read_text("utf-8", "replace").rpartition(")")[2].split()[1])
    members, found = {root}, True
    while found:
        found = {process for process, parent in parents.items() if parent in members} - members
        members |= found
    return sum(map(_memory, members))


def _memory(process: int) -> int:
    with suppress(OSError):
        return int(Path(f"/proc/{process}/statm").read_text("ascii").split()[1]) * _PAGE
    return 0


def own_cpu_seconds(process: int) -> float:
    """Return the seconds of processors that a process has used, without its children."""
    fields = Path(f"/proc/{process}/stat").read_text("utf-8", "replace").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def folder_bytes(folder: Path) -> int:
    """Return the bytes that the files below a folder take on the disk."""
    taken = 0
    for parent, _, names in os.walk(folder):
        for name in names:
            with suppress(OSError):
                taken += Path(parent, name).lstat().st_blocks * 512
    return taken


class MemoryWatch:
    """The memory of a process tree, looked at each second in a thread of its own until the block ends.

    Attributes:
        first, highest: in bytes.
    """

    def __init__(self, root: int) -> None:
        self._root, self._over = root, threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self.first = self.highest = tree_memory(root)

    def __enter__(self) -> MemoryWatch:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._over.wait(1.0):
            self.highest = max(self.highest, tree_memory(self._root))
