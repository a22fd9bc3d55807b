"""Where the model agrees and where it does not: by length of the prompt and the clips, frame rate, and generator."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import plotly.graph_objects as go

from app.analyse.figures.accuracy import accuracy_of
from app.analyse.figures.finding import Cell, Chart, Estimate, Finding
from app.analyse.figures.judged_pairs import AnalysedCheckpoint, Floats, Judged, Way, fitted_here_note, judged_pairs
from app.analyse.figures.plot_style import ACCENT, COLOURS, FAINT, dots, finish, plain, rows_axis, rows_height
from storage.analysis.judged_pairs import AnalysedPair

HEAD = ("by", "group", "pairs", "ties", "accuracy without ties", "with ties, eps from validation")
DIFFERENT = "A and B differ"
MOST_GROUPS = 12
_PARTS = 4
Grouping = dict[str, list[int]]  # the group's name -> places of its pairs


def accuracy_by_slice(checkpoint: AnalysedCheckpoint, way: Way = "think") -> Finding:
    """A dot plot for each property of the pairs, with the accuracy over all of them as a line."""
    judged = judged_pairs(checkpoint.pairs, way)
    title = f"Accuracy by kind of pair, asked to {way}" if way == "think" else "Accuracy by kind of pair, asked quickly"
    if not len(judged):
        return Finding("slices", title, ("No labelled pair has been judged by this checkpoint yet.",))
    eps = checkpoint.tie_threshold(way)
    overall = accuracy_of(judged, eps).without_ties
    charts, rows = [], []
    for name, grouping in _groupings(judged.pairs).items():
        lines = [_line(judged, name, group, places, eps) for group, places in grouping.items()]
        rows += lines
        charts.append(Chart(f"by {name}", _figure(lines, overall)))
    notes = (
        "Accuracy without ties; the dotted line is that of all pairs. A difference counts when the whiskers (95 %) stay "
        "clear of the line. With many groups, one in twenty misses it by chance. A pair counts for both of its generators.",
        *fitted_here_note([checkpoint.name] if checkpoint.fitted_here else []),
    )
    return Finding("slices", title, notes, tuple(charts), HEAD, tuple(rows))


def _groupings(pairs: Sequence[AnalysedPair]) -> dict[str, Grouping]:
    words = np.array([len(pair.prompt.split()) for pair in pairs], dtype=np.float64)
    seconds = np.array([max(pair.seconds) for pair in pairs], dtype=np.float64)
    found = {
        "length of the prompt": ranges(words, lambda value: f"{value:.0f}", "words"),
        "length of the longer clip": ranges(seconds, lambda value: f"{value:.3g}", "s"),
        "frame rate": _frame_rates(pairs),
        "generator": _generators(pairs),
    }
    return {name: grouping for name, grouping in found.items() if grouping}


def ranges(values: Floats, text: Callable[[float], str], unit: str) -> Grouping:
    """About equally large groups of neighbouring values: each distinct value where there are few, else quarters.

    Groups that read the same are one.
    """
    distinct, parts = np.unique(values, return_inverse=True)
    if len(distinct) > _PARTS + 1:
        edges = np.unique(np.quantile(values, np.linspace(0, 1, _PARTS + 1)[1:-1]))
        parts = np.searchsorted(edges, values, side="left")
    groups: Grouping = {}
    for part in np.unique(parts):
        places = np.flatnonzero(parts == part)
        low, high = text(values[places].min()), text(values[places].max())
        span = low if low == high else f"{low}\N{EN DASH}{high}"
        groups[f"{span} {unit}"] = [*groups.get(f"{span} {unit}", []), *places.tolist()]
    return groups


def _frame_rates(pairs: Sequence[AnalysedPair]) -> Grouping:
    same = np.array([round(pair.fps[0], 1) == round(pair.fps[1], 1) for pair in pairs])
    rates = np.array([pair.fps[0] for pair in pairs], dtype=np.float64).round(1)
    groups = {}
    if same.any():
        places = np.flatnonzero(same)
        inside = ranges(rates[places], lambda value: f"{value:g}", "fps")
        groups = {name: places[chosen].tolist() for name, chosen in inside.items()}
    return groups | ({DIFFERENT: np.flatnonzero(~same).tolist()} if not same.all() else {})


def _generators(pairs: Sequence[AnalysedPair]) -> Grouping:
    """The generators with the most pairs."""
    groups: Grouping = {}
    for place, pair in enumerate(pairs):
        for name in sorted({one for one in pair.generators if one}):
            groups.setdefault(name, []).append(place)
    largest = sorted(groups, key=lambda name: (-len(groups[name]), name))[:MOST_GROUPS]
    return {name: groups[name] for name in largest}


def _line(judged: Judged, name: str, group: str, places: Sequence[int], eps: float | None) -> tuple[Cell, ...]:
    mask = np.zeros(len(judged), dtype=bool)
    mask[list(places)] = True
    found = accuracy_of(judged.where(mask), eps)
    return name, group, found.pairs, found.ties, found.without_ties, found.at_fitted


def _figure(lines: Sequence[tuple[Cell, ...]], overall: Estimate) -> go.Figure:
    names = [f"{plain(str(line[1]), 24)}  ({line[2]})" for line in lines]
    values = [line[4] for line in lines if isinstance(line[4], Estimate)]
    figure = go.Figure(dots(names, values, colour=ACCENT))
    finish(figure, rows_height(len(lines)), x="accuracy without ties, %")
    rows_axis(figure, names)
    figure.update_xaxes(range=[0, 101])
    if overall.value is not None:
        figure.add_vline(x=100 * overall.value, line={"color": FAINT, "width": 1, "dash": "dot"})
    figure.update_layout(plot_bgcolor=COLOURS["panel"])
    return figure
