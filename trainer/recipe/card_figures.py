"""The figures of the model card: a split before and after a stage, and how much the two differ on the very same pairs.

    before, after = (split_result(judge, "test", count, work) for judge in (cold_started, trained))
    figures = compared(before, after)

`figures` is `Evaluation.to_dict` of the later checkpoint, with that of the earlier one under "before" and their differences
under "change".
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
class SplitResult:
    """One checkpoint's result on one split.

    Attributes:
        report: all figures, as `Evaluation.to_dict` gives them.
        right: for each pair, whether the margin lies on the side of the preference; None for a tie.
        exact: for each pair, the share of exact sub-scores.
    """

    report: dict[str, Any]
    right: list[bool | None]
    exact: list[float]


def split_result(judge: DeScore, split: str, count: int, work: Path) -> SplitResult:
    """Judge the first `count` pairs of a split, or return what an earlier call found for these weights and calibration."""
    path = work / "measured" / f"{fingerprint(judge.model.state_dict())}-{split}-{count}.json"
    calibration = judge.manifest.calibration.to_dict()
    if path.exists():
        stored = json.loads(path.read_text("utf-8"))
        if stored.pop("scale") == calibration:
            return SplitResult(**stored)
    result = _result(evaluate(judge, split, count, folder=work / "mp4" / split))
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(path, json.dumps({"scale": calibration, **asdict(result)}))
    return result


def compared(before: SplitResult, after: SplitResult) -> dict[str, Any]:
    """Return the figures after, those before under "before", and differences with paired intervals under "change"."""
    decided = [(old, new) for old, new in zip(before.right, after.right, strict=True) if old is not None and new is not None]
    accuracy = np.array([int(new) - int(old) for old, new in decided], dtype=float)
    exact = np.array(after.exact) - np.array(before.exact)
    change: dict[str, Any] = {}
    for name, differences in (("accuracy_without_ties", accuracy), (_DIMENSIONS, exact)):
        change |= {name: float(differences.mean()), f"{name}_interval": list(bootstrap_mean(differences))}
    return {**after.report, "before": _without_bookkeeping(before.report), "change": change}


def _result(evaluation: Evaluation) -> SplitResult:
    mode = evaluation.results["think"]
    leads = (mode.rewards_a - mode.rewards_b) * mode.labels
    right = [None if label == 0 else bool(lead > 0) for label, lead in zip(mode.labels, leads, strict=True)]
    exact = evaluation.exact(mode).reshape(len(evaluation.pairs), -1).mean(axis=1)
    return SplitResult(evaluation.to_dict(), right, exact.tolist())


def _without_bookkeeping(report: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in report.items() if name not in ("checkpoint", "split", "seconds")}
