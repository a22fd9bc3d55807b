"""Observer of a run: hears how far each part is, and the judged held-out pairs.

from trainer.runs.pipeline import run

class Printer(RunObserver):
    def progress(self, stage, part, done, total): print(stage, part, done, total)

run(["cold-start"], config, folder, observer=Printer())
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from trainer.evaluation.held_out import JudgedPairs
    from trainer.paradigm import StageName

# Parts of a stage in their order: thoughts for pairs without any, judging before, steps, judging after.
Part = Literal["thoughts", "before", "training", "after"]


class RunObserver:
    """Base class, which does nothing. Only the main process of a run calls it."""

    def progress(self, stage: StageName, part: Part, done: int, total: int) -> None:
        """Hear that `done` of `total` pairs (in "training": steps) of a part are done."""

    def judged(self, stage: StageName, when: Literal["before", "after"], pairs: JudgedPairs) -> None:
        """Hear that the held-out pairs were judged, with the weights before a stage or after it."""
