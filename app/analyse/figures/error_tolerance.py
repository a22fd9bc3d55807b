"""Error tolerance: is the reward still right where the thought is wrong?

The reward is read from the query token, which sees the video as well as the thought; a wrong sub-score therefore need not
make a wrong reward. Pairs are grouped by how many of the thought's sub-scores differ from people's, over both videos.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import plotly.graph_objects as go

from app.analyse.figures.accuracy import accuracy_of
from app.analyse.figures.finding import Cell, Chart, Estimate, Finding
from app.analyse.figures.judged_pairs import AnalysedCheckpoint, judged_pairs
from app.analyse.figures.plot_style import dots, finish, rows_axis, rows_height
from descore.answer import DIMENSIONS
from storage.analysis.judged_pairs import AnalysedPair

HEAD = ("sub-scores that differ from people's", "pairs", "ties", "accuracy without ties", "with ties, eps from validation")
GROUPS = ("none", "one", "two", "three or more")
ANY = "any"


def wrong_sub_scores(pair: AnalysedPair) -> int | None:
    """How many sub-scores of the thoughts differ from people's; None where none can be compared."""
    if pair.think is None:
        return None
    compared = wrong = 0
    for side, said in zip(("A", "B"), pair.think.sub_scores, strict=True):
        for name in DIMENSIONS:
            human = pair.human.get(side, {}).get(name)
            if human is not None and said is not None:
                compared += 1
                wrong += human != said[name]
    return wrong if compared else None


def error_tolerance(checkpoint: AnalysedCheckpoint) -> Finding:
    """Accuracy where the sub-scores are right, and where one, two or more of them are wrong."""
    judged, title = judged_pairs(checkpoint.pairs, "think"), "Error tolerance"
    counts = [wrong_sub_scores(pair) for pair in judged.pairs]
    wrong = np.array([-1 if count is None else min(count, len(GROUPS) - 1) for count in counts], dtype=np.int64)
    if not (wrong >= 0).any():
        return Finding("error_tolerance", title, ("No labelled pair has both sub-scores of people and those of a thought.",))
    masks = {name: wrong == number for number, name in enumerate(GROUPS)} | {ANY: wrong > 0}
    eps, rows = checkpoint.tie_threshold("think"), []
    for name, mask in masks.items():
        if mask.any():
            found = accuracy_of(judged.where(mask), eps)
            rows.append((name, found.pairs, found.ties, found.without_ties, found.at_fitted))
    notes = (
        "How often the reward chooses as people do, by how many of the ten sub-scores of the two thoughts differ from "
        "people's. A tolerant model stays well above 50 % where the thought errs; one that only adds up its sub-scores "
        "falls with them.",
    )
    charts = (Chart("", _figure([row for row in rows if row[0] != ANY])),)
    return Finding("error_tolerance", title, notes, charts, HEAD, tuple(rows))


def _figure(rows: Sequence[tuple[Cell, ...]]) -> go.Figure:
    names = [f"{row[0]}  ({row[1]})" for row in rows]
    figure = go.Figure(dots(names, [row[3] for row in rows if isinstance(row[3], Estimate)]))
    finish(figure, rows_height(len(rows)), x="accuracy without ties, %", y="differing sub-scores")
    rows_axis(figure, names)
    figure.update_xaxes(range=[0, 101])
    return figure
