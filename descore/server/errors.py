"""Errors of the server as JSON: a kind that programs read and one sentence for people, without paths of the server.

{"error": {"kind": "busy", "message": "64 requests wait already; try again in 3 seconds"}}
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from descore.errors import CheckpointError, EngineError, NotEnoughMemoryError, PromptError, RewardError
from descore.video import VideoError

_ABSOLUTE = re.compile(r"(?<![\w:/.])(?:~|/[^\s/'\",;:()]+)(?:/[^\s/'\",;:()]+)*/([^\s/'\",;:()]+)")


class ServerError(Exception):
    """A refusal.

    Attributes:
        status: of HTTP.
        kind: what programs tell it by.
        message: one sentence for people.
        details: more for programs, beside kind and message.
        headers: of the answer.
    """

    def __init__(
        self, status: int, kind: str, message: str, headers: Mapping[str, str] | None = None, **details: Any
    ) -> None:
        super().__init__(message)
        self.status, self.kind, self.message = status, kind, message
        self.headers, self.details = dict(headers or {}), details

    def body(self) -> dict[str, Any]:
        """Return the error as the value of "error"."""
        return {"kind": self.kind, "message": self.message, **self.details}


def busy(message: str, seconds: int) -> ServerError:
    """Make the refusal of a server that has no room now, with when to try again."""
    return ServerError(429, "busy", message, {"Retry-After": str(seconds)}, retry_after=seconds)


def missing_videos(videos: Sequence[str]) -> ServerError:
    """Make the refusal of a request about videos that the store does not have."""
    what = "this video is" if len(videos) == 1 else f"{len(videos)} videos are"
    return ServerError(404, "video_missing", f"{what} not here: send it to /v1/videos first", videos=list(videos))


def server_error(error: BaseException) -> ServerError:
    """Return the refusal that tells a client about an error; only typed errors bring their own sentence."""
    if isinstance(error, ServerError):
        return error
    if isinstance(error, VideoError):
        return ServerError(422, "video", without_paths(error.reason), reason=type(error).__name__)
    for kind, status, name in (
        (PromptError, 422, "prompt"),
        (NotEnoughMemoryError, 422, "memory"),
        (CheckpointError, 422, "checkpoint"),
        (RewardError, 422, "reward"),
        (EngineError, 500, "engine"),
    ):
        if isinstance(error, kind):
            return ServerError(status, name, without_paths(str(error)))
    return ServerError(500, "internal", "the server failed at this request; its log says why")


def without_paths(text: str) -> str:
    """Return a sentence in which absolute paths are cut down to their last name."""
    return _ABSOLUTE.sub(r"\1", " ".join(text.split()))
