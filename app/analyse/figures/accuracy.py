"""Accuracy: how often a checkpoint's rewards choose as people do, one row for each checkpoint and mode.

The protocol is that of `descore.metrics`: without ties; with ties at the eps that the checkpoint brings from its own
validation pairs; with ties at the eps that is best on these very pairs, which is what published tables report. The second is
the honest figure, unless the validation pairs are among these pairs, as the held-out pairs are for a checkpoint that was
trained here; the notes say so then.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import plotly.graph_objects as go

from app.analyse.figures.finding import Cell, Chart, Estimate, Finding, Floats, estimate, resample_count, share
from app.analyse.figures.judged_pairs import (
    MODES,
    AnalysedCheckpoint,
    JudgedPairs,
    Labels,
    Mode,
    fitted_here_note,
    judged_pairs,
    trained_on_note,
)
from app.analyse.figures.plot_style import ACCENT, COLOURS, apply_style, dot_trace, name_rows, plain_name
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
    "Without ties: pairs that people call a tie are left out. With ties: three outcomes, A, B and tie; the model says tie "
    "where the two rewards differ by eps or less.",
    "Eps from validation is the checkpoint's own tie threshold, fitted on its validation pairs. The best eps is chosen on "
    "these very pairs, as in published tables, so this accuracy is too high.",
)
UNEQUAL = (
    "The rows count different pairs: each only those that its checkpoint has judged. A difference between two rows may come "
    "from the pairs. Before you compare, have the missing pairs scored, or see Benchmarks.",
)


@dataclass(frozen=True)
class Accuracy:
    """Accuracy of a model on one set of pairs.

    Attributes:
        pairs: number of pairs.
        ties: how many of them people call a tie.
        without_ties: share of correct outcomes among the other pairs.
        with_ties: share of correct outcomes among all pairs, at an eps that was fitted on other pairs.
    """

    pairs: int
    ties: int
    without_ties: Estimate
    with_ties: Estimate


def accuracy(margins: Floats, labels: Labels, fitted_eps: float | None) -> Accuracy:
    """Return both accuracies, undefined where no pair counts.

    Args:
        margins: reward of A minus reward of B, shape (n,).
        labels: +1 for A, -1 for B, 0 for a tie, shape (n,).
        fitted_eps: the tie threshold, in units of the reward; None without a calibration.
    """
    decided = labels != 0
    without_ties = share(int(np.sum(labels * margins > 0)), int(decided.sum()), "people prefer no video")
    with_ties = share(0, 0, "no pairs" if fitted_eps is not None else "no calibration")
    if len(margins) and fitted_eps is not None:
        with_ties = share(round(accuracy_with_ties_at(margins, labels, fitted_eps) * len(margins)), len(margins))
    return Accuracy(len(margins), int((~decided).sum()), without_ties, with_ties)


def accuracy_at_best_eps(margins: Floats, labels: Labels) -> tuple[Estimate, float | None]:
    """Return the accuracy with ties at the eps that is best on these pairs, and that eps.

    Each bootstrap draw of the interval fits an eps of its own.
    """
    if not len(margins):
        return share(0, 0), None
    best = best_tie_threshold(margins, labels)
    interval = bootstrap_with_ties(margins, labels, resample_count(len(margins)))
    return estimate(best.accuracy, interval, len(margins), percent=True), best.eps


def accuracy_of(judged: JudgedPairs, fitted_eps: float | None) -> Accuracy:
    """Return the `accuracy` of judged pairs."""
    return accuracy(judged.margins, judged.labels, fitted_eps)


def accuracy_by_checkpoint(checkpoints: Sequence[AnalysedCheckpoint]) -> Finding:
    """Tabulate the accuracy of each checkpoint and mode with at least one judged and labelled pair."""
    rows = [row for checkpoint in checkpoints for mode in MODES if (row := _row(checkpoint, mode)) is not None]
    if not rows:
        return Finding(
            "accuracy",
            "Agreement with people",
            ("No labelled pair has been judged by these checkpoints yet.", *trained_on_note(checkpoints)),
        )
    fitted_here = [checkpoint.name for checkpoint in checkpoints if checkpoint.fitted_here]
    notes = (*NOTES, *trained_on_note(checkpoints), *_unequal(checkpoints), *fitted_here_note(fitted_here))
    return Finding("accuracy", "Agreement with people", notes, (Chart("", _figure(rows)),), HEAD, tuple(rows))


def _unequal(checkpoints: Sequence[AnalysedCheckpoint]) -> tuple[str, ...]:
    """Return a warning where two rows of the table count different pairs."""
    judged = [judged_pairs(checkpoint.fair_pairs, mode).pairs for checkpoint in checkpoints for mode in MODES]
    different = {frozenset(pair.pair_id for pair in pairs) for pairs in judged if pairs}
    return UNEQUAL if len(different) > 1 else ()


def _row(checkpoint: AnalysedCheckpoint, mode: Mode) -> tuple[Cell, ...] | None:
    judged, eps = judged_pairs(checkpoint.fair_pairs, mode), checkpoint.tie_threshold(mode)
    if not len(judged):
        return None
    measured = accuracy_of(judged, eps)
    best = accuracy_at_best_eps(judged.margins, judged.labels)
    return checkpoint.name, mode, measured.pairs, measured.ties, measured.without_ties, measured.with_ties, eps, *best


def _figure(rows: Sequence[tuple[Cell, ...]]) -> go.Figure:
    figure = go.Figure()
    names = [plain_name(f"{row[0]}, {row[1]}") for row in rows]
    series = (
        ("accuracy without ties", ACCENT, "circle", -0.2),
        ("with ties, eps from validation", COLOURS["ink"], "diamond", 0.0),
        ("with ties, best eps", COLOURS["faint"], "circle-open", 0.2),
    )
    for column, colour, symbol, shift in series:
        values = [cell for row in rows if isinstance(cell := row[HEAD.index(column)], Estimate)]
        figure.add_trace(dot_trace(names, values, name=column, colour=colour, symbol=symbol, shift=shift))
    apply_style(figure, 100 + 44 * len(names), x="accuracy, %")
    name_rows(figure, names)
    figure.update_xaxes(range=[0, 101])
    return figure
