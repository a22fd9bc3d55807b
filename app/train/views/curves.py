"""The curves of a run, as plain Plotly figures: {"data": [...], "layout": {...}}.

Colours are names of the page's own (`var(--accent)`); the browser puts in what they are, light or dark. Each figure keeps
its place, its axes and what was zoomed into while points come in.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

MOST_POINTS = 400  # a line; more can't be seen
SMOOTHED_FROM = 24  # points; a shorter line is shown as it is
# Of the points that a smoothed value looks back on; the newest counts most.
SMOOTHING_SHARE = 0.06
STAGE_TITLES = {"cold-start": "cold start", "dual-rl": "dual RL"}

Row = Mapping[str, Any]


@dataclass(frozen=True)
class StageLog:
    """What a stage has logged. steps: all that it will do. before, after: its agreement with held-out pairs, if known."""

    stage: str
    steps: int
    rows: Sequence[Row]
    before: Mapping[str, Any]
    after: Mapping[str, Any]


@dataclass(frozen=True)
class Line:
    """One figure of the log and how it is drawn."""

    key: str
    name: str
    colour: str
    smooth: bool = False
    dash: str = "solid"


@dataclass(frozen=True)
class Panel:
    """One small figure. span: the least and greatest value of a share."""

    name: str
    title: str
    lines: tuple[Line, ...]
    span: tuple[float, float] | None = None


ACCENT, BLUE, ORANGE, GREY = "var(--accent)", "var(--a)", "var(--b)", "var(--faint)"
PANELS = (
    Panel(
        "loss",
        "Losses",
        (
            Line("loss", "whole", ACCENT, smooth=True),
            Line("anchor_loss", "tokens", GREY),
            Line("policy_loss", "policy", BLUE),
            Line("bradley_terry", "Bradley-Terry", ORANGE),
        ),
    ),
    Panel(
        "reward",
        "Reward of the rollouts",
        (
            Line("reward", "whole", ACCENT, smooth=True),
            Line("reward_quality", "sub-scores", BLUE),
            Line("reward_format", "format", ORANGE),
            Line("reward_length", "length", GREY),
        ),
        (0.0, 1.0),
    ),
    Panel(
        "accuracy",
        "Accuracy, without ties",
        (
            Line("accuracy", "pairs of the step", GREY, smooth=True),
            Line("held_out_accuracy", "some held-out pairs", BLUE, dash="dot"),
        ),
        (0.0, 1.0),
    ),
    Panel(
        "drift",
        "Drift of the rewards",
        (
            Line("drift", "mean change", ACCENT),
            Line("drift_abs", "mean size", ORANGE),
            Line("anchor_spread", "spread", GREY, dash="dot"),
        ),
    ),
    Panel("length", "Length of the thoughts, tokens", (Line("thought_tokens", "mean", ACCENT, smooth=True),)),
    Panel(
        "margin",
        "Margin, chosen over rejected",
        (Line("margin", "mean margin", ACCENT, smooth=True), Line("reward_std", "spread of rewards", GREY, dash="dot")),
    ),
)


def run_figures(stages: Sequence[StageLog], revision: str) -> dict[str, dict[str, Any]]:
    """All figures of a run by name. Stages stand one after the other on the axis of steps.

    Args:
        revision: names the run, so that its zoom is kept and another run's is not.
    """
    return {panel.name: figure(panel, stages, revision) for panel in PANELS}


def figure(panel: Panel, stages: Sequence[StageLog], revision: str) -> dict[str, Any]:
    """One figure; without lines where nothing of it was logged."""
    data = [trace for line in panel.lines for trace in _traces(line, stages)]
    if panel.name == "accuracy":
        data += _held_out(stages)
    total = sum(stage.steps for stage in stages)
    edge = 0.02 * max(total, 1)  # half a marker stands beyond the first and the last step
    axis: dict[str, Any] = {
        "range": [-edge, max(total, 1) + edge],
        "title": {"text": "step", "standoff": 4},
        "dtick": _tick(total),
    }
    value: dict[str, Any] = {"zeroline": panel.span is None, "nticks": 5}
    if panel.span is not None:
        low, high = panel.span
        value["range"] = [low - 0.03 * (high - low), high + 0.03 * (high - low)]
    layout = {
        "title": {"text": panel.title},
        "xaxis": axis,
        "yaxis": value,
        "uirevision": revision,
        "showlegend": len({trace["name"] for trace in data}) > 1,
        **_borders(stages),
    }
    return {"data": data, "layout": layout}


def _traces(line: Line, stages: Sequence[StageLog]) -> list[dict[str, Any]]:
    """A line over all stages, broken between them; a thin one beneath a smoothed one where there are many points."""
    steps: list[float | None] = []
    values: list[float | None] = []
    smoothed: list[float | None] = []
    first = 0
    for stage in stages:
        points = _points(stage.rows, line.key)
        if points and steps:
            steps, values, smoothed = [*steps, None], [*values, None], [*smoothed, None]
        steps += [first + step + 1 for step, _ in points]
        values += [value for _, value in points]
        smoothed += _smoothed([value for _, value in points])
        first += stage.steps
    if not values:
        return []
    drawn = {"type": "scatter", "mode": "lines", "x": steps, "name": line.name, "legendgroup": line.key}
    style = {"color": line.colour, "width": 1.8, "dash": line.dash}
    if not line.smooth or len(values) < SMOOTHED_FROM:
        mode = "lines+markers" if sum(value is not None for value in values) < SMOOTHED_FROM else "lines"
        return [{**drawn, "mode": mode, "y": _short(values), "line": style, "marker": {"size": 4}}]
    thin = {"showlegend": False, "hoverinfo": "skip", "opacity": 0.3, "line": {**style, "width": 1}}
    return [{**drawn, "y": _short(values), **thin}, {**drawn, "y": _short(smoothed), "line": style}]


def _points(rows: Sequence[Row], key: str) -> list[tuple[int, float]]:
    """(step, value) where there is one, thinned to what can be seen; the last one always stays."""
    found = [(int(row["step"]), float(row[key])) for row in rows if isinstance(row.get(key), (int, float))]
    if len(found) <= MOST_POINTS:
        return found
    stride = -(-len(found) // MOST_POINTS)
    return found[(len(found) - 1) % stride :: stride]


def _smoothed(values: Sequence[float]) -> list[float]:
    """An exponential mean over the last points."""
    keep = 1 - 1 / max(1.0, SMOOTHING_SHARE * len(values))
    found: list[float] = []
    for value in values:
        found.append(value if not found else keep * found[-1] + (1 - keep) * value)
    return found


def _held_out(stages: Sequence[StageLog]) -> list[dict[str, Any]]:
    """Accuracy on held-out pairs, measured between the stages."""
    points: dict[int, float] = {}
    first = 0
    for stage in stages:
        for at, figures in ((first, stage.before), (first + stage.steps, stage.after)):
            value = figures.get("accuracy_without_ties")
            if isinstance(value, (int, float)):
                points[at] = float(value)
        first += stage.steps
    if not points:
        return []
    style = {"color": ACCENT, "width": 1.8}
    return [
        {
            "type": "scatter",
            "mode": "lines+markers",
            "name": "held-out pairs",
            "x": list(points),
            "y": _short(points.values()),
            "line": style,
            "marker": {"size": 8, "symbol": "diamond"},
        }
    ]


def _borders(stages: Sequence[StageLog]) -> dict[str, Any]:
    """Where one stage ends and the next begins, and what they are called."""
    shapes, notes, first = [], [], 0
    for stage in stages:
        if first:
            line = {"color": "var(--line-strong)", "width": 1, "dash": "dot"}
            shapes.append({"type": "line", "x0": first, "x1": first, "yref": "paper", "y0": 0, "y1": 1, "line": line})
        place = {"x": first + stage.steps / 2, "xref": "x", "y": 0, "yref": "paper", "yanchor": "bottom", "showarrow": False}
        notes.append({**place, "text": STAGE_TITLES.get(stage.stage, stage.stage)})
        first += stage.steps
    return {"shapes": shapes, "annotations": notes if len(stages) > 1 else []}


def _short(values: Any) -> list[float | None]:
    """Five digits: what is drawn needs no more, and it is sent to every browser."""
    return [None if value is None else float(f"{value:.5g}") for value in values]


def _tick(total: int) -> int | None:
    """Whole steps on the axis of a short run."""
    return 1 if total <= 6 else None
