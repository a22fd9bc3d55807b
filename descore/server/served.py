"""The checkpoint that answers, and swapping it for another one as the server runs."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from descore.checkpoints.folder import BUNDLED, folder_fingerprint, locate
from descore.engines.engine import EngineName
from descore.engines.transformers_engine import TransformersEngine
from descore.errors import CheckpointError
from descore.judge import DeScore, release_memory
from descore.modeling.cpu_threads import set_threads
from descore.server.errors import ServerError


@dataclass(eq=False)
class Served:
    """One checkpoint, loaded.

    Attributes:
        judge: thinks.
        location: as it was named: a folder, a Hub id or "bundled".
        fingerprint: changes with anything in the checkpoint.
    """

    judge: DeScore
    location: str
    fingerprint: str

    @classmethod
    def load(cls, checkpoint: str, engine: EngineName) -> Served:
        """Load a checkpoint.

        Raises:
            CheckpointError: there is none, or it can't be used.
            EngineError: the engine can't run here.
        """
        folder, _ = locate(checkpoint)
        fingerprint = folder_fingerprint(folder)
        judge = DeScore.from_pretrained(checkpoint, engine=engine)
        if isinstance(judge.engine, TransformersEngine):
            set_threads(judge.model)
        # Clients name it to other servers, which run in other folders.
        location = str(folder.absolute()) if checkpoint != BUNDLED and Path(checkpoint).is_dir() else checkpoint
        return cls(judge, location, fingerprint)

    @property
    def at_once(self) -> int:
        """How many requests suit the engine at a time."""
        return self.judge.engine.at_once


class Checkpoints:
    """Holds the checkpoint that answers now. Threads may share it."""

    def __init__(self, served: Served, load: Callable[[str], Served]) -> None:
        """Serve one checkpoint; `load` loads others."""
        self._served, self._load = served, load
        self._changing = threading.Lock()
        self._lock = threading.Lock()
        self._users: dict[Served, int] = {served: 0}

    @property
    def now(self) -> Served:
        """The checkpoint that answers now."""
        return self._served

    def take(self, fingerprint: str | None = None) -> Served:
        """Keep the checkpoint that answers now until `give_back`.

        Args:
            fingerprint: of the checkpoint that the caller expects.

        Raises:
            ServerError: another one answers by now.
        """
        with self._lock:
            served = self._served
            if fingerprint is not None and fingerprint != served.fingerprint:
                raise ServerError(
                    409,
                    "checkpoint_changed",
                    f"{served.judge.name} answers by now, another checkpoint than was asked: read /v1/checkpoint again",
                )
            self._users[served] += 1
            return served

    def give_back(self, served: Served) -> None:
        """Let a checkpoint go; one that was swapped is closed once nobody uses it."""
        with self._lock:
            self._users[served] -= 1
            idle = served is not self._served and not self._users[served]
            if idle:
                del self._users[served]
        if idle:
            served.judge.close()
            release_memory()

    @contextmanager
    def in_use(self, fingerprint: str | None = None) -> Iterator[Served]:
        """Keep the checkpoint that answers now for the length of the block, with the errors of `take`."""
        served = self.take(fingerprint)
        try:
            yield served
        finally:
            self.give_back(served)

    def swap(self, checkpoint: str, fingerprint: str | None = None) -> Served:
        """Load a checkpoint beside the one that answers, and let it answer from then on.

        Args:
            fingerprint: that it has to have; None for any.

        Raises:
            ServerError: another one is being loaded.
            CheckpointError, EngineError: it can't be loaded here, or has another fingerprint; the one before goes on.
        """
        if not self._changing.acquire(blocking=False):
            raise ServerError(409, "loading", "another checkpoint is being loaded; try again in a minute")
        try:
            if fingerprint is not None and fingerprint == self._served.fingerprint:
                return self._served
            served = self._load(checkpoint)
            if fingerprint is not None and served.fingerprint != fingerprint:
                served.judge.close()
                raise CheckpointError(
                    f"{served.judge.name} has other files on this server than where it was registered; copy them again"
                )
            with self._lock:
                self._users[served] = 1
                before, self._served = self._served, served
                self._users[before] += 1
            self.give_back(served)
            self.give_back(before)
            return served
        finally:
            self._changing.release()
