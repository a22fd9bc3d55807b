"""The thoughts of a judgement in mode k, each with its reward, as the answer's panel lists them.

samples_view(None, scale=None, between=reward_range([]))      # None: there are not several thoughts
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable
from typing import Any

from app.ui.markup import DASH
from app.ui.thought_text import readable_thought
from app.ui.wording import signed
from descore.answer import DIMENSIONS, NOT_ASKED, read_thoughts
from descore.calibration import ModeCalibration
from descore.judgement import Judgement


def reward_range(judgements: Iterable[Judgement | None]) -> tuple[float, float] | None:
    """Return the lowest and the highest raw reward among the thoughts of all judgements."""
    rewards = [reward for judgement in judgements if judgement for reward in _rewards(judgement)]
    return (min(rewards), max(rewards)) if rewards else None


def samples_view(
    judgement: Judgement | None, scale: ModeCalibration | None, between: tuple[float, float] | None
) -> dict[str, Any] | None:
    """Return what the panel shows of a judgement's thoughts; None where there are not several.

    Args:
        judgement: of one video.
        scale: in whose standard deviations rewards are written; raw without one.
        between: the raw rewards at the ends of the line on which each thought has its place.
    """
    if judgement is None or not judgement.thoughts:
        return None
    thoughts = [
        {
            "text": readable_thought(thought["text"]),
            "reward": _written(thought["reward"], scale),
            "at": _place(thought["reward"], between),
            "scores": _scores(thought["text"]),
            "truncated": thought["truncated"],
        }
        for thought in judgement.thoughts
    ]
    return {"line": _line(judgement, scale), "thoughts": thoughts}


def _rewards(judgement: Judgement) -> list[float]:
    return [thought["reward"] for thought in judgement.thoughts or () if thought["reward"] is not None]


def _line(judgement: Judgement, scale: ModeCalibration | None) -> str:
    rewards = _rewards(judgement)
    count = f"{len(judgement.thoughts or ())} thoughts"
    if len(rewards) < 2:
        return f"{count}."
    spread = statistics.stdev(rewards) / (1.0 if scale is None else scale.std)
    ends = f"{_written(min(rewards), scale)} to {_written(max(rewards), scale)}"
    return f"{count}, rewards from {ends}; standard deviation among them {spread:.2f}."


def _written(reward: float | None, scale: ModeCalibration | None) -> str:
    if reward is None:
        return DASH
    return signed(reward, 2) if scale is None else signed(scale.standardise(reward), 2)


def _place(reward: float | None, between: tuple[float, float] | None) -> float | None:
    """Return where on the line a reward stands, 0 to 1."""
    if reward is None or between is None:
        return None
    low, high = between
    return 0.5 if high <= low else round((reward - low) / (high - low), 3)


def _scores(text: str) -> str:
    """Return the sub-scores in their order, such as "2 1 2 – 2"; "" where they can't be read."""
    scores = read_thoughts([text]).sub_scores
    if scores is None:
        return ""
    return " ".join(DASH if scores[name] == NOT_ASKED else scores[name] for name in DIMENSIONS)
