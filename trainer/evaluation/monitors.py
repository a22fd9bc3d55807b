"""Monitors of a stage that trains: drift of rewards on fixed videos, and accuracy on held-out pairs.

    monitor = AnchorMonitor(model, anchor_rows(reader, pairs, 8), run_folder / "anchors.json", accelerator, precision, steps)
    monitor(step)          # {"drift": ..., "drift_abs": ..., "anchor_spread": ...} where it is due, else {}
    HeldOutMonitor(judge, steps)(step)                   # {"held_out_accuracy": ...} where it is due

Anchors keep their thoughts, so that what moves is the scoring and not the thinking. Their first rewards are kept in the run
folder: a resumed run measures against the same ones. Held-out pairs are judged again each time, with new thoughts.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from descore.encode import Row, collate, pad_token_id
from storage.atomic import write_atomic
from trainer.data.frames import BadPairError, PairReader

if TYPE_CHECKING:
    from accelerate import Accelerator

    from descore.modeling.model import DeScoreModel
    from trainer.data.pairs import TrainingPair
    from trainer.data.vision_features import VisionFeatures
    from trainer.engine.precision import Precision
    from trainer.evaluation.held_out import JudgedPairs

log = logging.getLogger(__name__)

_ROWS_AT_ONCE = 8
# How often in a stage; judging pairs takes as long as many steps.
_DRIFT_POINTS, _HELD_OUT_POINTS = 20, 5


class HeldOutMonitor:
    """Measures accuracy without ties on some held-out pairs, a few times in a stage; its end judges all of them anyway."""

    def __init__(self, judge: Callable[[], JudgedPairs], steps: int) -> None:
        """Make a monitor.

        Args:
            judge: judges the pairs, which have a preference.
            steps: of the stage.
        """
        self._judge, self._every, self._steps = judge, max(steps // _HELD_OUT_POINTS, 1), steps

    def __call__(self, step: int) -> dict[str, float]:
        """Measure `held_out_accuracy` of the readable pairs where it is due."""
        done = step + 1
        if done % self._every or done == self._steps:
            return {}
        judged = self._judge()
        a, b, labels = judged.scores(judged.mode) if judged.pairs else (np.zeros(0),) * 3
        return {"held_out_accuracy": float(((a - b) * labels > 0).mean())} if len(labels) else {}


def anchor_rows(reader: PairReader, pairs: Sequence[TrainingPair], count: int) -> list[Row]:
    """Read the first `count` videos of readable pairs, with their thoughts where they have some."""
    rows: list[Row] = []
    for pair in pairs:
        if len(rows) >= count:
            break
        try:
            both = reader.rows(pair)
            rows += both if pair.thoughts is None else reader.with_thoughts(pair, both, pair.thoughts)
        except BadPairError as error:
            log.warning("no anchor: %s", error)
    return rows[:count]


class AnchorMonitor:
    """Measures the drift of rewards about twenty times in a stage and at its last step, in the unit of raw rewards."""

    def __init__(
        self,
        model: DeScoreModel,
        rows: Sequence[Row],
        path: Path,
        accelerator: Accelerator,
        precision: Precision,
        steps: int,
        vision: VisionFeatures | None = None,
    ) -> None:
        """Measure the first rewards, unless `path` holds them. steps: of the stage."""
        self._model, self._rows, self._vision = model, list(rows), vision
        self._precision, self._every, self._last = precision, max(steps // _DRIFT_POINTS, 1), steps - 1
        kept = json.loads(path.read_text("utf-8")) if path.exists() else None
        self._first = torch.tensor(kept if kept is not None and len(kept) == len(self._rows) else self._rewards())
        if accelerator.is_main_process:
            write_atomic(path, json.dumps(self._first.tolist()))

    def __call__(self, step: int) -> dict[str, float]:
        """Measure where it is due.

        Returns:
            `drift`, the mean change of the rewards; `drift_abs`, the mean size of a change; `anchor_spread`, their
            standard deviation.
        """
        if not self._rows or ((step + 1) % self._every and step != self._last):
            return {}
        rewards = torch.tensor(self._rewards())
        change = rewards - self._first
        return {
            "drift": float(change.mean()),
            "drift_abs": float(change.abs().mean()),
            "anchor_spread": float(rewards.std(correction=0)),
        }

    @torch.no_grad()
    def _rewards(self) -> list[float]:
        was_training = self._model.training
        self._model.eval()
        rewards: list[float] = []
        try:
            for first in range(0, len(self._rows), _ROWS_AT_ONCE):
                rows = self._rows[first : first + _ROWS_AT_ONCE]
                vision = None if self._vision is None else self._vision.of(rows)
                with self._precision.sampling():
                    batch = collate(rows, pad_token_id(self._model.processor))
                    rewards += self._model.rewards(batch, vision).tolist()
        finally:
            self._model.train(was_training)
        return rewards
