"""Accuracy by kind of pair: length of the prompt, length of the clips, frame rate, and generator."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import plotly.graph_objects as go

from app.analyse.figures.accuracy import accuracy_of
from app.analyse.figures.finding import Cell, Chart, Estimate, Finding, Floats
from app.analyse.figures.judged_pairs import (
    MODE_TITLES,
    AnalysedCheckpoint,
    JudgedPairs,
    Mode,
    fitted_here_note,
    judged_pairs,
    trained_on_note,
)
from app.analyse.figures.plot_style import ACCENT, COLOURS, FAINT, apply_style, dot_trace, name_rows, plain_name, rows_height
from storage.analysis.judged_pairs import AnalysedPair

HEAD = ("by", "group", "pairs", "ties", "accuracy without ties", "with ties, eps from validation")
DIFFERENT = "A and B differ"
MOST_GROUPS = 12
_QUANTILE_GROUPS = 4
Grouping = dict[str, list[int]]  # name of the group -> indices of its pairs


def accuracy_by_slice(checkpoint: AnalysedCheckpoint, mode: Mode = "think") -> Finding:
    """Draw a dot plot for each property of the pairs, with the accuracy over all pairs as a line."""
    judged = judged_pairs(checkpoint.fair_pairs, mode)
    title = f"Accuracy by kind of pair, {MODE_TITLES[mode]}"
    if not len(judged):
        return Finding("slices", title, ("No labelled pair has been judged by this checkpoint yet.",))
    eps = checkpoint.tie_threshold(mode)
    overall = accuracy_of(judged, eps).without_ties
    charts, rows = [], []
    for name, grouping in _groupings(judged.pairs).items():
        group_rows = [_row(judged, name, group, indices, eps) for group, indices in grouping.items()]
        rows += group_rows
        charts.append(Chart(f"by {name}", _figure(group_rows, overall)))
    notes = (
        "Accuracy without ties; the dotted line is the accuracy over all pairs. A group differs from it when its whiskers "
        "(95 %) do not reach the line; of twenty groups one does so by chance. A pair counts for both of its generators.",
        *trained_on_note([checkpoint]),
        *fitted_here_note([checkpoint.name] if checkpoint.fitted_here else []),
    )
    return Finding("slices", title, notes, tuple(charts), HEAD, tuple(rows))


def _groupings(pairs: Sequence[AnalysedPair]) -> dict[str, Grouping]:
    words = np.array([len(pair.prompt.split()) for pair in pairs], dtype=np.float64)
    seconds = np.array([max(pair.seconds) for pair in pairs], dtype=np.float64)
    groupings = {
        "length of the prompt": ranges(words, lambda value: f"{value:.0f}", "words"),
        "length of the longer clip": ranges(seconds, lambda value: f"{value:.3g}", "s"),
        "frame rate": _frame_rates(pairs),
        "generator": _generators(pairs),
    }
    return {name: grouping for name, grouping in groupings.items() if grouping}


def ranges(values: Floats, text: Callable[[float], str], unit: str) -> Grouping:
    """Group neighbouring values: each distinct value where there are few, else quarters of about equal size.

    Groups whose names read the same are merged.

    Args:
        values: one for each pair, shape (n,).
        text: writes a value for the name of its group.
        unit: stands behind the values in the name.
    """
    distinct, group_of = np.unique(values, return_inverse=True)
    if len(distinct) > _QUANTILE_GROUPS + 1:
        edges = np.unique(np.quantile(values, np.linspace(0, 1, _QUANTILE_GROUPS + 1)[1:-1]))
        group_of = np.searchsorted(edges, values, side="left")
    groups: Grouping = {}
    for group in np.unique(group_of):
        indices = np.flatnonzero(group_of == group)
        low, high = text(values[indices].min()), text(values[indices].max())
        span = low if low == high else f"{low}\N{EN DASH}{high}"
        groups[f"{span} {unit}"] = [*groups.get(f"{span} {unit}", []), *indices.tolist()]
    return groups


def _frame_rates(pairs: Sequence[AnalysedPair]) -> Grouping:
    same = np.array([round(pair.fps[0], 1) == round(pair.fps[1], 1) for pair in pairs])
    rates = np.array([pair.fps[0] for pair in pairs], dtype=np.float64).round(1)
    groups = {}
    if same.any():
        indices = np.flatnonzero(same)
        by_rate = ranges(rates[indices], lambda value: f"{value:g}", "fps")
        groups = {name: indices[members].tolist() for name, members in by_rate.items()}
    return groups | ({DIFFERENT: np.flatnonzero(~same).tolist()} if not same.all() else {})


def _generators(pairs: Sequence[AnalysedPair]) -> Grouping:
    """Group pairs by generator, for the generators with the most pairs."""
    groups: Grouping = {}
    for index, pair in enumerate(pairs):
        for name in sorted({name for name in pair.generators if name}):
            groups.setdefault(name, []).append(index)
    largest = sorted(groups, key=lambda name: (-len(groups[name]), name))[:MOST_GROUPS]
    return {name: groups[name] for name in largest}


def _row(judged: JudgedPairs, name: str, group: str, indices: Sequence[int], eps: float | None) -> tuple[Cell, ...]:
    mask = np.zeros(len(judged), dtype=bool)
    mask[list(indices)] = True
    measured = accuracy_of(judged.where(mask), eps)
    return name, group, measured.pairs, measured.ties, measured.without_ties, measured.with_ties


def _figure(rows: Sequence[tuple[Cell, ...]], overall: Estimate) -> go.Figure:
    names = [f"{plain_name(str(row[1]), 24)}  ({row[2]})" for row in rows]
    values = [row[4] for row in rows if isinstance(row[4], Estimate)]
    figure = go.Figure(dot_trace(names, values, colour=ACCENT))
    apply_style(figure, rows_height(len(rows)), x="accuracy without ties, %")
    name_rows(figure, names)
    figure.update_xaxes(range=[0, 101])
    if overall.value is not None:
        figure.add_vline(x=100 * overall.value, line={"color": FAINT, "width": 1, "dash": "dot"})
    figure.update_layout(plot_bgcolor=COLOURS["panel"])
    return figure
