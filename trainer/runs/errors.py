"""What a run says when it can't be started as asked."""

from __future__ import annotations


class RunRefusedError(ValueError):
    """The run can't be started as asked; the message says what to change."""
