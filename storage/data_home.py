"""The data folder: one private folder outside anything that is served."""

from __future__ import annotations

import contextlib
import os
import uuid
from pathlib import Path

from storage.errors import StorageError

# Under `locks/`; its name is the one that existing data folders have.
_ID_FILE = "place"


def data_home() -> Path:
    """Return the data folder, which may not exist yet: `DESCORE_HOME` if set, else the default one."""
    configured = os.environ.get("DESCORE_HOME", "").strip()
    return Path(configured).expanduser().absolute() if configured else default_data_home()


def default_data_home() -> Path:
    """Return the data folder of a user who has set none: `~/.local/share/descore-studio`."""
    return Path.home() / ".local" / "share" / "descore-studio"


def ensure_folder(folder: Path) -> Path:
    """Create a folder that only this user can read, with its parents.

    Raises:
        StorageError: it can't be created.
    """
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise StorageError(f"can't create the folder {folder.name}: {error.strerror or error}") from error
    return folder


def data_home_id(home: Path) -> str:
    """Return the id of a data folder, which is made at the first call and never changes.

    Raises:
        StorageError: the folder can't be written.
    """
    path = ensure_folder(home / "locks") / _ID_FILE
    try:
        if not path.exists():
            partial = path.with_name(f"{_ID_FILE}.{os.getpid()}.partial")
            partial.write_text(uuid.uuid4().hex, "utf-8")
            with contextlib.suppress(FileExistsError):  # another process was quicker; its id holds
                os.link(partial, path)
            partial.unlink()
        return path.read_text("utf-8")
    except OSError as error:
        raise StorageError(f"can't write the id of the data folder: {error.strerror or error}") from error
