"""What a figure says, in words, for those who don't see it.

    figure = {"data": [{"type": "bar", "name": "think", "x": ["subject", "style"], "y": [0.91, 0.84]}], "layout": {}}
    figure_text("Accuracy", figure)     # "Accuracy. think: subject 0.91, style 0.84."

Traces without hover text are guides, and are left out.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

_MOST_TRACES, _MOST_BARS = 8, 12


def figure_text(title: str, figure: Mapping[str, Any]) -> str:
    """Name the axes, and say of each trace what its values are: all bars, both ends of lines, the range of others.

    Args:
        figure: {"data": traces, "layout": ...} as Plotly has them, values as lists or arrays.
    """
    axes = {axis: ((figure["layout"].get(axis) or {}).get("title") or {}).get("text") or "" for axis in ("yaxis", "xaxis")}
    shown = [trace for trace in figure["data"] if trace.get("hoverinfo") != "skip"]
    drawn = list(filter(None, (_trace_text(trace, axes["xaxis"]) for trace in shown)))
    parts = [title, " by ".join(axes.values()) if all(axes.values()) else "", *drawn[:_MOST_TRACES]]
    if len(drawn) > _MOST_TRACES:
        parts.append(f"{len(drawn) - _MOST_TRACES} more like these")
    return ". ".join(part for part in parts if part.strip()) + "."


def _trace_text(trace: Mapping[str, Any], unit: str) -> str:
    name, x, y = trace.get("name") or "", _listed(trace.get("x")), _listed(trace.get("y"))
    if trace.get("type") == "heatmap":
        return _named(name, f"cells {_range(np.asarray(trace['z'], dtype=object).ravel())}")
    if trace.get("type") == "bar":
        names, values = (y, x) if trace.get("orientation") == "h" else (x, y)
        bars = [(bar, value) for bar, value in zip(names, values, strict=False) if value is not None]
        many = f"{len(bars)} bars {_range(values)}"
        return _named(name, many if len(bars) > _MOST_BARS else ", ".join(f"{bar} {_number(value)}" for bar, value in bars))
    points = [(at, value) for at, value in zip(x or y, y or x, strict=False) if _numbers([value])]
    if len(points) > 1 and "lines" in (trace.get("mode") or ""):
        ends = (f"{_number(value)} at {unit} {_number(at)}".replace("  ", " ") for at, value in (points[0], points[-1]))
        return _named(name, f"from {' to '.join(ends)}, {_range(value for _, value in points)}")
    if len(points) > 1:
        return _named(name, f"{len(points)} points {_range(value for _, value in points)}")
    return _named(name, _number(points[0][1])) if points else ""


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
