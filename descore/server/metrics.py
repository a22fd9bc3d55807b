"""Figures of a server for Prometheus, in a registry of their own, so that servers of one process don't mix."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

_SECONDS = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0)
_RATE_SECONDS = 60.0


class Metrics:
    """The figures of one server."""

    def __init__(self, running: Callable[[], int], waiting: Callable[[], int], store_bytes: Callable[[], int]) -> None:
        """Make them; the functions are asked whenever somebody reads the figures."""
        self.registry = CollectorRegistry()
        self._tokens: deque[tuple[float, int]] = deque()
        self._lock = threading.Lock()
        self._gauge("descore_queue_running", "requests that are being judged", running)
        self._gauge("descore_queue_waiting", "requests that wait for their turn", waiting)
        self._gauge("descore_store_bytes", "bytes of the uploaded videos on disk", store_bytes)
        self._gauge("descore_tokens_per_second", "sampled tokens a second over the last minute", self.tokens_per_second)
        self.requests = self._counter("descore_requests", "requests, by address and status", "path", "status")
        self.rows = self._counter("descore_rows", "judged videos, by mode and outcome", "mode", "outcome")
        self.tokens = self._counter("descore_tokens", "sampled tokens")
        self.cache = self._counter("descore_cache", "looks into the cache of results", "result")
        self.uploaded = self._counter("descore_uploaded_bytes", "bytes of videos that were taken in")
        self.waited = Histogram(
            "descore_wait_seconds", "seconds that a request waited", buckets=_SECONDS, registry=self.registry
        )
        self.judged = Histogram(
            "descore_judging_seconds", "seconds from turn to end", ["mode"], buckets=_SECONDS, registry=self.registry
        )

    def count_tokens(self, tokens: int) -> None:
        """Count sampled tokens."""
        self.tokens.inc(tokens)
        with self._lock:
            self._tokens.append((time.monotonic(), tokens))
            self._forget()

    def tokens_per_second(self) -> float:
        """Return the mean over the last minute."""
        with self._lock:
            self._forget()
            return sum(tokens for _, tokens in self._tokens) / _RATE_SECONDS

    def text(self) -> bytes:
        """Return all figures as Prometheus reads them."""
        return generate_latest(self.registry)

    def _forget(self) -> None:
        while self._tokens and self._tokens[0][0] < time.monotonic() - _RATE_SECONDS:
            self._tokens.popleft()

    def _gauge(self, name: str, text: str, value: Callable[[], float]) -> None:
        Gauge(name, text, registry=self.registry).set_function(value)

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(name, text, labels, registry=self.registry)
