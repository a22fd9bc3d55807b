"""The name of a data folder, by which a run finds its way back to the files it works in.

A machine's own name won't do: a container has a new one each time it is made, and a laptop one for each network.
"""

from __future__ import annotations

import contextlib
import os
import uuid
from pathlib import Path

from storage.errors import StorageError
from storage.home import ensure_folder

_FILE = "place"


def place_of(home: Path) -> str:
    """The name of this data folder, made at the first call and the same ever after.

    Raises:
        StorageError: the folder can't be written.
    """
    path = ensure_folder(home / "locks") / _FILE
    try:
        if not path.exists():
            partial = path.with_name(f"{_FILE}.{os.getpid()}.partial")
            partial.write_text(uuid.uuid4().hex, "utf-8")
            with contextlib.suppress(FileExistsError):  # another process was quicker; its name holds
                os.link(partial, path)
            partial.unlink()
        return path.read_text("utf-8")
    except OSError as error:
        raise StorageError(f"can't keep the name of the data folder {home}: {error.strerror or error}") from error
