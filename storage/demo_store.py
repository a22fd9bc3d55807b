"""The mark of a demo store: a data folder whose people and labels are made up, see `python app.py --demo`.

begin_demo(folder)            # raises where somebody's own store lies
finish_demo(folder)
demo_state(folder)            # "finished"
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Literal

from storage.atomic import write_atomic
from storage.data_home import ensure_folder
from storage.errors import StorageError

MARK = "demo.json"
DemoState = Literal["none", "begun", "finished"]


def demo_state(home: Path) -> DemoState:
    """Tell whether a data folder holds a demo store: none, one that is not whole, or a finished one."""
    try:
        finished = json.loads((home / MARK).read_text("utf-8"))["finished"]
    except (OSError, ValueError, KeyError, TypeError):
        return "begun" if (home / MARK).exists() else "none"
    return "finished" if finished is True else "begun"


def require_own(home: Path) -> None:
    """Refuse a folder that holds anything but a demo store.

    Raises:
        StorageError: it does.
    """
    if demo_state(home) == "none" and home.exists() and (not home.is_dir() or any(home.iterdir())):
        raise StorageError(f"{home} is not empty and holds no demo store; name an empty or new folder")


def begin_demo(home: Path) -> None:
    """Mark an empty or new folder; what an interrupted call left there is removed.

    Raises:
        StorageError: something else is in the folder, or a finished demo store, or it can't be written.
    """
    require_own(home)
    ensure_folder(home)
    if demo_state(home) == "finished":
        raise StorageError(f"{home} holds a finished demo store")
    for entry in home.iterdir():
        if entry.name == MARK:
            continue
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry)
        else:
            entry.unlink()
    _write(home, finished=False)


def finish_demo(home: Path) -> None:
    """Note that the store is whole.

    Raises:
        StorageError: the folder can't be written.
    """
    _write(home, finished=True)


def _write(home: Path, finished: bool) -> None:
    try:
        write_atomic(home / MARK, json.dumps({"finished": finished}))
    except OSError as error:
        raise StorageError(f"can't write into {home}: {error.strerror or error}") from error
