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


class TableError(ValueError):
    """A table that can't be read.

    Attributes:
        name: of the file.
        reason: what is wrong and what to do.
        line: of a text file, or the row of a Parquet, counted from 1; None where the whole file is meant.
        column: as the table has it; None where no single one is meant.
    """

    def __init__(self, name: str, reason: str, line: int | None = None, column: str | None = None) -> None:
        place = name + (f", line {line}" if line is not None else "") + (f", column {column}" if column is not None else "")
        super().__init__(f"{place}: {reason}")
        self.name, self.reason, self.line, self.column = name, reason, line, column

    def __reduce__(self) -> tuple[type[TableError], tuple[str, str, int | None, str | None]]:
        return type(self), (self.name, self.reason, self.line, self.column)


class DeviceError(CheckpointError):
    """A device that this machine does not have."""


class MissingLibraryError(RuntimeError):
    """A library that this needs is not installed; the message says which and how to get it."""
