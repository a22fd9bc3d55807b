"""Errors whose message is for the person who asked; any other one is a fault of the app, which goes into its log."""

from __future__ import annotations

from app.serving.judging_queue import QueueFullError
from app.serving.serving import ModelAsideError
from app.web.auth import AuthError
from app.web.form_data import FormError
from descore.errors import CheckpointError, RewardError
from descore.video import VideoError
from storage import NotInStoreError, StorageError

PLAIN_ERRORS = (
    AuthError,
    FormError,
    StorageError,
    VideoError,
    RewardError,
    CheckpointError,
    ModelAsideError,
    QueueFullError,
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
