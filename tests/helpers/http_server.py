"""A small HTTP server in this process, for stand-ins of those that a program asks: the Hub, ZeroGPU's scheduler."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import uvicorn
from starlette.applications import Starlette

from tests.helpers.waiting import wait_until

if TYPE_CHECKING:
    from starlette.routing import BaseRoute


@contextmanager
def http_server(routes: Sequence[BaseRoute]) -> Iterator[str]:
    """Serve routes at a free port until the block ends; gives the address, without a slash at its end."""
    # Idle connections are kept: one that is closed in the moment of the client's next request is an error of its own.
    application = Starlette(routes=list(routes))
    server = uvicorn.Server(uvicorn.Config(application, port=0, log_level="warning", timeout_keep_alive=600))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    wait_until(lambda: server.started, "the server")
    try:
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join()
