"""The curves of a training stage: points in the manifest's lineage, a table and a figure of them in the card.

    curves = manifest.lineage["curves"]     # {"unit": "step", "points": [{"step": 7, "drift": 0.02, ...}, ...]}
    curves_table(curves)      # Markdown, about eight points
    curves_svg(curves)        # small multiples, one panel a curve; readable on light and on dark pages

A point may lack a value (drift is measured less often). Which curves are shown: those of `PANELS` that have any value.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from xml.sax.saxutils import escape

# Names in the log of a run (trainer/engine/metrics_log.py), and what they are called here.
PANELS = {
    "reward_quality": "quality (R_qual)",
    "reward_format": "format (R_fmt)",
    "reward_length": "length (R_len)",
    "accuracy": "accuracy while training",
    "drift": "drift of anchor rewards",
    "drift_abs": "drift, mean size",
}
_TABLE_POINTS = 8
_WIDTH, _HEIGHT, _COLUMNS = 240, 150, 3
_LEFT, _RIGHT, _TOP, _BOTTOM = 44, 10, 26, 24
_STYLE = """\
text { font: 11px system-ui, sans-serif; fill: #57606a }
.name { font-weight: 600; fill: #1f2328 }
.axis { stroke: #8c959f; stroke-opacity: .5; fill: none }
.curve { stroke: #1a7f5a; stroke-width: 1.8; fill: none; stroke-linejoin: round }
@media (prefers-color-scheme: dark) {
  text { fill: #9da7b3 }
  .name { fill: #e6edf3 }
  .curve { stroke: #4cc38a }
}"""


def curves_table(curves: Mapping[str, Any]) -> str:
    """Return Markdown with the first, the last, and some points between; "" where there is nothing to show."""
    names, points = _shown(curves), list(curves.get("points", ()))
    if not names:
        return ""
    unit = str(curves.get("unit", "step"))
    lines = ["| " + " | ".join([unit, *(PANELS[name] for name in names)]) + " |", "|---" * (len(names) + 1) + "|"]
    for index in _spread(len(points), _TABLE_POINTS):
        point = points[index]
        cells = ["" if point.get(name) is None else f"{point[name]:.3f}" for name in names]
        lines.append(f"| {point['step']} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def curves_svg(curves: Mapping[str, Any]) -> str:
    """Draw a figure without scripts, fonts or links of its own; "" where there is nothing to show."""
    names, points = _shown(curves), list(curves.get("points", ()))
    if not names:
        return ""
    columns = min(len(names), _COLUMNS)
    width, height = columns * _WIDTH, -(-len(names) // columns) * _HEIGHT
    panels = []
    for index, name in enumerate(names):
        values = [(point["step"], point[name]) for point in points if point.get(name) is not None]
        panel = _panel(PANELS[name], values, points[-1]["step"])
        panels.append(f'<g transform="translate({index % columns * _WIDTH} {index // columns * _HEIGHT})">{panel}</g>')
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
        'role="img" aria-label="Curves of the training stage">'
    )
    return "\n".join([head, f"<style>\n{_STYLE}\n</style>", *panels, "</svg>\n"])


def _shown(curves: Mapping[str, Any]) -> list[str]:
    points = list(curves.get("points", ()))
    return [name for name in PANELS if any(point.get(name) is not None for point in points)]


def _spread(count: int, most: int) -> list[int]:
    if count <= most:
        return list(range(count))
    return [round(index * (count - 1) / (most - 1)) for index in range(most)]


def _panel(name: str, points: Sequence[tuple[float, float]], last_step: float) -> str:
    """Draw one curve of (step, value) with the ends of its axes written out; `last_step` is at the right edge."""
    right, bottom = _WIDTH - _RIGHT, _HEIGHT - _BOTTOM
    low, high = _range([value for _, value in points])
    across = (right - _LEFT) / max(last_step, 1)
    up = (bottom - _TOP) / (high - low)
    path = " ".join(f"{_LEFT + step * across:.1f},{bottom - (value - low) * up:.1f}" for step, value in points)
    return (
        f'<text class="name" x="{_LEFT}" y="15">{escape(name)}</text>'
        f'<path class="axis" d="M{_LEFT} {_TOP}V{bottom}H{right}"/>'
        f'<text x="{_LEFT - 5}" y="{_TOP + 5}" text-anchor="end">{high:.2f}</text>'
        f'<text x="{_LEFT - 5}" y="{bottom}" text-anchor="end">{low:.2f}</text>'
        f'<text x="{_LEFT}" y="{bottom + 15}">0</text>'
        f'<text x="{right}" y="{bottom + 15}" text-anchor="end">step {last_step:g}</text>'
        f'<polyline class="curve" points="{path}"/>'
    )


def _range(values: Sequence[float]) -> tuple[float, float]:
    """Return a range of at least 0.1 around the values, so that a curve that hardly moves looks like one."""
    low, high = min(values), max(values)
    room = max(0.1 - (high - low), 0.0) / 2 or 0.05 * (high - low)
    return low - room, high + room
