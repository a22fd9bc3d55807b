"""A stop signal that a client gives by leaving.

Gradio marks an event as not alive when the stream of its answers is closed, and forgets it when it is cancelled. A generator
is closed then, but only when it next yields; a plain function goes on to its end. So work that takes long asks this signal
between its steps.
"""

from __future__ import annotations

import threading
from contextvars import ContextVar

from gradio.context import LocalContext

# Set once the client has left, by a door that is not Gradio's own.
CLIENT_LEFT: ContextVar[threading.Event | None] = ContextVar("client_left", default=None)


class ClientSignal(threading.Event):
    """An event that is also set once the client of the running Gradio event, or of the running tool, has left.

    It belongs to the event in whose function it is made. Outside of one, only `set` sets it.
    """

    def __init__(self) -> None:
        super().__init__()
        self._left = CLIENT_LEFT.get()
        blocks, self._event_id = LocalContext.blocks.get(None), LocalContext.event_id.get(None)
        self._queue = None if blocks is None or self._event_id is None else blocks._queue

    def is_set(self) -> bool:
        """Return whether somebody stopped the work, or nobody waits for it any more."""
        return super().is_set() or self._client_left()

    def _client_left(self) -> bool:
        if self._left is not None and self._left.is_set():
            return True
        if self._queue is None:
            return False
        event = self._queue.event_ids_to_events.get(self._event_id)
        return event is None or not event.alive
