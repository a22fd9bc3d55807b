"""Error tolerance: whether the reward is still right where the thought is wrong.

The reward is read at the query token, which sees the video as well as the thought, so a wrong sub-score need not lead to a
wrong reward. Pairs are grouped by the number of sub-scores, over both videos, in which the thoughts differ from people.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import plotly.graph_objects as go

from app.analyse.figures.accuracy import accuracy_of
from app.analyse.figures.finding import Cell, Chart, Estimate, Finding
from app.analyse.figures.judged_pairs import AnalysedCheckpoint, judged_pairs, trained_on_note
from app.analyse.figures.plot_style import apply_style, dot_trace, name_rows, rows_height
from descore.answer import DIMENSIONS
from storage.analysis.judged_pairs import AnalysedPair

HEAD = ("sub-scores that differ from people's", "pairs", "ties", "accuracy without ties", "with ties, eps from validation")
GROUPS = ("none", "one", "two", "three or more")
ANY = "any"  # the row of all pairs with at least one wrong sub-score


def wrong_sub_scores(pair: AnalysedPair) -> int | None:
    """Count the sub-scores of the thoughts that differ from people's; None where none can be compared."""
    if pair.think is None:
        return None
    compared = wrong = 0
    for side, model in zip(("A", "B"), pair.think.sub_scores, strict=True):
        for name in DIMENSIONS:
            human = pair.human.get(side, {}).get(name)
            if human is not None and model is not None:
                compared += 1
                wrong += human != model[name]
    return wrong if compared else None


def error_tolerance(checkpoint: AnalysedCheckpoint) -> Finding:
    """Tabulate the accuracy by the number of wrong sub-scores: none, one, two, three or more."""
    title = "Error tolerance"
    judged = judged_pairs(checkpoint.fair_pairs, "think")
    counts = [wrong_sub_scores(pair) for pair in judged.pairs]
    wrong = np.array([-1 if count is None else min(count, len(GROUPS) - 1) for count in counts], dtype=np.int64)
    if not (wrong >= 0).any():
        return Finding("error_tolerance", title, ("No labelled pair has both people's sub-scores and those of a thought.",))
    masks = {name: wrong == number for number, name in enumerate(GROUPS)} | {ANY: wrong > 0}
    eps = checkpoint.tie_threshold("think")
    rows = []
    for name, mask in masks.items():
        if mask.any():
            measured = accuracy_of(judged.where(mask), eps)
            rows.append((name, measured.pairs, measured.ties, measured.without_ties, measured.with_ties))
    notes = (
        "Accuracy of the reward by the number of sub-scores, of ten in the two thoughts, that differ from people's. A "
        "tolerant model stays well above 50 % where its thought is wrong; one that only adds up its sub-scores does not.",
        *trained_on_note([checkpoint]),
    )
    charts = (Chart("", _figure([row for row in rows if row[0] != ANY])),)
    return Finding("error_tolerance", title, notes, charts, HEAD, tuple(rows))


def _figure(rows: Sequence[tuple[Cell, ...]]) -> go.Figure:
    names = [f"{row[0]}  ({row[1]})" for row in rows]
    figure = go.Figure(dot_trace(names, [row[3] for row in rows if isinstance(row[3], Estimate)]))
    apply_style(figure, rows_height(len(rows)), x="accuracy without ties, %", y="differing sub-scores")
    name_rows(figure, names)
    figure.update_xaxes(range=[0, 101])
    return figure
