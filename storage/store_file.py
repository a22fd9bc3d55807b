"""The file of a SQLite store, watched while the app runs.

SQLite goes on writing into a file that was moved or deleted; each write would be acknowledged, and nobody would find it
again.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

from storage.errors import StorageError

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class StoreFile:
    """Which file was opened, by its inode."""

    path: Path
    device: int
    inode: int

    @classmethod
    def of(cls, path: Path) -> StoreFile:
        """Note which file is there now."""
        stat = path.stat()
        return cls(path, stat.st_dev, stat.st_ino)

    def check(self) -> None:
        """Check that it is still there.

        Raises:
            StorageError: it was moved, deleted or replaced.
        """
        try:
            stat = self.path.stat()
        except OSError:
            stat = None
        if stat is None or (stat.st_dev, stat.st_ino) != (self.device, self.inode):
            log.error("the store's file %s was moved, deleted or replaced under the running app", self.path)
            raise StorageError(
                "The store's file was moved, deleted or replaced while the app is running, so nothing can be saved. "
                "Tell the person who runs this app to put it back, or to restart the app."
            )
