"""A real `descore serve` in this process: uvicorn at a free port, in a thread of its own."""

from __future__ import annotations

import tempfile
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import uvicorn

from descore.server.app import JudgingServer
from descore.server.config import ServerConfig
from descore.server.run import DrainingServer, uvicorn_config
from descore.server.served import Served
from descore.server.video_store import VideoStore
from tests.helpers.waiting import wait_until

if TYPE_CHECKING:
    from descore.engines.engine import EngineName
    from descore.judge import DeScore


@dataclass(frozen=True)
class RunningServer:
    """A server that answers.

    Attributes:
        url: without a slash at its end.
        judging: its parts.
        uvicorn: the server itself, for signals.
        thread: that serves; it ends with the server.
    """

    url: str
    judging: JudgingServer
    uvicorn: uvicorn.Server
    thread: threading.Thread


@contextmanager
def judging_server(
    checkpoint: str | DeScore = "bundled", engine: EngineName = "transformers", port: int = 0, **options: Any
) -> Iterator[RunningServer]:
    """Serve a checkpoint, or a judge whose fingerprint is its name, until the block ends.

    options: of `ServerConfig`.
    """

    def load(name: str) -> Served:
        return Served.load(name, engine)

    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="descore-test-")))
        served = load(checkpoint) if isinstance(checkpoint, str) else Served(checkpoint, "tiny", checkpoint.name)
        config = ServerConfig(engine=engine, port=port, **{"store": folder / "videos", **options})
        store = VideoStore(config.store or folder, config.store_bytes, config.file_bytes)
        judging = JudgingServer(config, served, load, store)
        server = DrainingServer(uvicorn_config(judging), judging)
        thread = threading.Thread(target=server.run, daemon=True)
        thread.start()
        wait_until(lambda: server.started or not thread.is_alive(), "the server")
        assert server.started, "the address is taken"
        try:
            yield RunningServer(f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}", judging, server, thread)
        finally:
            server.should_exit = server.force_exit = True
            thread.join()
