"""The model core's typed errors. Videos have theirs in `descore.video.types`, answers in `descore.answer`."""

from __future__ import annotations


class CheckpointError(ValueError):
    """A checkpoint, backbone, adapter or scoring module that can't be used; the message says why and what to
    do."""


class NotEnoughMemoryError(CheckpointError):
    """The device has no room for the weights; what else is on it may have to leave first."""


class RewardError(RuntimeError):
    """No reward can be given; the message says why."""
