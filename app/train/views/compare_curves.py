"""Curves of several runs over each other: one line a run and figure, each run with a colour and a pattern of its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from app.train.views.curves import PANELS, CurvePanel, StageLog, curve_traces, held_out_line, panel_layout
from app.ui.figure_text import figure_text

# Plotly's names of patterns, so that lines can be told apart without their colours: `var(--run-1)` and so on.
PATTERNS = ("solid", "dash", "dot", "dashdot", "longdash", "longdashdot")
MOST_COMPARED = len(PATTERNS)
FAINT = 0.45  # opacity of a line behind the one that counts


def run_colour(index: int) -> str:
    """Return the style with the colour of the run at this index of a comparison."""
    return f"var(--run-{index + 1})"


def compared_figures(runs: Sequence[tuple[str, Sequence[StageLog]]]) -> dict[str, dict[str, Any]]:
    """Draw the main curve of each panel for all runs, by name of the panel; panels without any line are left out.

    Args:
        runs: name and logs of each, at most `MOST_COMPARED`. All begin at step 0.
    """
    figures = {panel.name: _figure(panel, runs) for panel in PANELS}
    return {name: figure for name, figure in figures.items() if figure["data"]}


def _figure(panel: CurvePanel, runs: Sequence[tuple[str, Sequence[StageLog]]]) -> dict[str, Any]:
    data = [trace for index, (name, stages) in enumerate(runs) for trace in _lines(panel, index, name, stages)]
    total = max((sum(stage.steps for stage in stages) for _, stages in runs), default=0)
    is_one_of_many = len(panel.curves) > 1 and panel.name != "accuracy"
    layout = {**panel_layout(panel, total, "compared"), "showlegend": False}
    return {
        "data": data,
        "layout": layout,
        "about": f"Of each run: {panel.curves[0].name}. {panel.about}" if is_one_of_many else panel.about,
        "text": figure_text(panel.title, {"data": data, "layout": layout}),
    }


def _lines(panel: CurvePanel, index: int, name: str, stages: Sequence[StageLog]) -> list[dict[str, Any]]:
    """Draw one run: the smoothed line alone, and where there are figures on held-out pairs, these before it."""
    colour = run_colour(index)
    curve = replace(panel.curves[0], name=name, colour=colour, dash=PATTERNS[index])
    lines = [trace for trace in curve_traces(curve, stages) if trace.get("hoverinfo") != "skip"]
    held_out = held_out_line(stages) if panel.name == "accuracy" else []
    if not held_out:
        return lines
    style: Mapping[str, Any] = {"color": colour, "width": 1.8, "dash": PATTERNS[index]}
    faint = [{**line, "opacity": FAINT, "name": f"{name}, pairs of the step"} for line in lines]
    return faint + [{**line, "name": f"{name}, held-out pairs", "line": style} for line in held_out]
