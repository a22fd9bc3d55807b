"""Mode "think" against mode "quick" on the same pairs: whether the thought improves the accuracy."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import plotly.graph_objects as go

from app.analyse.figures.accuracy import accuracy_of
from app.analyse.figures.finding import Cell, Chart, Finding, Floats, bootstrap, estimate
from app.analyse.figures.judged_pairs import AnalysedCheckpoint, judged_pairs, pair_score, trained_on_note
from app.analyse.figures.plot_style import ACCENT, COLOURS, apply_style, name_rows, plain_name, rows_height

HEAD = (
    "checkpoint",
    "pairs",
    "think, without ties",
    "quick, without ties",
    "difference",
    "both right",
    "only think",
    "only quick",
    "both wrong",
)
OUTCOMES = (
    ("both right", COLOURS["accent-line"]),
    ("only think", ACCENT),
    ("only quick", COLOURS["ink"]),
    ("both wrong", COLOURS["line-strong"]),
)


def think_vs_quick(checkpoints: Sequence[AnalysedCheckpoint]) -> Finding:
    """Compare the modes of each checkpoint that has judged labelled pairs in both."""
    rows = [row for row in map(_row, checkpoints) if row is not None]
    title = "Think against quick"
    if not rows:
        return Finding("ways", title, ("No labelled pair has been judged both with and without a thought.",))
    notes = (
        "Pairs that were judged in both modes and that people do not call a tie. The difference is in percentage points, "
        "with its paired interval: the thought helps where the whole interval is above 0.",
        *trained_on_note(checkpoints),
    )
    return Finding("ways", title, notes, (Chart("", _figure(rows)),), HEAD, tuple(rows))


def _row(checkpoint: AnalysedCheckpoint) -> tuple[Cell, ...] | None:
    both = [pair for pair in checkpoint.fair_pairs if pair_score(pair, "think") and pair_score(pair, "quick")]
    think, quick = judged_pairs(both, "think"), judged_pairs(both, "quick")
    if not think.decided.any():
        return None
    with_thought, without = think.correct[think.decided], quick.correct[think.decided]
    gain = with_thought.astype(np.float64) - without

    def mean(drawn: np.ndarray) -> Floats:
        means: Floats = gain[drawn].mean(axis=1)
        return means

    return (
        checkpoint.name,
        len(gain),
        accuracy_of(think, None).without_ties,
        accuracy_of(quick, None).without_ties,
        estimate(float(gain.mean()), bootstrap(mean, len(gain)), len(gain), percent=True),
        int(np.sum(with_thought & without)),
        int(np.sum(with_thought & ~without)),
        int(np.sum(~with_thought & without)),
        int(np.sum(~with_thought & ~without)),
    )


def _figure(rows: Sequence[tuple[Cell, ...]]) -> go.Figure:
    figure = go.Figure()
    names = [plain_name(str(row[0])) for row in rows]
    for column, (name, colour) in enumerate(OUTCOMES, start=len(HEAD) - len(OUTCOMES)):
        shares = [100 * row[column] / row[1] for row in rows]  # type: ignore[operator]
        figure.add_trace(
            go.Bar(
                x=shares,
                y=list(range(len(rows))),
                orientation="h",
                name=name,
                marker={"color": colour},
                customdata=[row[column] for row in rows],
                hovertemplate=name + ": %{customdata} pairs, %{x:.0f} %<extra></extra>",
            )
        )
    apply_style(figure, rows_height(len(rows), legend=True), x="% of the pairs")
    figure.update_layout(barmode="stack", bargap=0.45, legend={"traceorder": "normal"})
    figure.update_xaxes(range=[0, 100.5])
    name_rows(figure, names)
    return figure
