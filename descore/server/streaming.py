"""Between the threads that judge and the loop that speaks to clients: streams of events, and clients that leave."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any, TypeVar

from starlette.requests import Request
from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from descore.engines.server_wire import HEARTBEAT, HEARTBEAT_SECONDS, event_of, event_text, finished_to_json
from descore.judgement import Event
from descore.server.errors import server_error
from descore.server.job_queue import Job, JobQueue
from descore.server.judging import Finished

log = logging.getLogger(__name__)
Result = TypeVar("Result")
Events = Callable[[threading.Event], Iterator["Event | Finished"]]


class EventStream(StreamingResponse):
    """Server-sent events of a judgement; a client that leaves ends the work."""

    def __init__(self, queue: JobQueue, events: Events, thoughts: bool, at_end: Callable[[], None]) -> None:
        """Take a place in the queue.

        Args:
            events: yields the events of the work; it is called in a thread.
            thoughts: send `Finished` too.
            at_end: called once, when the work has ended or never will begin.

        Raises:
            ServerError: the queue is full; `at_end` is not called then.
        """
        loop, texts = asyncio.get_running_loop(), asyncio.Queue[str | None]()

        def put(text: str | None) -> None:
            loop.call_soon_threadsafe(texts.put_nowait, text)

        def work(cancelled: threading.Event) -> None:
            try:
                for event in events(cancelled):
                    if not isinstance(event, Finished):
                        put(event_text(*event_of(event)))
                    elif thoughts:
                        put(event_text("finished", finished_to_json(event.rows)))
            except Exception as error:
                put(event_text("error", {"error": _told(error)}))
            put(None)

        self._job = queue.submit(work)
        self._job.future.add_done_callback(lambda _: at_end())
        headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
        super().__init__(self._lines(texts), media_type="text/event-stream", headers=headers)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the events until the end, or until the client leaves."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._job.cancel()

    @staticmethod
    async def _lines(texts: asyncio.Queue[str | None]) -> AsyncIterator[str]:
        yield HEARTBEAT  # the head of the answer goes out at once
        while True:
            try:
                text = await asyncio.wait_for(texts.get(), HEARTBEAT_SECONDS)
            except asyncio.TimeoutError:
                text = HEARTBEAT
            if text is None:
                return
            yield text


async def result_of(
    queue: JobQueue, request: Request, work: Callable[[threading.Event], Result], at_end: Callable[[], None]
) -> Result | None:
    """Have work done in the queue and return its result; None for a client that left, whose work is ended.

    Raises:
        ServerError: the queue is full; `at_end` is not called then.
        Exception: whatever the work raises.
    """
    results: list[Result] = []
    job = queue.submit(lambda cancelled: results.append(work(cancelled)))
    job.future.add_done_callback(lambda _: at_end())
    done, leaving = asyncio.ensure_future(asyncio.wrap_future(job.future)), asyncio.ensure_future(_left(request))
    try:
        await asyncio.wait({done, leaving}, return_when=asyncio.FIRST_COMPLETED)
        if not done.done():
            return None
        done.result()
        return results[0] if results else None
    finally:
        _abandon(job, done, leaving)


def _abandon(job: Job, *tasks: asyncio.Future[Any]) -> None:
    job.cancel()
    for task in tasks:
        task.cancel()


async def _left(request: Request) -> None:
    """Return once the client has left."""
    while (await request.receive())["type"] != "http.disconnect":
        continue


def _told(error: Exception) -> dict[str, Any]:
    refusal = server_error(error)
    if refusal.status >= 500:
        log.error("a judgement failed", exc_info=error)
    return refusal.body()
