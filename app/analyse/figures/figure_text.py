"""What a figure says, in words, for those who don't see it.

    figure_text("Accuracy", figure)     # of bars: "Accuracy. think: subject 0.91, style 0.84."

Guides, which answer to no pointer, are left out.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import plotly.graph_objects as go

_MOST_TRACES, _MOST_BARS = 8, 12


def figure_text(title: str, figure: go.Figure) -> str:
    """Name the axes, and say of each trace what its values are: all bars, both ends of lines, the range of others."""
    axes = [axis for axis in (figure.layout.yaxis.title.text, figure.layout.xaxis.title.text) if axis]
    drawn = [text for trace in figure.data if trace.hoverinfo != "skip" and (text := _trace_text(trace))]
    parts = [title, " by ".join(axes), *drawn[:_MOST_TRACES]]
    if len(drawn) > _MOST_TRACES:
        parts.append(f"{len(drawn) - _MOST_TRACES} more like these")
    return ". ".join(part for part in parts if part.strip()) + "."


def _trace_text(trace: Any) -> str:
    name = trace.name or ""
    if trace.type == "heatmap":
        return _named(name, f"cells {_range(np.asarray(trace.z, dtype=object).ravel())}")
    if trace.type == "bar":
        names, values = (trace.y, trace.x) if trace.orientation == "h" else (trace.x, trace.y)
        bars = list(zip(_listed(names), _listed(values), strict=False))
        if len(bars) <= _MOST_BARS:
            return _named(name, ", ".join(f"{bar} {_number(value)}" for bar, value in bars if value is not None))
        return _named(name, f"{len(bars)} bars {_range(_listed(values))}")
    values = _listed(trace.y if trace.y is not None else trace.x)
    if not _numbers(values):
        return ""
    mode = getattr(trace, "mode", None) or ""
    if "lines" in mode and len(values) > 1:
        return _named(name, f"from {_number(values[0])} to {_number(values[-1])}, {_range(values)}")
    return _named(name, f"{len(values)} points {_range(values)}" if len(values) > 1 else _number(values[0]))


def _named(name: str, text: str) -> str:
    return f"{name}: {text}" if name and text else text


def _listed(values: Any) -> list[Any]:
    return [] if values is None else list(values)


def _numbers(values: Iterable[Any]) -> list[float]:
    return [float(value) for value in values if isinstance(value, (int, float, np.number)) and np.isfinite(value)]


def _range(values: Iterable[Any]) -> str:
    numbers = _numbers(values)
    return f"between {_number(min(numbers))} and {_number(max(numbers))}" if numbers else ""


def _number(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, (int, float, np.number)) else str(value)
