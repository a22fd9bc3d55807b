"""Errors of checkpoints and rewards. Those of videos are in `descore.video.types`, of answers in `descore.answer`."""

from __future__ import annotations


class CheckpointError(ValueError):
    """A checkpoint, backbone, adapter or scoring module that can't be used; the message says why and what to do."""


class NotEnoughMemoryError(CheckpointError):
    """The device has too little free memory for the weights."""


class RewardError(RuntimeError):
    """No reward can be given; the message says why."""
