"""Reward drift: how the rewards of a fixed set of videos move while a run trains.

    watch = AnchorWatch(model, rows, run / "anchors.json", every=10, last=299, ...)
    watch(step)          # {"drift": ..., "drift_abs": ..., "anchor_spread": ...} where it is due, else {}

The anchors keep their thoughts, so that what moves is the scoring and not the thinking. Their first rewards are kept in the
run folder: a resumed run measures against the same ones.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import torch
from accelerate import Accelerator

from descore.encode import Row, collate, pad_token_id
from descore.model import DeScoreModel
from storage.whole_files import write_whole
from trainer.precision import Precision
from trainer.vision_features import VisionFeatures

_ROWS_AT_ONCE = 8


class AnchorWatch:
    """Measures every so many steps and at the last one; drift is in the unit of raw rewards."""

    def __init__(
        self,
        model: DeScoreModel,
        rows: Sequence[Row],
        path: Path,
        accelerator: Accelerator,
        precision: Precision,
        *,
        every: int,
        last: int,
        vision: VisionFeatures | None = None,
    ) -> None:
        """Measure the first rewards, unless `path` holds them. last: the number of the last step."""
        self._model, self._rows, self._vision = model, list(rows), vision
        self._precision, self._every, self._last = precision, max(every, 1), last
        kept = json.loads(path.read_text("utf-8")) if path.exists() else None
        self._first = torch.tensor(kept if kept is not None and len(kept) == len(self._rows) else self._rewards())
        if accelerator.is_main_process:
            write_whole(path, json.dumps(self._first.tolist()))

    def __call__(self, step: int) -> dict[str, float]:
        """drift: mean change of the rewards; drift_abs: mean size of a change; anchor_spread: their standard deviation."""
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
                some = self._rows[first : first + _ROWS_AT_ONCE]
                vision = None if self._vision is None else self._vision.of(some)
                with self._precision.sampling():
                    batch = collate(some, pad_token_id(self._model.processor))
                    rewards += self._model.rewards(batch, vision).tolist()
        finally:
            self._model.train(was_training)
        return rewards
