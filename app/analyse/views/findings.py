"""HTML of a finding: its notes, its table, its downloads, and its figures as data that static/analyse/figures.js draws."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

import plotly.graph_objects as go
from markupsafe import Markup

from app.analyse.figures.finding import Cell, Chart, Estimate, Finding, csv_text
from app.ui.figure_text import figure_text
from app.ui.markup import DASH, MINUS, NOTHING, count, empty, joined, table

LONG = 8  # rows; a longer table is folded
_TONES = {"watch": "warn", "nothing to see": "good", "open": "", "all videos alike": "", "alike within pairs": ""}


def findings_view(findings: Iterable[Finding], folded: bool = True) -> Markup:
    """Show findings one below the other, without empty ones. folded: whether long tables are hidden until a click."""
    return joined(finding_view(finding, folded) for finding in findings if finding.notes or finding.charts or finding.rows)


def finding_view(finding: Finding, folded: bool = True) -> Markup:
    """Show a finding. folded: whether a long table is hidden until a click."""
    if not finding.charts and not finding.rows:
        return Markup('<section class="analyse-finding"><h3>{}</h3>{}</section>').format(
            finding.title, joined(empty(note) for note in finding.notes)
        )
    save = (
        Markup('<button type="button" class="ds-button analyse-save" data-save="csv">CSV</button>') if finding.rows else ""
    )
    return Markup(
        '<section class="analyse-finding" data-name="{key}"><header><h3>{title}</h3>{save}</header>'
        "{charts}{table}{notes}{numbers}</section>"
    ).format(
        key=finding.key,
        title=finding.title,
        save=save,
        charts=_charts(finding),
        table=_table(finding, folded and len(finding.rows) > LONG),
        notes=joined(Markup('<p class="ds-hint">{}</p>').format(note) for note in (*finding.notes, *_few(finding))),
        numbers=_data("analyse-csv", json.dumps(csv_text(finding))) if finding.rows else "",
    )


def _table(finding: Finding, folded: bool) -> Markup:
    if not finding.rows:
        return Markup("")
    rows = table(finding.head, [[_cell(cell) for cell in row] for row in finding.rows], "analyse-table")
    if not folded:
        return rows
    return Markup('<details class="analyse-rows"><summary>{} rows of numbers</summary>{}</details>').format(
        count(len(finding.rows)), rows
    )


def _charts(finding: Finding) -> Markup:
    charts = finding.charts
    if not charts:
        return Markup("")
    kind = "analyse-one-chart" if len(charts) == 1 else "analyse-large-charts" if len(charts) < 5 else "analyse-small-charts"
    return Markup('<div class="analyse-charts {}">{}</div>').format(kind, joined(_chart(chart, finding) for chart in charts))


def _chart(chart: Chart, finding: Finding) -> Markup:
    return Markup(
        '<figure class="analyse-chart"><figcaption>{title}'
        '<button type="button" class="ds-button analyse-save" data-save="png">PNG</button></figcaption>'
        '<div class="analyse-plot" style="height: {height}px" role="img" aria-label="{text}"></div>{figure}</figure>'
    ).format(
        title=chart.title or Markup("&nbsp;"),
        text=figure_text(": ".join(filter(None, [finding.title, chart.title])), _plain(chart.figure)),
        height=chart.figure.layout.height or 300,
        figure=_data("analyse-figure", chart.figure.to_json()),
    )


def _plain(figure: go.Figure) -> dict[str, Any]:
    """Return a figure's traces and layout as they were given; its own JSON has arrays in base64."""
    traces = [trace.to_plotly_json() for trace in figure.data]
    return {"data": traces, "layout": figure.layout.to_plotly_json()}


def _data(kind: str, text: str) -> Markup:
    """Put JSON into the page that no browser runs; nothing in it may end the element."""
    return Markup('<script type="application/json" class="{}">{}</script>').format(
        kind, Markup(text.replace("<", "\\u003c"))
    )


def _cell(cell: Cell) -> Markup | str:
    if cell is None:
        return NOTHING
    if isinstance(cell, Estimate):
        return estimate_view(cell)
    if isinstance(cell, int):
        return count(cell)
    if isinstance(cell, float):
        return number(cell)
    return Markup('<span class="ds-pill {}">{}</span>').format(_TONES[cell], cell) if cell in _TONES else cell


def estimate_view(estimate: Estimate) -> Markup:
    """Show a value with its interval and n, which is marked where it is small."""
    if estimate.value is None:
        return Markup('<span class="ds-reason">{}</span>').format(estimate.why or "undefined")
    text = percent(estimate.value) if estimate.percent else number(estimate.value)
    if not estimate.n:
        return Markup('<span class="ds-share">{}</span>').format(text)
    interval = ""
    if estimate.low is not None and estimate.high is not None:
        ends = (f"{100 * end:.0f}" if estimate.percent else number(end) for end in (estimate.low, estimate.high))
        interval = f" {DASH} ".join(ends).replace("-", MINUS)
    few = Markup(' title="few cases"') if estimate.has_few_cases else ""
    return Markup(
        '<span class="ds-share"><b>{}</b> <small>{}<span class="analyse-count{}"{}>n {}</span></small></span>'
    ).format(text, f"{interval}, " if interval else "", " is-few" if estimate.has_few_cases else "", few, count(estimate.n))


def percent(value: float) -> str:
    """Write 0.843 as 84.3 %, with a true minus sign."""
    return f"{100 * value:.1f}\N{NARROW NO-BREAK SPACE}%".replace("-", MINUS)


def number(value: float) -> str:
    """Write three digits that count, with a true minus sign."""
    text = f"{value:.3f}" if abs(value) < 10 else f"{value:.1f}" if abs(value) < 1000 else f"{value:,.0f}"
    return text.replace(",", "\N{NARROW NO-BREAK SPACE}").replace("-", MINUS)


def _few(finding: Finding) -> tuple[str, ...]:
    few = any(isinstance(cell, Estimate) and cell.has_few_cases for row in finding.rows for cell in row)
    return ("Marked n: fewer than 30 cases, so look at the interval, not at the value.",) if few else ()
