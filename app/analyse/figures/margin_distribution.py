"""Distribution of the reward margins by people's choice. Where they overlap, the model can't tell pairs apart."""

from __future__ import annotations

import numpy as np
import plotly.graph_objects as go

from app.analyse.figures.finding import Cell, Chart, Finding, share
from app.analyse.figures.judged_pairs import (
    MODE_TITLES,
    MODES,
    NO_EPS,
    SIGN,
    AnalysedCheckpoint,
    JudgedPairs,
    Mode,
    judged_pairs,
)
from app.analyse.figures.plot_style import COLOURS, SIDE, apply_style

NAMES = {"A": "people prefer A", "tie": "people say tie", "B": "people prefer B"}
HEAD = (
    "asked",
    "people say",
    "pairs",
    "lower quartile",
    "median margin",
    "upper quartile",
    "model prefers A",
    "model says tie",
)
_BINS = (12, 40)  # of a histogram: the fewest and the most


def margin_distribution(checkpoint: AnalysedCheckpoint) -> Finding:
    """Draw a histogram of the margins for each mode, with a row of quartiles for each choice."""
    charts, rows = [], []
    for mode in MODES:
        judged = judged_pairs(checkpoint.pairs, mode)
        if len(judged):
            eps = checkpoint.tie_threshold(mode)
            charts.append(Chart(MODE_TITLES[mode], _figure(judged, eps)))
            rows += _rows(judged, mode, eps)
    title = "Margins by human label"
    if not rows:
        return Finding("margins", title, ("No labelled pair has been judged by this checkpoint yet.",))
    notes = (
        "Margin: reward of A minus reward of B. The bars of each colour sum to 100 %; in the shaded band the model says "
        "tie. A good model has blue on the right and orange on the left.",
        *(() if checkpoint.calibrations else (NO_EPS,)),
    )
    return Finding("margins", title, notes, tuple(charts), HEAD, tuple(rows))


def _rows(judged: JudgedPairs, mode: Mode, eps: float | None) -> list[tuple[Cell, ...]]:
    rows: list[tuple[Cell, ...]] = []
    for choice, sign in SIGN.items():
        margins = judged.margins[judged.labels == sign]
        if not len(margins):
            continue
        quartiles = [float(value) for value in np.quantile(margins, [0.25, 0.5, 0.75])]
        tied = np.abs(margins) <= (eps or 0.0)
        prefers_a = share(int(np.sum((margins > 0) & ~tied)), len(margins))
        rows.append((mode, NAMES[choice], len(margins), *quartiles, prefers_a, share(int(tied.sum()), len(margins))))
    return rows


def _figure(judged: JudgedPairs, eps: float | None) -> go.Figure:
    figure = go.Figure()
    reach = max(1e-9, float(np.abs(judged.margins).max()))
    bins = int(np.clip(3 * np.sqrt(len(judged)), *_BINS))
    edges = np.linspace(-reach, reach, bins + 1)
    middles = (edges[:-1] + edges[1:]) / 2
    for choice in ("B", "tie", "A"):
        margins = judged.margins[judged.labels == SIGN[choice]]
        if not len(margins):
            continue
        counts, _ = np.histogram(margins, edges)
        figure.add_trace(
            go.Bar(
                x=middles.tolist(),
                y=(100 * counts / len(margins)).tolist(),
                name=f"{NAMES[choice]}, n = {len(margins)}",
                marker={"color": SIDE[choice], "line": {"width": 0}},
                opacity=0.6,
                customdata=counts.tolist(),
                hovertemplate="margin %{x:.3g}: %{customdata} pairs, %{y:.0f} %<extra></extra>",
            )
        )
    apply_style(figure, 290, x="reward of A minus reward of B", y="% of these pairs")
    figure.update_layout(barmode="overlay", bargap=0.05)
    if eps:
        figure.add_vrect(x0=-eps, x1=eps, fillcolor=COLOURS["accent-soft"], layer="below", line_width=0)
    return figure
