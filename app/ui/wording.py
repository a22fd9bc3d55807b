"""Durations, sizes, shares and names in words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from markupsafe import Markup

from app.ui.markup import DASH, MINUS

STAGES = {"cold-start": "cold start", "dual-rl": "dual RL"}
# The parts of a run's progress, beyond its stages.
STEPS = {**STAGES, "gate": "comparison", "score": "judging", "register": "registration"}


def duration(seconds: float) -> str:
    """Write seconds as a person says them: "40 s", "6 min", "2 h 10 min"."""
    if seconds < 90:
        return f"{max(0, round(seconds))} s"
    minutes = round(seconds / 60)
    if minutes < 120:
        return f"{minutes} min"
    return f"{minutes // 60} h {minutes % 60:02d} min"


def size(number: float) -> str:
    """Write bytes as kB, MB or GB."""
    if number >= 1e9:
        return f"{number / 1e9:.1f} GB"
    return f"{number / 1e6:.1f} MB" if number >= 1e5 else f"{number / 1e3:.0f} kB"


def share(value: Any, digits: int = 1) -> str:
    """Write 0.843 as "84.3 %"; a dash for an unknown share."""
    return f"{100 * value:.{digits}f} %" if isinstance(value, (int, float)) else DASH


def probability(p: float) -> str:
    """Write a probability as "71 %"; never as a certainty, which no model has: "over 99 %", "under 1 %"."""
    percent = round(100 * p)
    return "over 99 %" if percent >= 100 else "under 1 %" if percent <= 0 else f"{percent} %"


def signed(value: float, digits: int = 1) -> str:
    """Write a number with its sign, a real minus."""
    return f"{value:+.{digits}f}".replace("-", MINUS)


def points(value: float, interval: Any = None) -> Markup:
    """Write a difference of shares in points, with its 95 % interval if there is one."""
    text = Markup("<b>{}</b>").format(signed(100 * value))
    if not interval:
        return text
    low, high = interval
    return text + Markup(" <small>{} to {}</small>").format(signed(100 * low), signed(100 * high))


def stage_list(stages: Any) -> str:
    """Write the stages of a run in words."""
    return " and ".join(STAGES.get(stage, stage) for stage in stages)


def ordinal(number: int) -> str:
    """Write 1st, 2nd, 3rd, 4th."""
    ending = "th" if 10 <= number % 100 <= 20 else {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"{number}{ending}"


def figures(facts: Mapping[str, str | Markup], kind: str = "") -> Markup:
    """Return a row of large figures, each with its name beneath."""
    cells = Markup("").join(Markup("<div><dt>{}</dt><dd>{}</dd></div>").format(name, value) for name, value in facts.items())
    return Markup('<dl class="ds-figures {}">{}</dl>').format(kind, cells)


def plural(number: int, word: str) -> str:
    """Write "1 pair", "2 pairs"."""
    return f"{number:,} {word}{'' if number == 1 else 's'}".replace(",", "\N{NARROW NO-BREAK SPACE}")
