"""The overall score that sub-scores imply, and thoughts whose stated one contradicts them. Imports no torch.

    sub_scores = {"subject": "2", "dynamics": "0", "camera": "0", "environment": "1", "style": "0"}
    check_overall(sub_scores, 4.17)             # 2.0 to 3.0, contradicts

The instruction (`descore.prompt`) gives a band for the overall score; the primary sub-scores choose it. Source: the bands of
DeScore's released code. The overall score is a part of the thought and never the reward, so a contradiction says that the
thought can't be relied on, not that the reward is wrong.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from descore.answer import NOT_ASKED, PRIMARY, SECONDARY

# Bands meet at whole numbers, and who writes an overall score rounds it. A quarter of a point beyond the border is still
# nearer to the own band than to the middle of the next one, which is half a point away.
TOLERANCE = 0.25


@dataclass(frozen=True)
class OverallCheck:
    """What sub-scores imply for the overall score.

    Attributes:
        low, high: ends of the band, 1 .. 5.
        contradicts: the stated overall score lies outside it by more than `TOLERANCE`; False where none is stated.
    """

    low: float
    high: float
    contradicts: bool


def check_overall(sub_scores: Mapping[str, str], overall_score: float | None) -> OverallCheck:
    """Return the band that sub-scores imply, and whether a stated overall score contradicts it.

    A primary dimension that the prompt does not ask for can't be flawed, so "N/A" counts as "2".

    Args:
        sub_scores: one of `descore.answer.SUB_SCORES` for each dimension.
        overall_score: 1 .. 5; None where the thought gives none.
    """
    low, high = _band(sub_scores)
    outside = overall_score is not None and not low - TOLERANCE <= overall_score <= high + TOLERANCE
    return OverallCheck(low, high, outside)


def _band(sub_scores: Mapping[str, str]) -> tuple[float, float]:
    primary = [sub_scores[name] for name in PRIMARY]
    if primary.count("0") == len(PRIMARY):
        return 1.0, 2.0
    if "0" in primary:
        return 2.0, 3.0
    if "1" in primary:
        return 3.0, 4.0
    flawless = all(sub_scores[name] in ("2", NOT_ASKED) for name in SECONDARY)
    return (5.0, 5.0) if flawless else (4.0, 5.0)
