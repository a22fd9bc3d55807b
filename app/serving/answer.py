"""The model's answer about one pair, growing as it thinks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from app.serving.judging_queue import ITS_TURN, Place
from descore.calibration import ModeCalibration
from descore.judgement import Judgement, Mode, Verdict

Phase = Literal["idle", "running", "done", "cancelled", "error"]


@dataclass(frozen=True)
class VideoAnswer:
    """One video's part of an answer.

    Attributes:
        raw: the text so far.
        judgement: of this video, once it is finished.
    """

    raw: str = ""
    judgement: Judgement | None = None


@dataclass(frozen=True)
class Answer:
    """All that is known at one moment.

    Attributes:
        phase: where the question stands.
        mode: how the model was asked.
        k: the number of thoughts in mode k, else 0.
        sides: the parts of video A and video B.
        comparison: of both videos, once the answer is finished.
        scale: the calibration in use; None where the checkpoint has none for this mode.
        from_store: whether the judgement was made earlier.
        kept: False for a judgement that the store could not take.
        status: one short line: progress, time taken, an error.
        place: in the queue before the model, while it waits there.
    """

    phase: Phase = "idle"
    mode: Mode = "think"
    sides: tuple[VideoAnswer, VideoAnswer] = (VideoAnswer(), VideoAnswer())
    comparison: Verdict | None = None
    scale: ModeCalibration | None = None
    from_store: bool = False
    kept: bool = True
    status: str = ""
    place: Place = ITS_TURN
    k: int = 0


def cover(answer: Answer) -> Answer:
    """Return an answer without anything that the model said, for somebody who votes first."""
    return Answer(phase=answer.phase, mode=answer.mode, place=answer.place, k=answer.k)
