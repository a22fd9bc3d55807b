"""How often a checkpoint's rewards choose as people do, one line for each checkpoint and way of asking.

The protocol is `descore.metrics`: without ties; with ties at the eps that the checkpoint brings from its own validation
pairs, and at the eps that is best on these very pairs (what published tables report). The former is the honest figure unless
the validation pairs are among these, as the held-out pairs are for a checkpoint that was trained here; the notes say so.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import plotly.graph_objects as go

from app.analyse.figures.finding import Cell, Chart, Estimate, Finding, estimate, resamples_for, share
from app.analyse.figures.judged_pairs import (
    WAYS,
    AnalysedCheckpoint,
    Floats,
    Judged,
    Labels,
    Way,
    fitted_here_note,
    judged_pairs,
)
from app.analyse.figures.plot_style import ACCENT, COLOURS, dots, finish, plain, rows_axis
from descore.metrics import accuracy_with_ties_at, best_tie_threshold, bootstrap_with_ties

HEAD = (
    "checkpoint",
    "asked",
    "pairs",
    "ties",
    "accuracy without ties",
    "with ties, eps from validation",
    "eps from validation",
    "with ties, best eps",
    "best eps",
)
NOTES = (
    "Without ties: pairs that people call a tie are left out. With ties: A, B and tie, where the model says tie when the "
    "two rewards differ by eps or less.",
    "Eps from validation is the checkpoint's own tie threshold, fitted on its validation pairs. The best eps is chosen on "
    "these very pairs, as published tables do; it flatters.",
)
UNEQUAL = (
    "Not all lines are of the same pairs: each counts those that it has judged. A difference between two lines may come "
    "from the pairs; have the missing ones scored, or look at Benchmarks, before you compare.",
)


@dataclass(frozen=True)
class Accuracy:
    """What a model gets right of one set of pairs. at_fitted: with ties, at an eps from elsewhere."""

    pairs: int
    ties: int
    without_ties: Estimate
    at_fitted: Estimate


def accuracy(margins: Floats, labels: Labels, fitted_eps: float | None) -> Accuracy:
    """The figures that need no eps of their own; undefined ones where there is nothing to compute them from.

    Args:
        margins, labels: shape (n,) each. fitted_eps: in units of the reward.
    """
    decided = labels != 0
    without = share(int(np.sum(labels * margins > 0)), int(decided.sum()), "people prefer no video")
    at_fitted = share(0, 0, "no pairs" if fitted_eps is not None else "no calibration")
    if len(margins) and fitted_eps is not None:
        at_fitted = share(round(accuracy_with_ties_at(margins, labels, fitted_eps) * len(margins)), len(margins))
    return Accuracy(len(margins), int((~decided).sum()), without, at_fitted)


def at_best_eps(margins: Floats, labels: Labels) -> tuple[Estimate, float | None]:
    """Accuracy with ties at the eps that is best on these pairs, and that eps; its interval fits eps anew in each draw."""
    if not len(margins):
        return share(0, 0), None
    best = best_tie_threshold(margins, labels)
    interval = bootstrap_with_ties(margins, labels, resamples_for(len(margins)))
    return estimate(best.accuracy, interval, len(margins), percent=True), best.eps


def accuracy_of(judged: Judged, fitted_eps: float | None) -> Accuracy:
    """`accuracy` of judged pairs."""
    return accuracy(judged.margins, judged.labels, fitted_eps)


def accuracy_by_checkpoint(checkpoints: Sequence[AnalysedCheckpoint]) -> Finding:
    """A line for each checkpoint and way of asking that has judged at least one labelled pair."""
    rows = [row for one in checkpoints for way in WAYS if (row := _row(one, way)) is not None]
    if not rows:
        return Finding("accuracy", "Agreement with people", ("No labelled pair has been judged by these checkpoints yet.",))
    notes = (*NOTES, *_unequal(checkpoints), *fitted_here_note(one.name for one in checkpoints if one.fitted_here))
    return Finding("accuracy", "Agreement with people", notes, (Chart("", _figure(rows)),), HEAD, tuple(rows))


def _unequal(checkpoints: Sequence[AnalysedCheckpoint]) -> tuple[str, ...]:
    """A warning where two lines of the table are of different pairs."""
    judged = {frozenset(pair.pair_id for pair in judged_pairs(one.pairs, way).pairs) for one in checkpoints for way in WAYS}
    return UNEQUAL if len(judged - {frozenset()}) > 1 else ()


def _row(checkpoint: AnalysedCheckpoint, way: Way) -> tuple[Cell, ...] | None:
    judged, eps = judged_pairs(checkpoint.pairs, way), checkpoint.tie_threshold(way)
    if not len(judged):
        return None
    found, best = accuracy_of(judged, eps), at_best_eps(judged.margins, judged.labels)
    return checkpoint.name, way, found.pairs, found.ties, found.without_ties, found.at_fitted, eps, *best


def _figure(rows: Sequence[tuple[Cell, ...]]) -> go.Figure:
    figure, names = go.Figure(), [plain(f"{row[0]}, {row[1]}") for row in rows]
    series = (
        ("accuracy without ties", ACCENT, "circle", -0.2),
        ("with ties, eps from validation", COLOURS["ink"], "diamond", 0.0),
        ("with ties, best eps", COLOURS["faint"], "circle-open", 0.2),
    )
    for column, colour, symbol, shift in series:
        values = [one for row in rows if isinstance(one := row[HEAD.index(column)], Estimate)]
        figure.add_trace(dots(names, values, name=column, colour=colour, symbol=symbol, shift=shift))
    finish(figure, 100 + 44 * len(names), x="accuracy, %")
    rows_axis(figure, names)
    figure.update_xaxes(range=[0, 101])
    return figure
