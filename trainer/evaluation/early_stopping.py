"""Early stopping on validation pairs: the weights of the best evaluation are kept, and a stage that gets worse ends.

    train, validation = split_validation(loaded.train, 0.1)
    early = EarlyStopping(judge, model, run_folder, accelerator, steps=60, patience=3)
    early(5)                 # {"validation_loss": ..., "validation_accuracy": ...} where it is due, else {}
    early.is_over()          # no evaluation since the best one was better, `patience` times
    early.restore_best()     # the step whose weights the model has now

Validation pairs are taken from the training pairs of the run. The held-out pairs, by which the gate decides, choose nothing:
a checkpoint that was picked by them would look better on them than it is.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from storage.atomic import write_atomic
from storage.splits import stable_share
from trainer.engine.train_state import load_weights, save_weights

if TYPE_CHECKING:
    from accelerate import Accelerator
    from torch import nn

    from trainer.data.pairs import TrainingPair
    from trainer.evaluation.held_out import JudgedPairs

EVALUATIONS, BEST = "validation.json", "best.safetensors"  # in the folder of a stage
LEAST_PROMPTS = 10  # with fewer, a split by prompts would be all or nothing
# How often in a stage; each evaluation judges the validation pairs.
_POINTS = 10


def split_validation(
    pairs: Sequence[TrainingPair], share: float
) -> tuple[tuple[TrainingPair, ...], tuple[TrainingPair, ...]]:
    """Split training pairs into those to train on and those to validate on, by a stable hash.

    All pairs of a prompt are on one side, unless there are fewer than `LEAST_PROMPTS` prompts. A training pair with a video
    that is validated on is left out. So is a validation pair without a preference, which no figure would count.
    """
    by_prompt = len({pair.prompt for pair in pairs}) >= LEAST_PROMPTS
    drawn = [stable_share("validation", pair.prompt if by_prompt else pair.identity) < share for pair in pairs]
    validation = tuple(pair for pair, out in zip(pairs, drawn, strict=True) if out and pair.label)
    known = {content for pair in validation for content in pair.contents}
    train = [pair for pair, out in zip(pairs, drawn, strict=True) if not out]
    return tuple(pair for pair in train if not by_prompt or known.isdisjoint(pair.contents)), validation


class EarlyStopping:
    """Evaluates, keeps the best weights, and says when a stage is over; it goes on where an interrupted stage was."""

    def __init__(
        self,
        judge: Callable[[], JudgedPairs],
        model: nn.Module,
        folder: Path,
        accelerator: Accelerator,
        *,
        steps: int,
        patience: int,
    ) -> None:
        """Make one for a stage.

        Args:
            judge: judges the validation pairs, which have a preference; called by every process.
            folder: of the stage.
            patience: evaluations that may pass without a better one.
        """
        self._judge, self._model, self._folder, self._accelerator = judge, model, folder, accelerator
        self._every, self._steps, self._patience = max(steps // _POINTS, 1), steps, patience
        path = folder / EVALUATIONS
        self._losses: dict[int, float] = {}
        if path.exists():
            self._losses = {int(step): loss for step, loss in json.loads(path.read_text("utf-8")).items()}

    @property
    def best_step(self) -> int | None:
        """The step, counted from 0, after which the loss was lowest; None before the first evaluation."""
        return min(self._losses, key=lambda step: (self._losses[step], step), default=None)

    def __call__(self, step: int) -> dict[str, float]:
        """Evaluate where it is due, and keep the weights if they are the best so far."""
        if (step + 1) % self._every and step + 1 != self._steps:
            return {}
        judged = self._judge()
        if not judged.pairs:
            return {}
        a, b, labels = judged.scores(judged.mode)
        margins = (a - b) * labels
        loss = float(np.logaddexp(0, -margins).mean())
        # A stage that was interrupted comes by a step a second time.
        self._losses = {earlier: value for earlier, value in self._losses.items() if earlier < step} | {
            step: loss if math.isfinite(loss) else math.inf
        }
        if self._accelerator.is_main_process:
            if self.best_step == step:
                save_weights(self._folder / BEST, self._model)
            write_atomic(self._folder / EVALUATIONS, json.dumps(self._losses))
        self._accelerator.wait_for_everyone()
        return {"validation_loss": loss, "validation_accuracy": float((margins > 0).mean())}

    def is_over(self) -> bool:
        """Whether the last `patience` evaluations brought nothing better."""
        best = self.best_step
        return best is not None and sum(step > best for step in self._losses) >= self._patience

    def restore_best(self) -> int | None:
        """Give the model the weights of the best evaluation; return its step, None where there was none."""
        best = self.best_step
        if best is not None and best != max(self._losses):
            load_weights(self._folder / BEST, self._model)
        return best
