"""Pairs as the analysis gets them, with only what a test is about."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from app.analyse.figures.judged_pairs import AnalysedCheckpoint
from descore.answer import DIMENSIONS
from descore.calibration import ModeCalibration
from storage.analysis.judged_pairs import AnalysedPair, PairScore

GOOD = dict.fromkeys(DIMENSIONS, "2")
SCALE = ModeCalibration(mean=0.0, std=1.0, temperature=1.0, tie_threshold=0.5, reference_videos=10, validation_pairs=10)


def said(margin: float, a: Mapping[str, str] | None = None, b: Mapping[str, str] | None = None) -> PairScore:
    """Rewards with this margin, the reward of B being 0."""
    return PairScore((margin, 0.0), (a, b), (True, True), (100, 100))


def pair(
    number: int,
    choice: Literal["A", "B", "tie"] | None,
    margin: float | None = None,
    quick: float | None = None,
    **known: Any,
) -> AnalysedPair:
    """A pair; without a margin nobody judged it."""
    values: dict[str, Any] = {
        "identity": f"identity {number}",
        "prompt": "a red circle",
        "source": "test",
        "strength": None,
        "support": 1.0,
        "labels": 1,
        "human": {},
        "generators": (None, None),
        "seconds": (2.0, 2.0),
        "fps": (12.0, 12.0),
        "think": None if margin is None else said(margin),
        "quick": None if quick is None else said(quick),
        "video_stats": (None, None),
    }
    return AnalysedPair(pair_id=number, choice=choice, **(values | known))


def checkpoint(pairs: Sequence[AnalysedPair], name: str = "one", calibrated: bool = True) -> AnalysedCheckpoint:
    """A checkpoint that judged these pairs."""
    return AnalysedCheckpoint(name, f"print of {name}", tuple(pairs), {"think": SCALE, "quick": SCALE} if calibrated else {})
