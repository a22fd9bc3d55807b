"""Errors whose message is for the person who asked; any other one is a fault of the app, which goes into its log."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar

import gradio as gr
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from app.serving.judging_queue import QueueFullError
from app.serving.serving import ModelAsideError
from app.serving.zero_gpu import GpuUnavailableError
from app.web.auth import AuthError
from app.web.form_data import FormError
from app.web.security_headers import security_headers
from descore.errors import CheckpointError, EngineError, RewardError
from descore.video import VideoError
from storage import NotInStoreError, StorageError

P = ParamSpec("P")
T = TypeVar("T")

PLAIN_ERRORS = (
    AuthError,
    FormError,
    StorageError,
    VideoError,
    RewardError,
    CheckpointError,
    EngineError,
    ModelAsideError,
    QueueFullError,
    GpuUnavailableError,
)
# descore raises a ValueError for a prompt, a mode or a number of thoughts that it can't use; elsewhere one is our fault.
JUDGING_ERRORS = (*PLAIN_ERRORS, ValueError)


def judging_error_text(error: Exception) -> str:
    """Say why a pair could not be judged, without file names: they may tell which generator made a video."""
    if isinstance(error, VideoError):
        return f"A video can't be used: {error.reason}"
    if isinstance(error, NotInStoreError):
        return "A video of this pair is not here any more. Choose or upload it again."
    return str(error)


def plainly(handler: Callable[P, T]) -> Callable[P, T]:
    """Wrap a handler of Gradio, so that an error whose message is for the person reaches them, and no other does."""

    @wraps(handler)
    def answer(*args: P.args, **keywords: P.kwargs) -> T:
        try:
            return handler(*args, **keywords)
        except JUDGING_ERRORS as error:
            raise gr.Error(judging_error_text(error), print_exception=False) from error

    return answer


async def refuse_plainly(_request: Request, error: Exception) -> Response:
    """Answer a request whose handler failed: with the sentence of the store, or only that it failed."""
    if isinstance(error, StorageError):
        return PlainTextResponse(str(error), status_code=503, headers=security_headers())
    return PlainTextResponse("This did not work. The app's log says why.", status_code=500, headers=security_headers())
