"""Errors of checkpoints, prompts, rewards. Those of videos are in `descore.video.types`, of answers in `descore.answer`."""

from __future__ import annotations


class CheckpointError(ValueError):
    """A checkpoint, backbone, adapter or scoring module that can't be used; the message says why and what to do."""


class NotEnoughMemoryError(CheckpointError):
    """The device has too little free memory for the weights."""


class PromptError(ValueError):
    """A prompt that is empty, too long or holds characters that it can't hold; the message gives limit and length."""


class RewardError(RuntimeError):
    """No reward can be given; the message says why."""


class EngineError(RuntimeError):
    """An engine that can't be started or did not answer; the message says why and what to do."""
