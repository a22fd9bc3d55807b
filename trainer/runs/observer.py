"""What a run tells while it goes, for whoever follows it: how far each part is, and what was judged.

class Printer(RunObserver):
    def progress(self, stage, part, done, total): print(stage, part, done, total)

run(["cold-start"], config, folder, observer=Printer())
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from trainer.evaluation.held_out import JudgedPairs
    from trainer.paradigm import StageName

# The parts of a stage, in their order: thoughts for pairs that have none, agreement before, steps, agreement after.
MicroBatch = Literal["thoughts", "before", "training", "after"]


class RunObserver:
    """Follows a run; this one does nothing. Only the main process of a run calls it."""

    def progress(self, stage: StageName, part: MicroBatch, done: int, total: int) -> None:
        """`done` of `total` pairs (in "training": steps) of a part are through."""

    def judged(self, stage: StageName, when: Literal["before", "after"], pairs: JudgedPairs) -> None:
        """The held-out pairs were judged, with the weights before a stage or after it."""
