"""Analysed pairs and checkpoints with only what a test is about; all else has defaults."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from app.analyse.figures.judged_pairs import AnalysedCheckpoint
from descore.answer import DIMENSIONS
from descore.calibration import ModeCalibration
from storage.analysis.judged_pairs import AnalysedPair, PairScore

GOOD = dict.fromkeys(DIMENSIONS, "2")
SCALE = ModeCalibration(mean=0.0, std=1.0, temperature=1.0, tie_threshold=0.5, reference_videos=10, validation_pairs=10)


def pair_score(margin: float, a: Mapping[str, str] | None = None, b: Mapping[str, str] | None = None) -> PairScore:
    """Make the score of a pair with this margin; the reward of B is 0."""
    return PairScore((margin, 0.0), (a, b), (True, True), (100, 100))


def pair(
    number: int,
    choice: Literal["A", "B", "tie"] | None,
    margin: float | None = None,
    quick: float | None = None,
    **changes: Any,
) -> AnalysedPair:
    """Make a pair. Without a margin it was not judged in mode "think", without `quick` not in mode "quick"."""
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
        "think": None if margin is None else pair_score(margin),
        "quick": None if quick is None else pair_score(quick),
        "video_stats": (None, None),
    }
    return AnalysedPair(pair_id=number, choice=choice, **(values | changes))


def checkpoint(pairs: Sequence[AnalysedPair], name: str = "one", calibrated: bool = True) -> AnalysedCheckpoint:
    """Make a checkpoint that judged these pairs."""
    return AnalysedCheckpoint(name, f"print of {name}", tuple(pairs), {"think": SCALE, "quick": SCALE} if calibrated else {})
