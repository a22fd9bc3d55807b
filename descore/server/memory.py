"""What is kept in memory: finished thoughts, so that no question is thought about twice, and decoded frames."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Hashable
from typing import Any, Generic, TypeVar

from descore.engines.engine import FinishedThought
from descore.judgement import Mode

Value = TypeVar("Value")
# (SHA-256 of the video, prompt, fingerprint of the checkpoint, mode, k, seed); k and seed count in mode k alone.
Question = tuple[str, str, str, Mode, int, int]
_TOKEN_BYTES = 32  # of a log-probability in a tuple of floats
_THOUGHT_BYTES = 400
RESULT_BYTES = 256 << 20


class BoundedCache(Generic[Value]):
    """The most recently used values, up to a number and a size. Threads may share it."""

    def __init__(self, most: int, most_bytes: int) -> None:
        self._most, self._most_bytes, self._bytes = most, most_bytes, 0
        self._values: OrderedDict[Hashable, tuple[Value, int]] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: Hashable) -> Value | None:
        """Return a value, which counts as a use of it; None for one that is not here."""
        with self._lock:
            entry = self._values.get(key)
            if entry is None:
                return None
            self._values.move_to_end(key)
            return entry[0]

    def put(self, key: Hashable, value: Value, size: int) -> None:
        """Keep a value of so many bytes; one that is larger than all may be together is not kept."""
        with self._lock:
            self._forget(key)
            if size > self._most_bytes:
                return
            self._values[key] = value, size
            self._bytes += size
            while len(self._values) > self._most or self._bytes > self._most_bytes:
                self._forget(next(iter(self._values)))

    def clear(self) -> None:
        """Forget everything."""
        with self._lock:
            self._values.clear()
            self._bytes = 0

    def __len__(self) -> int:
        return len(self._values)

    def _forget(self, key: Hashable) -> None:
        entry = self._values.pop(key, None)
        if entry is not None:
            self._bytes -= entry[1]


def question(video: str, prompt: str, fingerprint: str, mode: Mode, k: int, seed: int) -> Question:
    """Return the key of a result; the white space around a prompt is no part of it, as the model does not see it."""
    return (video, prompt.strip(), fingerprint, mode, *((k, seed) if mode == "k" else (0, 0)))


def size_of(thoughts: list[FinishedThought]) -> int:
    """Estimate the bytes of one row's thoughts."""
    return sum(_THOUGHT_BYTES + 4 * len(thought.text) + _TOKEN_BYTES * len(thought.log_probs) for thought in thoughts)


def clip_size(clip: Any) -> int:
    """Return the bytes of what an engine read of a video, which are those of its frames."""
    return int(getattr(getattr(clip, "frames", None), "nbytes", 0)) + _THOUGHT_BYTES
