"""The process of `descore serve`: uvicorn, whose first SIGTERM or Ctrl-C lets it finish what it began."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import sys
import tempfile
import threading
import time
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import uvicorn

from descore.errors import EngineError
from descore.server.app import JudgingServer, create_app
from descore.server.config import ServerConfig
from descore.server.local_servers import ANSWERS_AT
from descore.server.served import Served
from descore.server.video_store import VideoStore
from descore.video import warm_up

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType

log = logging.getLogger(__name__)
_IDLE_CHECK = 0.1  # seconds
_DRAIN_SECONDS = 5.0
_QUIET_CHECKS = 3  # idle so many times one after another: what was finished last is sent by then


class DrainingServer(uvicorn.Server):
    """uvicorn that answers 503 after the first signal, ends when its work is done, and at once after the second."""

    def __init__(self, config: uvicorn.Config, judging: JudgingServer) -> None:
        super().__init__(config)
        self._judging = judging

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Begin to drain; end at once where that has begun already."""
        if self._judging.draining:
            self.force_exit = True
            super().handle_exit(sig, frame)
        else:
            self._judging.draining = True
            print("descore: finishing what has begun; a second signal ends it at once", file=sys.stderr, flush=True)

    async def on_tick(self, counter: int) -> bool:
        """Look whether the work is done, each time that uvicorn looks at its state."""
        ended: bool = await super().on_tick(counter)
        if self._judging.draining and not ended:
            self.should_exit = await self._idle()
        return self.should_exit or ended

    async def _idle(self) -> bool:
        for _ in range(_QUIET_CHECKS):
            if self._judging.busy:
                return False
            await asyncio.sleep(_IDLE_CHECK)
        return True


@contextmanager
def judging_server(config: ServerConfig) -> Iterator[JudgingServer]:
    """Load the checkpoint and open the store of videos, for the length of the block.

    Raises:
        CheckpointError: the checkpoint can't be used.
        EngineError: the engine can't run here, or the store can't be opened.
    """
    with ExitStack() as stack:
        load = partial(Served.load, engine=config.engine)
        served = load(config.checkpoint)
        folder = config.store or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="descore-serve-")))
        try:
            store = VideoStore(folder, config.store_bytes, config.file_bytes)
        except OSError as error:
            raise EngineError(f"the store of videos can't be opened: {error.strerror}; choose another --store") from error
        yield JudgingServer(config, served, load, store)


def uvicorn_config(judging: JudgingServer) -> uvicorn.Config:
    """Return uvicorn's settings for a server."""
    return uvicorn.Config(
        create_app(judging),
        host=judging.config.host,
        port=judging.config.port,
        log_level="warning",
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=30,
        h11_max_incomplete_event_size=64 << 10,
    )


def serve(config: ServerConfig, end_with_input: bool = False) -> int:
    """Serve until a signal; returns the exit code.

    Args:
        end_with_input: end when standard input does, so with the program that started it.

    Raises:
        As `judging_server`; OSError: the address is taken.
    """
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    warm_up()
    if end_with_input:
        threading.Thread(target=_end_with_input, daemon=True).start()
    with judging_server(config) as judging:
        server = DrainingServer(uvicorn_config(judging), judging)
        with _bound(config) as listening:
            judge = judging.checkpoints.now.judge
            host, port = listening.getsockname()[:2]
            shown = f"[{host}]" if ":" in host else host
            print(f"{judge.name} ({judge.engine.label}){ANSWERS_AT}http://{shown}:{port}", flush=True)
            server.run([listening])
    return 0


def _end_with_input() -> None:
    """Wait for the end of standard input, then end this process whatever it does."""
    while os.read(0, 1 << 16):  # not by sys.stdin, whose lock a thread may not hold when the interpreter ends
        pass
    os.kill(os.getpid(), signal.SIGTERM)  # it drains, whose clients are gone
    time.sleep(_DRAIN_SECONDS)
    os.kill(os.getpid(), signal.SIGTERM)


@contextmanager
def _bound(config: ServerConfig) -> Iterator[socket.socket]:
    """Bind the address before anything is said about it; uvicorn would end the process where it can't."""
    family, kind, protocol, _, address = socket.getaddrinfo(config.host, config.port, type=socket.SOCK_STREAM)[0]
    with socket.socket(family, kind, protocol) as bound:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind(address)
        yield bound
