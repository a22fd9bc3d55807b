"""One running `descore serve` as its clients see it: its checkpoint, its videos, its streams of events."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx

from descore import video as videos
from descore.engines.server_wire import read_events
from descore.errors import CheckpointError, EngineError, PromptError, RewardError
from descore.video import VideoError

_PIECE = 1 << 20  # bytes of an upload
# A server speaks several times a second while it judges; loading a checkpoint takes as long as it takes.
_WAIT = httpx.Timeout(30.0, connect=5.0)
_LOADING = httpx.Timeout(1800.0, connect=5.0)
_CHECKING = httpx.Timeout(5.0)
_MOST_CONNECTIONS = 200
_PROXY_ERRORS = (502, 503, 504)


class ServerDownError(EngineError):
    """A server that does not answer, or takes no more; another one may."""


class ServerBusyError(EngineError):
    """A server whose queue is full.

    Attributes:
        seconds: after which it asks to be tried again.
    """

    def __init__(self, message: str, seconds: float) -> None:
        super().__init__(message)
        self.seconds = seconds


class VideoNotThereError(EngineError):
    """A server has removed videos that a request is about."""


class CheckpointChangedError(EngineError):
    """Another checkpoint answers by now than the one that a request is for."""


class JudgingClient:
    """One server. Threads may share it.

    Attributes:
        name: host and port, as people are told of it.
        outstanding: requests that it has not answered yet.
    """

    def __init__(self, url: str, token: str | None = None) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise EngineError(f"{url!r} is no address of a server: write it as http://gpu-box:8000")
        self.name, self.url = parts.netloc.rpartition("@")[2], url.rstrip("/")
        headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        limits = httpx.Limits(max_connections=_MOST_CONNECTIONS, max_keepalive_connections=8)
        # No proxy and no .netrc of the environment: the token goes to this server alone.
        self._http = httpx.Client(base_url=self.url, headers=headers, timeout=_WAIT, limits=limits, trust_env=False)
        self._lock = threading.Lock()
        self._there: set[str] = set()
        self.outstanding = 0

    def checkpoint(self) -> dict[str, Any]:
        """Return what the server says of its checkpoint, its engine and its limits.

        Raises:
            ServerDownError: it does not answer.
            EngineError: it does not take the token, or is no judging server.
        """
        answer = self._json("GET", "/v1/checkpoint", timeout=_CHECKING)
        if not isinstance(answer.get("manifest"), dict) or not isinstance(answer.get("fingerprint"), str):
            raise EngineError(f"{self.name} is no `descore serve`: check its address")
        return answer

    def load(self, checkpoint: str, fingerprint: str | None = None) -> dict[str, Any]:
        """Have another checkpoint loaded, and let it answer; returns what `checkpoint` would.

        Raises:
            CheckpointError: the server can't use it; the one before goes on.
            ServerDownError, EngineError: as `checkpoint`.
        """
        body = {"checkpoint": checkpoint, "fingerprint": fingerprint}
        return self._json("POST", "/v1/checkpoint", json=body, timeout=_LOADING)

    def ensure(self, video: str, path: Path) -> None:
        """Send a video unless it is there.

        Args:
            video: SHA-256 of the file.

        Raises:
            VideoError: the server can't use it.
            ServerDownError, ServerBusyError, EngineError: it could not be sent.
        """
        if video in self._there:
            return
        with self._asked(path):
            if self._http.head(f"/v1/videos/{video}").status_code != httpx.codes.OK:
                with path.open("rb") as file:
                    pieces = iter(lambda: file.read(_PIECE), b"")
                    headers = {"Content-Type": "application/octet-stream", "Content-Length": str(path.stat().st_size)}
                    sent = self._http.post("/v1/videos", params={"sha256": video}, content=pieces, headers=headers)
                self._refuse(sent, path)
        self._there.add(video)

    def count(self, videos: Sequence[str]) -> int:
        """Return how many of the videos, named by their hashes, are known to be there."""
        return sum(video in self._there for video in videos)

    def forget_videos(self) -> None:
        """Ask again for each video whether it is there."""
        self._there.clear()

    @contextmanager
    def judging(self, body: dict[str, Any]) -> Iterator[Iterator[tuple[str, dict[str, Any]] | None]]:
        """Open the stream of events of a judgement; leaving the block ends the work on the server.

        Raises:
            ServerDownError, ServerBusyError, VideoNotThereError, CheckpointChangedError, EngineError, PromptError,
                RewardError: the server does not judge this.
        """
        with self._asked(), self._http.stream("POST", "/v1/judge", json=body) as answer:
            if answer.status_code != httpx.codes.OK:
                answer.read()
                self._refuse(answer)
            yield read_events(answer.iter_lines())

    def raise_error(self, error: dict[str, Any], path: Path | None = None, seconds: float = 1.0) -> None:
        """Raise the typed error that a refusal of the server stands for."""
        kind, message = str(error.get("kind")), str(error.get("message"))
        if kind == "video":
            found = getattr(videos, str(error.get("reason")), VideoError)
            refusal = found if isinstance(found, type) and issubclass(found, VideoError) else VideoError
            raise refusal(path or "video", message)
        same: dict[str, type[Exception]] = {"prompt": PromptError, "reward": RewardError}
        if kind in same:
            raise same[kind](message)
        said = f"{self.name}: {message}"
        if kind == "busy":
            raise ServerBusyError(said, seconds)
        others: dict[str, type[Exception]] = {
            "draining": ServerDownError,
            "video_missing": VideoNotThereError,
            "checkpoint_changed": CheckpointChangedError,
            "checkpoint": CheckpointError,
            "memory": CheckpointError,
            "loading": CheckpointError,
        }
        raise others.get(kind, EngineError)(said)

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def _json(self, method: str, path: str, **options: Any) -> dict[str, Any]:
        with self._asked():
            answer = self._http.request(method, path, **options)
            self._refuse(answer)
            try:
                return dict(answer.json())
            except ValueError as error:
                raise EngineError(f"{self.name} is no `descore serve`: check its address") from error

    def _refuse(self, answer: httpx.Response, path: Path | None = None) -> None:
        if answer.status_code < httpx.codes.BAD_REQUEST:
            return
        try:
            error = answer.json()["error"]
            seconds = float(answer.headers.get("Retry-After", "1"))
        except (ValueError, KeyError, TypeError):  # of a proxy before it, say
            down = answer.status_code in (
                httpx.codes.BAD_GATEWAY,
                httpx.codes.SERVICE_UNAVAILABLE,
                httpx.codes.GATEWAY_TIMEOUT,
            )
            kind = ServerDownError if down else EngineError
            raise kind(f"{self.name} answers {answer.status_code}: check its address and that it runs") from None
        self.raise_error(error, path, seconds)

    @contextmanager
    def _asked(self, path: Path | None = None) -> Iterator[None]:
        """Count a request, and name the server where the connection to it fails."""
        with self._lock:
            self.outstanding += 1
        try:
            yield
        except httpx.TransportError as error:
            self.forget_videos()  # it may come back with an empty store
            raise ServerDownError(f"{self.name} does not answer ({_reason(error)}): see that it runs") from error
        except (httpx.HTTPError, httpx.StreamError, json.JSONDecodeError) as error:
            raise EngineError(f"{self.name} gives an answer that can't be read: check its address") from error
        except OSError as error:
            raise videos.VideoMissingError(path or "video", "it can't be read any more; check the path") from error
        finally:
            with self._lock:
                self.outstanding -= 1


def _reason(error: httpx.TransportError) -> str:
    if isinstance(error, httpx.TimeoutException):
        return "no answer in time"
    return "connection refused" if isinstance(error, httpx.ConnectError) else "connection lost"
