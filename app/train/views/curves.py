"""Curves of a run as plain Plotly figures, {"data": [...], "layout": {...}}.

Colours are names of the page's styles (`var(--accent)`), which the browser replaces by their values, light or dark. A figure
keeps its position, axes and zoom while points come in.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from app.ui.figure_text import figure_text
from app.ui.wording import STAGES

MOST_POINTS = 400  # a line; more can't be seen
SMOOTHED_FROM = 24  # points; a shorter line is shown as it is
SMOOTHING_SHARE = 0.06  # of the points go into a smoothed value; the newest counts most

Row = Mapping[str, Any]


@dataclass(frozen=True)
class StageLog:
    """Log of a stage.

    Attributes:
        stage: its name.
        steps: number of steps that it will make.
        rows: of its metrics, one a step.
        before: figures on held-out pairs before the stage, {} where unknown.
        after: likewise after it.
    """

    stage: str
    steps: int
    rows: Sequence[Row]
    before: Mapping[str, Any]
    after: Mapping[str, Any]


@dataclass(frozen=True)
class Curve:
    """One metric of the log, and how it is drawn.

    Attributes:
        key: of the metric in the log.
        name: in the legend.
        colour: name of a style.
        smooth: whether a smoothed line is drawn over a thin one.
        dash: Plotly's name of the line's pattern.
    """

    key: str
    name: str
    colour: str
    smooth: bool = False
    dash: str = "solid"


@dataclass(frozen=True)
class CurvePanel:
    """One small figure.

    Attributes:
        name: of the figure on the page.
        title: above it.
        curves: its lines.
        about: what it shows and how to read it, below it.
        span: least and greatest value of the axis; None to fit the values.
        from_zero: whether an axis that fits the values begins at 0.
    """

    name: str
    title: str
    about: str
    curves: tuple[Curve, ...]
    span: tuple[float, float] | None = None
    from_zero: bool = False


ACCENT, BLUE, ORANGE, GREY = "var(--accent)", "var(--a)", "var(--b)", "var(--faint)"
PANELS = (
    CurvePanel(
        "loss",
        "Losses",
        "What training lowers. In dual RL the policy's loss hovers around zero whatever is learnt; watch the reward.",
        (
            Curve("loss", "whole", ACCENT, smooth=True),
            Curve("anchor_loss", "tokens", GREY),
            Curve("policy_loss", "policy", BLUE),
            Curve("bradley_terry", "Bradley-Terry", ORANGE),
        ),
    ),
    CurvePanel(
        "reward",
        "Reward of the rollouts",
        "What sampled thoughts earn by rule, from 0 to 1. Length alone should not be what rises.",
        (
            Curve("reward", "whole", ACCENT, smooth=True),
            Curve("reward_quality", "sub-scores", BLUE),
            Curve("reward_format", "format", ORANGE),
            Curve("reward_length", "length", GREY),
        ),
        (0.0, 1.0),
    ),
    CurvePanel(
        "accuracy",
        "Accuracy, without ties",
        "How often the reward orders a pair as people did. Diamonds are all held-out pairs, between the stages.",
        (
            Curve("accuracy", "pairs of the step", GREY, smooth=True),
            Curve("held_out_accuracy", "some held-out pairs", BLUE, dash="dot"),
        ),
        (0.0, 1.0),
    ),
    CurvePanel(
        "drift",
        "Drift of the rewards",
        "How far the rewards of the same few videos have moved. With a steady spread only their zero has moved.",
        (
            Curve("drift", "mean change", ACCENT),
            Curve("drift_abs", "mean size", ORANGE),
            Curve("anchor_spread", "spread", GREY, dash="dot"),
        ),
    ),
    CurvePanel(
        "length",
        "Length of the thoughts, tokens",
        "Mean of the rollouts. Where it rises up to the limit and repetition with it, length is earning the reward.",
        (Curve("thought_tokens", "mean", ACCENT, smooth=True),),
    ),
    CurvePanel(
        "margin",
        "Margin, chosen over rejected",
        "How far the reward of the preferred video leads, beside how far rewards of all videos differ.",
        (Curve("margin", "mean margin", ACCENT, smooth=True), Curve("reward_std", "spread of rewards", GREY, dash="dot")),
    ),
    CurvePanel(
        "health",
        "Health of the rollouts, shares",
        "Rollouts that the limit of tokens ended; groups whose rollouts all got the same reward, so that nothing is learnt "
        "from them; 4-grams of a thought that stood in it before. All should stay low.",
        (
            Curve("cut_off", "cut off", ORANGE),
            Curve("no_spread", "no spread", BLUE, smooth=True),
            Curve("repetition", "repeated", GREY),
        ),
        (0.0, 1.0),
    ),
    CurvePanel(
        "entropy",
        "Entropy of the policy, nats a token",
        "How undecided the model is at each token. It falls slowly; near zero all rollouts of a video are the same.",
        (Curve("entropy", "entropy", ACCENT, smooth=True),),
        from_zero=True,
    ),
    CurvePanel(
        "outside",
        "Tokens outside the clip, share",
        "Tokens that the trained model finds much likelier or unlikelier than the engine that sampled them, which should be "
        "near zero, and tokens whose loss was clipped.",
        (Curve("sampler_ratio_outside", "model against sampler", ORANGE), Curve("clip_share", "clipped", GREY)),
        from_zero=True,
    ),
)


def run_figures(stages: Sequence[StageLog], revision: str) -> dict[str, dict[str, Any]]:
    """Draw all figures of a run, by name. Stages stand one after the other on the axis of steps.

    Args:
        stages: logs in order.
        revision: names the run, so that its zoom is kept and another run's is not.
    """
    return {panel.name: panel_figure(panel, stages, revision) for panel in PANELS}


def panel_figure(panel: CurvePanel, stages: Sequence[StageLog], revision: str) -> dict[str, Any]:
    """Draw one figure; it has no lines where nothing was logged."""
    data = [trace for curve in panel.curves for trace in curve_traces(curve, stages)]
    if panel.name == "accuracy":
        data += held_out_line(stages)
    layout = {
        **panel_layout(panel, sum(stage.steps for stage in stages), revision),
        "showlegend": len({trace["name"] for trace in data}) > 1,
        **_borders(stages),
    }
    return {
        "data": data,
        "layout": layout,
        "about": panel.about,
        "text": figure_text(panel.title, {"data": data, "layout": layout}),
    }


def panel_layout(panel: CurvePanel, total: int, revision: str) -> dict[str, Any]:
    """Return title and axes of a panel; total: number of steps on its axis."""
    edge = 0.02 * max(total, 1)  # half a marker stands beyond the first and the last step
    x_axis: dict[str, Any] = {
        "range": [-edge, max(total, 1) + edge],
        "title": {"text": "step", "standoff": 4},
        "dtick": _tick(total),
    }
    y_axis: dict[str, Any] = {"zeroline": panel.span is None, "nticks": 5}
    if panel.from_zero:
        y_axis["rangemode"] = "tozero"
    if panel.span is not None:
        low, high = panel.span
        y_axis["range"] = [low - 0.03 * (high - low), high + 0.03 * (high - low)]
    return {"title": {"text": panel.title}, "xaxis": x_axis, "yaxis": y_axis, "uirevision": revision}


def curve_traces(curve: Curve, stages: Sequence[StageLog]) -> list[dict[str, Any]]:
    """Draw a line over all stages, broken between them, with a smoothed one above it where there are many points."""
    steps: list[float | None] = []
    values: list[float | None] = []
    smoothed: list[float | None] = []
    first = 0
    for stage in stages:
        points = _points(stage.rows, curve.key)
        if points and steps:
            steps, values, smoothed = [*steps, None], [*values, None], [*smoothed, None]
        steps += [first + step + 1 for step, _ in points]
        values += [value for _, value in points]
        smoothed += _smoothed([value for _, value in points])
        first += stage.steps
    if not values:
        return []
    drawn = {"type": "scatter", "mode": "lines", "x": steps, "name": curve.name, "legendgroup": curve.key}
    style = {"color": curve.colour, "width": 1.8, "dash": curve.dash}
    if not curve.smooth or len(values) < SMOOTHED_FROM:
        mode = "lines+markers" if sum(value is not None for value in values) < SMOOTHED_FROM else "lines"
        return [{**drawn, "mode": mode, "y": _short(values), "line": style, "marker": {"size": 4}}]
    thin = {"showlegend": False, "hoverinfo": "skip", "opacity": 0.3, "line": {**style, "width": 1}}
    return [{**drawn, "y": _short(values), **thin}, {**drawn, "y": _short(smoothed), "line": style}]


def _points(rows: Sequence[Row], key: str) -> list[tuple[int, float]]:
    """Return (step, value) of each logged value, thinned to what can be seen; the last one always stays."""
    points = [(int(row["step"]), float(row[key])) for row in rows if isinstance(row.get(key), (int, float))]
    if len(points) <= MOST_POINTS:
        return points
    stride = -(-len(points) // MOST_POINTS)
    return points[(len(points) - 1) % stride :: stride]


def _smoothed(values: Sequence[float]) -> list[float]:
    """Return an exponential mean over the last points."""
    keep = 1 - 1 / max(1.0, SMOOTHING_SHARE * len(values))
    means: list[float] = []
    for value in values:
        means.append(value if not means else keep * means[-1] + (1 - keep) * value)
    return means


def held_out_line(stages: Sequence[StageLog]) -> list[dict[str, Any]]:
    """Draw the accuracy on held-out pairs, which is measured between the stages."""
    points: dict[int, float] = {}
    first = 0
    for stage in stages:
        for step, figures in ((first, stage.before), (first + stage.steps, stage.after)):
            value = figures.get("accuracy_without_ties")
            if isinstance(value, (int, float)):
                points[step] = float(value)
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
    """Draw the borders between stages, and their names."""
    shapes, notes, first = [], [], 0
    for stage in stages:
        if first:
            line = {"color": "var(--line-strong)", "width": 1, "dash": "dot"}
            shapes.append({"type": "line", "x0": first, "x1": first, "yref": "paper", "y0": 0, "y1": 1, "line": line})
        position = {
            "x": first + stage.steps / 2,
            "xref": "x",
            "y": 0,
            "yref": "paper",
            "yanchor": "bottom",
            "showarrow": False,
        }
        notes.append({**position, "text": STAGES.get(stage.stage, stage.stage)})
        first += stage.steps
    return {"shapes": shapes, "annotations": notes if len(stages) > 1 else []}


def _short(values: Any) -> list[float | None]:
    """Round to five digits: a figure needs no more, and every browser gets it."""
    return [None if value is None else float(f"{value:.5g}") for value in values]


def _tick(total: int) -> int | None:
    """Return the distance of ticks that gives whole steps on the axis of a short run; None leaves it to Plotly."""
    return 1 if total <= 6 else None
