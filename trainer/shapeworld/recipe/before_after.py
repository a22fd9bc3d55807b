"""How good a checkpoint is on a split before and after a stage, and by how much the two differ on the very same pairs.

before, after = (measured(judge, "test", 400, work) for judge in (cold_started, trained))
figures = compared(before, after)        # `after` as `Evaluation.to_dict` has it; under "before" and "change" the rest
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from descore.metrics import bootstrap_mean
from descore.modeling.backbone import fingerprint
from storage.atomic import write_atomic
from trainer.shapeworld.evaluate import Evaluation, evaluate

if TYPE_CHECKING:
    from descore.judge import DeScore

_DIMENSIONS = "sub_score_exact_match"


@dataclass(frozen=True)
class Measured:
    """One checkpoint on one split. report: all figures. right: margin on the side of the preference, None for a tie.

    exact: share of exact sub-scores, one number a pair.
    """

    report: dict[str, Any]
    right: list[bool | None]
    exact: list[float]


def measured(judge: DeScore, split: str, count: int, work: Path) -> Measured:
    """Measure, or take what an earlier call measured for the same weights and calibration."""
    name = f"{fingerprint(judge.model.state_dict())}-{split}-{count}.json"
    path, scale = work / "measured" / name, judge.manifest.calibration.to_dict()
    if path.exists():
        kept = json.loads(path.read_text("utf-8"))
        if kept.pop("scale") == scale:
            return Measured(**kept)
    result = _of(evaluate(judge, split, count, folder=work / "mp4" / split))
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(path, json.dumps({"scale": scale, **asdict(result)}))
    return result


def compared(before: Measured, after: Measured) -> dict[str, Any]:
    """The figures after, with those from before under "before", and under "change" differences with paired intervals."""
    decided = [(old, new) for old, new in zip(before.right, after.right, strict=True) if old is not None and new is not None]
    ranked = np.array([int(new) - int(old) for old, new in decided], dtype=float)
    read = np.array(after.exact) - np.array(before.exact)
    change: dict[str, Any] = {}
    for name, values in (("accuracy_without_ties", ranked), (_DIMENSIONS, read)):
        change |= {name: float(values.mean()), f"{name}_interval": list(bootstrap_mean(values))}
    return {**after.report, "before": _without_bookkeeping(before.report), "change": change}


def _of(evaluation: Evaluation) -> Measured:
    result = evaluation.results["think"]
    margins = (result.rewards_a - result.rewards_b) * result.labels
    right = [None if label == 0 else bool(margin > 0) for label, margin in zip(result.labels, margins, strict=True)]
    exact = evaluation.exact(result).reshape(len(evaluation.pairs), -1).mean(axis=1)
    return Measured(evaluation.to_dict(), right, exact.tolist())


def _without_bookkeeping(report: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in report.items() if name not in ("checkpoint", "split", "seconds")}
