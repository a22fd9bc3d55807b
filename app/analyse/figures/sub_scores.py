"""The five sub-scores of the thought against those of people: confusion, exact matches, Cohen's kappa.

kappa = (p_o - p_e) / (1 - p_e): observed agreement over what the marginals alone would give (Cohen 1960). Both videos of
a pair were scored by the same people at once, so intervals resample pairs, never single scores.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import plotly.graph_objects as go

from app.analyse.figures.finding import Cell, Chart, Estimate, Finding, bootstrap, estimate
from app.analyse.figures.judged_pairs import AnalysedCheckpoint, Floats
from app.analyse.figures.plot_style import COLOURS, finish
from descore.answer import DIMENSIONS, SUB_SCORES
from storage.analysis.judged_pairs import AnalysedPair

HEAD = ("dimension", "scores", "equal", "Cohen's kappa")
_PLACE = {value: place for place, value in enumerate(SUB_SCORES)}


def confusion(pairs: Sequence[AnalysedPair], dimension: str) -> npt.NDArray[np.int64]:
    """Counts by pair, human value and the model's value, shape (pairs with a comparable score, 4, 4)."""
    counts = []
    for pair in pairs:
        if pair.think is None:
            continue
        matrix = np.zeros((len(SUB_SCORES), len(SUB_SCORES)), dtype=np.int64)
        for side, said in zip(("A", "B"), pair.think.sub_scores, strict=True):
            human = pair.human.get(side, {}).get(dimension)
            if human in _PLACE and said is not None:
                matrix[_PLACE[human], _PLACE[said[dimension]]] += 1
        if matrix.any():
            counts.append(matrix)
    return np.array(counts, dtype=np.int64).reshape(-1, len(SUB_SCORES), len(SUB_SCORES))


def cohen_kappa(matrices: Floats) -> Floats:
    """Kappa of each confusion matrix (n, values, values); NaN where one value is all that was ever given."""
    total = matrices.sum(axis=(1, 2))
    with np.errstate(divide="ignore", invalid="ignore"):
        observed = np.trace(matrices, axis1=1, axis2=2) / total
        expected = (matrices.sum(axis=1) * matrices.sum(axis=2)).sum(axis=1) / total**2
        values: Floats = np.where(expected < 1, (observed - expected) / (1 - expected), np.nan)
    return values


def sub_score_agreement(checkpoint: AnalysedCheckpoint) -> Finding:
    """A confusion matrix and a line for each dimension."""
    charts, rows = [], []
    for dimension in DIMENSIONS:
        counts = confusion(checkpoint.pairs, dimension)
        if len(counts):
            charts.append(Chart(dimension, _figure(counts.sum(axis=0))))
            rows.append(_row(dimension, counts))
    title = "Sub-scores"
    if not rows:
        nothing = "No pair has sub-scores of people and a thought of this checkpoint whose sub-scores could be read."
        return Finding("sub_scores", title, (nothing,))
    notes = (
        "Each cell: how many videos people scored so (row) and the model so (column). On the diagonal they agree.",
        "Cohen's kappa: 1 is perfect, 0 what the two habits alone would give by chance. Intervals resample pairs.",
    )
    return Finding("sub_scores", title, notes, tuple(charts), HEAD, tuple(rows))


def _row(dimension: str, counts: npt.NDArray[np.int64]) -> tuple[Cell, ...]:
    cells = counts.reshape(len(counts), -1).astype(np.float64)
    scores, on_diagonal = cells.sum(axis=1), np.trace(counts, axis1=1, axis2=2)

    def equal(drawn: npt.NDArray[np.int64]) -> Floats:
        shares: Floats = on_diagonal[drawn].sum(axis=1) / scores[drawn].sum(axis=1)
        return shares

    def kappa(drawn: npt.NDArray[np.int64]) -> Floats:
        weights = np.stack([np.bincount(draw, minlength=len(counts)) for draw in drawn])
        return cohen_kappa((weights @ cells).reshape(-1, len(SUB_SCORES), len(SUB_SCORES)))

    value = float(cohen_kappa(counts.sum(axis=0, keepdims=True).astype(np.float64))[0])
    exact = estimate(float(on_diagonal.sum() / scores.sum()), bootstrap(equal, len(counts)), len(counts), percent=True)
    if np.isnan(value):
        return dimension, int(scores.sum()), exact, Estimate(None, None, None, len(counts), why="all scores are the same")
    return dimension, int(scores.sum()), exact, estimate(value, bootstrap(kappa, len(counts)), len(counts))


def _figure(counts: npt.NDArray[np.int64]) -> go.Figure:
    of_row = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    figure = go.Figure(
        go.Heatmap(
            z=100 * of_row,
            x=list(SUB_SCORES),
            y=list(SUB_SCORES),
            text=np.where(counts > 0, counts.astype(str), ""),
            texttemplate="%{text}",
            colorscale=[[0, COLOURS["panel"]], [1, COLOURS["accent"]]],
            zmin=0,
            zmax=100,
            showscale=False,
            xgap=2,
            ygap=2,
            hovertemplate="people %{y}, model %{x}<br>%{text} videos, %{z:.0f} % of the row<extra></extra>",
        )
    )
    finish(figure, 230, x="model", y="people")
    figure.update_yaxes(type="category", autorange="reversed", showgrid=False)
    figure.update_xaxes(type="category", showgrid=False)
    return figure
