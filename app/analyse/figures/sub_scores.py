"""Sub-scores of the thought against those of people (confusion matrix, exact matches, Cohen's kappa) and its overall score.

kappa = (p_o - p_e) / (1 - p_e): the observed agreement beyond what the marginals alone give (Cohen 1960). The same people
score both videos of a pair at once, so intervals resample pairs, never single scores.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import plotly.graph_objects as go

from app.analyse.figures.finding import Cell, Chart, Estimate, Finding, Floats, bootstrap, estimate, share
from app.analyse.figures.judged_pairs import AnalysedCheckpoint
from app.analyse.figures.plot_style import COLOURS, apply_style
from descore.answer import DIMENSIONS, SUB_SCORES
from descore.overall_score import TOLERANCE, check_overall
from storage.analysis.judged_pairs import AnalysedPair

HEAD = ("dimension", "scores", "equal", "Cohen's kappa")
OVERALL_HEAD = ("thoughts", "contradict themselves", "share")
_INDEX = {value: index for index, value in enumerate(SUB_SCORES)}


def confusion(pairs: Sequence[AnalysedPair], dimension: str) -> npt.NDArray[np.int64]:
    """Count sub-scores by pair, people's value and the model's value, shape (pairs with a comparable score, 4, 4)."""
    counts = []
    for pair in pairs:
        if pair.think is None:
            continue
        matrix = np.zeros((len(SUB_SCORES), len(SUB_SCORES)), dtype=np.int64)
        for side, model in zip(("A", "B"), pair.think.sub_scores, strict=True):
            human = pair.human.get(side, {}).get(dimension)
            if human in _INDEX and model is not None:
                matrix[_INDEX[human], _INDEX[model[dimension]]] += 1
        if matrix.any():
            counts.append(matrix)
    return np.array(counts, dtype=np.int64).reshape(-1, len(SUB_SCORES), len(SUB_SCORES))


def cohen_kappa(matrices: Floats) -> Floats:
    """Return the kappa of each confusion matrix, shape (n, values, values); NaN where all scores have the same value."""
    total = matrices.sum(axis=(1, 2))
    with np.errstate(divide="ignore", invalid="ignore"):
        observed = np.trace(matrices, axis1=1, axis2=2) / total
        expected = (matrices.sum(axis=1) * matrices.sum(axis=2)).sum(axis=1) / total**2
        values: Floats = np.where(expected < 1, (observed - expected) / (1 - expected), np.nan)
    return values


def sub_score_agreement(checkpoint: AnalysedCheckpoint) -> Finding:
    """Draw a confusion matrix for each dimension, with its agreement in a row of the table."""
    charts, rows = [], []
    for dimension in DIMENSIONS:
        counts = confusion(checkpoint.pairs, dimension)
        if len(counts):
            charts.append(Chart(dimension, _figure(counts.sum(axis=0))))
            rows.append(_row(dimension, counts))
    title = "Sub-scores"
    if not rows:
        return Finding("sub_scores", title, ("No pair has sub-scores both of people and of this checkpoint's thought.",))
    notes = (
        "Each cell counts the videos by people's score (row) and the model's score (column). On the diagonal they agree.",
        "Cohen's kappa: 1 is perfect; 0 is the agreement by chance of two raters who give their scores this often. "
        "Intervals resample pairs.",
    )
    return Finding("sub_scores", title, notes, tuple(charts), HEAD, tuple(rows))


def overall_contradictions(checkpoint: AnalysedCheckpoint) -> Finding:
    """Count the thoughts whose overall score contradicts their own sub-scores."""
    thoughts = contradicting = 0
    for pair in checkpoint.pairs:
        if pair.think is None:
            continue
        for sub_scores, overall in zip(pair.think.sub_scores, pair.think.overall, strict=True):
            if sub_scores is not None and overall is not None:
                thoughts += 1
                contradicting += check_overall(sub_scores, overall).contradicts
    title = "Overall score against the thought's own sub-scores"
    if not thoughts:
        return Finding("overall_score", title, ("No thought of this checkpoint gives sub-scores and an overall score.",))
    notes = (
        "The sub-scores choose a band for the overall score: subject and dynamics both 0, 1 to 2; one of the two 0, 2 to "
        "3; one 1, 3 to 4; both 2, 4 to 5; all of them 2, 5. Counted are thoughts whose overall score lies outside their "
        f"band by more than {TOLERANCE:g}. The reward does not come from the overall score.",
    )
    row = (thoughts, contradicting, share(contradicting, thoughts))
    return Finding("overall_score", title, notes, (), OVERALL_HEAD, (row,))


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
    apply_style(figure, 230, x="model", y="people")
    figure.update_yaxes(type="category", autorange="reversed", showgrid=False)
    figure.update_xaxes(type="category", showgrid=False)
    return figure
