"""What ties launched processes to the one that launched them: they stop when it wants that, and end when it is gone.

A launcher hands signals on, but kills its processes seconds later, and leaves them alone where it is killed itself. So a
wish to stop is a file in the run's folder, and the caller's lock on that folder says whether it lives: the system frees it
however the caller ends (`storage.training.run_folder.RunLock`).
"""

from __future__ import annotations

import json
import logging
import os
import signal
import threading
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from storage.atomic import write_atomic
from storage.training.run_folder import is_held

if TYPE_CHECKING:
    from trainer.engine.stop_signals import StopSignals

log = logging.getLogger(__name__)

TETHER = "DESCORE_TETHER"  # in the environment of launched processes: the folder of their run
_STOP, _REFUSAL = "stop-launched", "refused-launched.json"
_SECONDS = 1.0
ORPHANED = 75  # exit code of a process whose caller is gone


@dataclass(frozen=True)
class Refusal:
    """Why launched processes ended.

    Attributes:
        sentence: for people.
        failed: the training failed; otherwise the user has to change something.
    """

    sentence: str
    failed: bool


class LaunchNotes:
    """What the caller and the launched processes tell each other, as files in the run's folder."""

    def __init__(self, folder: Path) -> None:
        self._stop, self._refusal = folder / _STOP, folder / _REFUSAL

    def clear(self) -> None:
        """Forget what an earlier launch left."""
        self._stop.unlink(missing_ok=True)
        self._refusal.unlink(missing_ok=True)

    def ask_to_stop(self) -> None:
        """Ask the processes to end after their step."""
        self._stop.touch()

    def asked_to_stop(self) -> bool:
        """Whether the caller wants the processes to end."""
        return self._stop.exists()

    def refuse(self, refusal: Refusal) -> None:
        """Say why this process ends; the first one's reason counts."""
        if not self._refusal.exists():
            write_atomic(self._refusal, json.dumps(asdict(refusal)))

    def refusal(self) -> Refusal | None:
        """Return why the processes ended, if one of them said so."""
        try:
            return Refusal(**json.loads(self._refusal.read_text("utf-8")))
        except (OSError, ValueError, TypeError):
            return None


class Tether:
    """Watches the caller of this process from a thread, for the length of a `with` block."""

    def __init__(self, folder: Path | None, stop: StopSignals) -> None:
        """Prepare to watch. folder: of the run; None in a process that nobody launched."""
        self.folder, self._stop = folder, stop
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="tether", daemon=True)

    @classmethod
    def from_environment(cls, stop: StopSignals) -> Tether:
        """Return the tether of this process, as its environment says."""
        folder = os.environ.get(TETHER)
        return cls(Path(folder) if folder else None, stop)

    @property
    def notes(self) -> LaunchNotes | None:
        """Where this process tells its caller something; None without one."""
        return None if self.folder is None else LaunchNotes(self.folder)

    def __enter__(self) -> Tether:
        if self.folder is not None:
            self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._over.set()
        if self.folder is not None:
            self._thread.join()

    def _watch(self) -> None:
        assert self.folder is not None
        notes = LaunchNotes(self.folder)
        while not self._over.wait(_SECONDS):
            if not is_held(self.folder):
                log.error("the process that started this training is gone, so it ends; its last checkpoint stays")
                os._exit(ORPHANED)  # a step may hang in a collective call, which no exception ends
            if notes.asked_to_stop() and not self._stop.received:
                self._stop.note(signal.SIGTERM)
