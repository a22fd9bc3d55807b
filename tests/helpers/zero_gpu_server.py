"""ZeroGPU's scheduler in this process, as the package `spaces` asks it: for a GPU, for leave to use it, and back with it.

with zero_gpu_server() as scheduler:
    environment = scheduler.environment      # for a program that shall take itself for a ZeroGPU Space
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from tests.helpers.http_server import http_server

if TYPE_CHECKING:
    from starlette.requests import Request


@dataclass
class Scheduler:
    """What was asked, and whether there is a GPU."""

    url: str = ""
    has_gpu: bool = True
    started: int = 0  # apps that said that they are there
    seconds: list[int] = field(default_factory=list)  # that each call asked for
    allowed: list[int] = field(default_factory=list)  # processes
    released: list[bool] = field(default_factory=list)  # whether the call failed
    _tokens: Iterator[int] = field(default_factory=itertools.count)

    @property
    def environment(self) -> dict[str, str]:
        """Settings by which `spaces` takes the machine for a ZeroGPU Space."""
        return {"SPACES_ZERO_GPU": "true", "SPACES_ZERO_DEVICE_API_URL": self.url}

    def routes(self) -> list[Route]:
        """The addresses that `spaces` asks."""
        names = {
            "/startup-report": self._start,
            "/schedule": self._schedule,
            "/allow": self._allow,
            "/release": self._release,
        }
        return [Route(path, endpoint, methods=["POST"]) for path, endpoint in names.items()]

    async def _start(self, _request: Request) -> Response:
        self.started += 1
        return Response()

    async def _schedule(self, request: Request) -> Response:
        self.seconds.append(int(request.query_params["durationSeconds"]))
        if not self.has_gpu:
            return Response(status_code=503)
        gpu = {"idle": True, "nvidiaIndex": 0, "nvidiaUUID": "0", "allowToken": str(next(self._tokens))}
        return JSONResponse(gpu)

    async def _allow(self, request: Request) -> Response:
        self.allowed.append(int(request.query_params["pid"]))
        return Response()

    async def _release(self, request: Request) -> Response:
        self.released.append(request.query_params["fail"] == "true")
        return Response()


@contextmanager
def zero_gpu_server() -> Iterator[Scheduler]:
    """Serve a scheduler at a free port."""
    scheduler = Scheduler()
    with http_server(scheduler.routes()) as scheduler.url:
        yield scheduler
