"""How the reward margins lie by what people said: A preferred, a tie, B preferred. What overlaps can't be told apart."""

from __future__ import annotations

import numpy as np
import plotly.graph_objects as go

from app.analyse.figures.finding import Cell, Chart, Finding, share
from app.analyse.figures.judged_pairs import SIGN, WAYS, AnalysedCheckpoint, Judged, Way, judged_pairs
from app.analyse.figures.plot_style import COLOURS, SIDE, finish

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
_COLUMNS = (12, 40)


def margin_spread(checkpoint: AnalysedCheckpoint) -> Finding:
    """A histogram and three lines for each way of asking."""
    charts, rows = [], []
    for way in WAYS:
        judged = judged_pairs(checkpoint.pairs, way)
        if len(judged):
            eps = checkpoint.tie_threshold(way)
            charts.append(Chart("asked to think" if way == "think" else "asked quickly", _figure(judged, eps)))
            rows += _rows(judged, way, eps)
    title = "Margins by human label"
    if not rows:
        return Finding("margins", title, ("No labelled pair has been judged by this checkpoint yet.",))
    notes = (
        "Margin: reward of A less reward of B. Each curve of bars sums to 100 %; the shaded band is where the model says "
        "tie. A good model keeps blue at the right and orange at the left.",
    )
    return Finding("margins", title, notes, tuple(charts), HEAD, tuple(rows))


def _rows(judged: Judged, way: Way, eps: float | None) -> list[tuple[Cell, ...]]:
    rows: list[tuple[Cell, ...]] = []
    for choice, sign in SIGN.items():
        margins = judged.margins[judged.labels == sign]
        if not len(margins):
            continue
        quartiles = [float(one) for one in np.quantile(margins, [0.25, 0.5, 0.75])]
        tied = np.abs(margins) <= (eps or 0.0)
        chosen = share(int(np.sum((margins > 0) & ~tied)), len(margins))
        rows.append((way, NAMES[choice], len(margins), *quartiles, chosen, share(int(tied.sum()), len(margins))))
    return rows


def _figure(judged: Judged, eps: float | None) -> go.Figure:
    figure = go.Figure()
    reach = max(1e-9, float(np.abs(judged.margins).max()))
    columns = int(np.clip(3 * np.sqrt(len(judged)), *_COLUMNS))
    edges = np.linspace(-reach, reach, columns + 1)
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
    finish(figure, 290, x="reward of A less reward of B", y="% of these pairs")
    figure.update_layout(barmode="overlay", bargap=0.05)
    if eps:
        figure.add_vrect(x0=-eps, x1=eps, fillcolor=COLOURS["accent-soft"], layer="below", line_width=0)
    return figure
