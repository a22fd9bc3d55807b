"""The addresses of `descore serve`.

    HEAD, GET /v1/videos/{sha256}   whether a video is here
    POST /v1/videos?sha256=         send one: its bytes as they are
    POST /v1/judge                  server-sent events: texts as they come, judgements, the verdict
    POST /v1/score                  many rows, each with its own result or error
    GET  /v1/checkpoint             which checkpoint and engine answer, and the limits
    POST /v1/checkpoint             load another one beside it, and swap
    GET  /health, /metrics, /openapi.json

Refusals are `{"error": {"kind", "message"}}`; `errors.py` has the kinds.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import anyio
from anyio.to_thread import run_sync
from fastapi import FastAPI, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from descore.server.config import ServerConfig
from descore.server.doors import Doors
from descore.server.errors import ServerError, busy, server_error
from descore.server.job_queue import JobQueue
from descore.server.judging import Judging, JudgingRequest
from descore.server.memory import RESULT_BYTES, BoundedCache
from descore.server.metrics import Metrics
from descore.server.schemas import (
    CheckpointAnswer,
    ErrorAnswer,
    HealthAnswer,
    JudgeRequest,
    ScoreAnswer,
    ScoreRequest,
    ScoreResult,
    SwapRequest,
    VideoAnswer,
)
from descore.server.served import Checkpoints, Served
from descore.server.streaming import EventStream, result_of
from descore.server.video_store import VideoStore, check_hash, too_large

log = logging.getLogger(__name__)
_EVENT = 'event: thought\ndata: {"index": 0, "text": "The"}\n\n'
_VERSION = "1"  # of the addresses and what they take
_CLIPS = 512  # decoded videos in memory, beside the bound on their bytes
_PIECE = 1 << 20  # bytes of an upload that are written at a time
_REFUSALS: dict[int | str, dict[str, Any]] = {
    status: {"model": ErrorAnswer, "description": text}
    for status, text in {
        401: "no token, or another one",
        413: "larger than the limits allow",
        422: "the prompt, a video or another value can't be used",
        429: "the queue is full; Retry-After says when to try again",
        503: "the server is about to end and takes no more",
    }.items()
}

_PLAIN = {
    404: ("not_found", "there is nothing here; /openapi.json has the addresses"),
    405: ("not_found", "this address takes other methods; /openapi.json has them"),
}


class JudgingServer:
    """The parts of a server, and what its addresses do.

    Attributes:
        draining: it finishes what it began and takes no more.
    """

    def __init__(self, config: ServerConfig, served: Served, load: Callable[[str], Served], store: VideoStore) -> None:
        self.config, self.store = config, store
        self.checkpoints = Checkpoints(served, load)
        self.draining = False
        self._uploads = 0
        self._results: BoundedCache[Any] = BoundedCache(config.cached_results, RESULT_BYTES)
        self._clips: BoundedCache[Any] = BoundedCache(_CLIPS, config.clip_bytes)
        self.metrics = Metrics(lambda: self.queue.counts()[0], lambda: self.queue.counts()[1], lambda: store.bytes)
        self.queue = JobQueue(config.at_once or served.at_once, config.waiting, self.metrics.waited.observe)

    @property
    def busy(self) -> int:
        """How many requests are being judged, wait or send a video."""
        return sum(self.queue.counts()) + self._uploads

    # ---- videos ----------------------------------------------------------------------------------------------------

    async def upload(self, request: Request, expected: str | None) -> VideoAnswer:
        """Take a video in, once it is whole and can be judged."""
        self._refuse_while_draining()
        if expected is not None and (size := self.store.size(check_hash(expected))) is not None:
            return VideoAnswer(video=expected, bytes=size)
        if self._uploads >= self.config.uploads:
            raise busy(f"{self._uploads} videos arrive already; try again in a second", 1)
        self._uploads += 1
        try:
            return await self._receive(request, expected)
        finally:
            self._uploads -= 1

    async def _receive(self, request: Request, expected: str | None) -> VideoAnswer:
        length = request.headers.get("content-length", "")
        if length.isdigit() and int(length) > self.config.file_bytes:
            raise too_large(self.config.file_bytes)
        with self.store.upload() as upload:
            pending = bytearray()
            pieces = request.stream()
            while True:
                try:
                    with anyio.fail_after(self.config.stall_seconds):
                        piece = await anext(pieces, None)
                except TimeoutError:
                    raise ServerError(408, "stalled", "no byte of the video came for a while; send it again") from None
                pending += piece or b""
                if pending and (piece is None or len(pending) >= _PIECE):
                    await run_sync(upload.write, bytes(pending))
                    pending.clear()
                if piece is None:
                    break
            video = await run_sync(upload.finish, expected)
            await run_sync(partial(self._check_video, video, upload.path))
            upload.keep(video)
            self.metrics.uploaded.inc(upload.size)
            return VideoAnswer(video=video, bytes=upload.size)

    def _check_video(self, video: str, path: Path) -> None:
        """Read a video as it is read for judging, so that one that can't be is refused here.

        Raises:
            VideoError: it can't be used.
        """
        with self.checkpoints.in_use() as served:
            self._judging(served).clip(video, path)

    def find(self, video: str) -> VideoAnswer:
        """Return a video that is here, as a use of it."""
        size = self.store.size(check_hash(video))
        if size is None:
            raise ServerError(404, "video_missing", "this video is not here: send it to /v1/videos", videos=[video])
        return VideoAnswer(video=video, bytes=size)

    # ---- judging ---------------------------------------------------------------------------------------------------

    async def judge(self, body: JudgeRequest) -> EventStream:
        """Begin a stream of events; what can be refused without the model is refused before it."""
        if not isinstance(body.prompt, str) and len(body.prompt) != len(body.videos):
            message = f"{len(body.videos)} videos need one prompt, or {len(body.videos)}, not {len(body.prompt)}"
            raise ServerError(422, "bad_request", message)
        rows = body.rows()
        served = self._admit(rows, body.fingerprint)
        try:
            await run_sync(self._check_rows, served, rows)
            judging = self._judging(served)

            def events(cancelled: Any) -> Any:
                with self.metrics.judged.labels(rows.mode).time():
                    yield from judging.stream(rows, cancelled)

            return EventStream(self.queue, events, body.thoughts, partial(self.checkpoints.give_back, served))
        except BaseException:
            self.checkpoints.give_back(served)
            raise

    def _check_rows(self, served: Served, rows: JudgingRequest) -> None:
        with self.store.hold(rows.videos):
            for prompt in dict.fromkeys(rows.prompts):
                served.judge.check_prompt(prompt)

    async def score(self, body: ScoreRequest, request: Request) -> ScoreAnswer | None:
        """Judge rows; None for a client that left."""
        rows = body.rows()
        served = self._admit(rows, body.fingerprint)
        judging = self._judging(served)

        def work(cancelled: Any) -> Any:
            with self.metrics.judged.labels(rows.mode).time():
                return judging.score(rows, cancelled)

        try:
            end = partial(self.checkpoints.give_back, served)
            results = await result_of(self.queue, request, work, end)
        except ServerError as error:
            if error.kind == "busy":
                self.checkpoints.give_back(served)
            raise
        if results is None:
            return None
        answers = [ScoreResult.of(row) for row in results]
        return ScoreAnswer(checkpoint=served.judge.name, fingerprint=served.fingerprint, results=answers)

    def _admit(self, rows: JudgingRequest, fingerprint: str | None) -> Served:
        """Return the checkpoint for a request within the limits; it has to be given back."""
        self._refuse_while_draining()
        if len(rows.videos) > self.config.rows:
            raise ServerError(
                413,
                "too_large",
                f"{len(rows.videos):,} rows; at most {self.config.rows:,} go into a request: send fewer",
            )
        if rows.mode == "k" and rows.k > self.config.thoughts:
            raise ServerError(422, "bad_request", f"k is {rows.k}; at most {self.config.thoughts} thoughts are allowed")
        for video in rows.videos:
            check_hash(video)
        served = self.checkpoints.take(fingerprint)
        if rows.mode == "quick" and not served.judge.has_reward:
            self.checkpoints.give_back(served)
            raise ServerError(422, "reward", f"{served.judge.name} has no scoring module: choose mode think")
        return served

    def _judging(self, served: Served) -> Judging:
        return Judging(served, self.store, self._results, self._clips, self.metrics)

    # ---- the checkpoint and the server -----------------------------------------------------------------------------

    async def swap(self, body: SwapRequest) -> CheckpointAnswer:
        """Load another checkpoint and swap."""
        self._refuse_while_draining()
        if self.config.token is None:
            raise ServerError(403, "forbidden", "nobody swaps checkpoints without a token: start with --token-file")
        served = await run_sync(self.checkpoints.swap, body.checkpoint, body.fingerprint)
        return CheckpointAnswer.of(served, self.config)

    def _refuse_while_draining(self) -> None:
        if self.draining:
            raise ServerError(503, "draining", "this server is about to end and takes no more", {"Retry-After": "10"})

    def close(self) -> None:
        """Take no more, and free the engine."""
        self.queue.close()
        self.checkpoints.now.judge.close()


def create_app(server: JudgingServer) -> FastAPI:
    """Build the app of a server."""

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        yield
        server.close()

    app = FastAPI(
        title="DeScore",
        version=_VERSION,
        summary="Judges videos: a thought, then a reward.",
        lifespan=lifespan,
        docs_url=None,  # both pages run scripts of other machines
        redoc_url=None,
    )
    app.add_exception_handler(ServerError, _refuse)
    app.add_exception_handler(ValueError, _refuse)
    app.add_exception_handler(RuntimeError, _refuse)
    app.add_exception_handler(RequestValidationError, _refuse_values)
    app.add_exception_handler(HTTPException, _refuse_address)
    app.add_exception_handler(Exception, _refuse)
    _add_judging(app, server)
    _add_state(app, server)
    app.add_middleware(Doors, config=server.config, metrics=server.metrics)
    return app


def _add_judging(app: FastAPI, server: JudgingServer) -> None:
    body = {"requestBody": {"required": True, "content": {"application/octet-stream": {"schema": {"type": "string"}}}}}

    @app.post("/v1/videos", responses=_REFUSALS, openapi_extra=body)
    async def send_video(request: Request, sha256: Annotated[str | None, Query()] = None) -> VideoAnswer:
        """Send a video: its bytes are the body. With `sha256` one that is here already is not read again."""
        return await server.upload(request, sha256)

    @app.get("/v1/videos/{video}", responses=_REFUSALS)
    async def find_video(video: str) -> VideoAnswer:
        """Ask whether a video is here."""
        return server.find(video)

    @app.head("/v1/videos/{video}", include_in_schema=False)
    async def has_video(video: str) -> Response:
        """Ask whether a video is here, without a body."""
        server.find(video)
        return Response()

    stream: dict[int | str, dict[str, Any]] = {200: {"content": {"text/event-stream": {"example": _EVENT}}}}

    @app.post("/v1/judge", responses={**_REFUSALS, **stream}, response_class=Response)
    async def judge(body: JudgeRequest) -> Response:
        """Judge videos together; events: thought, judged, verdict, with `thoughts` also finished, and error at last."""
        return await server.judge(body)

    @app.post("/v1/score", responses=_REFUSALS, response_model=ScoreAnswer)
    async def score(body: ScoreRequest, request: Request) -> Any:
        """Judge rows, each with a result or an error of its own."""
        answer = await server.score(body, request)
        return Response(status_code=499) if answer is None else answer


def _add_state(app: FastAPI, server: JudgingServer) -> None:
    @app.get("/health")
    async def health() -> HealthAnswer:
        """Say whether the server takes requests; no token is needed."""
        server._refuse_while_draining()
        return HealthAnswer(status="ok")

    @app.get("/v1/checkpoint", responses=_REFUSALS)
    async def checkpoint() -> CheckpointAnswer:
        """Return the checkpoint and the engine that answer, and the limits."""
        return CheckpointAnswer.of(server.checkpoints.now, server.config)

    @app.post("/v1/checkpoint", responses=_REFUSALS)
    async def swap(body: SwapRequest) -> CheckpointAnswer:
        """Load another checkpoint beside the one that answers, then let it answer; the one before ends what it began."""
        return await server.swap(body)

    @app.get("/metrics", response_class=Response)
    async def metrics() -> Response:
        """Return the figures that Prometheus reads."""
        return Response(server.metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")


def _refuse(_request: Request, error: Exception) -> Response:
    refusal = server_error(error)
    if refusal.kind == "internal":
        log.error("a request failed", exc_info=error)
    return JSONResponse({"error": refusal.body()}, refusal.status, refusal.headers)


def _refuse_values(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    place = ".".join(str(part) for part in first["loc"] if part != "body") or "the body"
    return _refuse(request, ServerError(422, "bad_request", f"{place}: {first['msg']}; /openapi.json describes it"))


def _refuse_address(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    if isinstance(error.__cause__, ServerError):  # raised while FastAPI read the body
        return _refuse(request, error.__cause__)
    kind, message = _PLAIN.get(error.status_code, ("bad_request", "this request can't be read; /openapi.json describes it"))
    return _refuse(request, ServerError(error.status_code, kind, message))
