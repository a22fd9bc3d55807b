"""`python app.py --demo`: the app on a store of its own, which a process of the trainer makes at first."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from storage import StorageError
from storage.demo_store import demo_state, require_own

COMMAND = "python app.py --demo"
NOTICE = "This is a demo store: its people, labels and generators are made up."
_PROJECT = Path(__file__).resolve().parents[1]
# Settings of a person's own store, and of a Space's; the demo has neither.
_OWN_STORE = ("DATABASE_URL", "DESCORE_DATASET", "DEMO")


@contextmanager
def demo_home(folder: Path | None) -> Iterator[Path]:
    """Make the demo store, or open the one of that folder, and let this process use nothing else.

    Args:
        folder: an empty or new one, or one that holds a finished demo store; None for a temporary one.

    Raises:
        StorageError: the folder holds something else, or the store can't be made.
    """
    for name in _OWN_STORE:
        os.environ.pop(name, None)  # nobody's own store is opened from here on
    if folder is not None:
        yield _ready(folder.expanduser().absolute())
        return
    with tempfile.TemporaryDirectory(prefix="descore-demo-", ignore_cleanup_errors=True) as temporary:
        print("* The demo store lies in a temporary folder and is removed at the end; --home FOLDER keeps it.", flush=True)
        yield _ready(Path(temporary) / "home")


def _ready(home: Path) -> Path:
    require_own(home)
    if demo_state(home) != "finished":
        print("* Making a demo store, once; this takes a minute or two.", flush=True)
        _make(home)
    os.environ["DESCORE_HOME"] = str(home)
    return home


def _make(home: Path) -> None:
    """Let a process of the trainer make the store; its lines go to the console.

    Raises:
        StorageError: it failed; the process has said why.
        KeyboardInterrupt: it was stopped.
    """
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    command = [sys.executable, "-m", "trainer", "demo", str(home)]
    code = subprocess.run(command, cwd=_PROJECT, env=environment, check=False).returncode
    if code in (130, -2):
        raise KeyboardInterrupt
    if code:
        raise StorageError(f"the demo store could not be made in {home}; the lines above say why")
