"""A finding as HTML: its words, its figures as data that static/analyse/draw.js draws, its table, its downloads."""

from __future__ import annotations

import json
from collections.abc import Iterable

from markupsafe import Markup

from app.analyse.figures.finding import Cell, Chart, Estimate, Finding, csv_text
from app.ui.markup import DASH, MINUS, NOTHING, count, empty, joined, table

LONG = 8  # rows of a table that is shown folded from there on
_TONES = {"watch": "warn", "nothing to see": "good", "open": "", "all videos alike": "", "alike within pairs": ""}


def findings(found: Iterable[Finding], folded: bool = True) -> Markup:
    """Several of them, one below the other; those with nothing to say are left out. folded: long tables open by a click."""
    return joined(finding(one, folded) for one in found if one.notes or one.charts or one.rows)


def finding(one: Finding, folded: bool = True) -> Markup:
    """One block."""
    if not one.charts and not one.rows:
        return Markup('<section class="analyse-finding"><h3>{}</h3>{}</section>').format(
            one.title, joined(empty(note) for note in one.notes)
        )
    save = Markup('<button type="button" class="ds-button analyse-save" data-save="csv">CSV</button>') if one.rows else ""
    return Markup(
        '<section class="analyse-finding" data-name="{key}"><header><h3>{title}</h3>{save}</header>'
        "{charts}{table}{notes}{numbers}</section>"
    ).format(
        key=one.key,
        title=one.title,
        save=save,
        charts=_charts(one.charts),
        table=_table(one, folded and len(one.rows) > LONG),
        notes=joined(Markup('<p class="ds-hint">{}</p>').format(note) for note in (*one.notes, *_few(one))),
        numbers=_data("analyse-csv", json.dumps(csv_text(one))) if one.rows else "",
    )


def _table(one: Finding, folded: bool) -> Markup:
    if not one.rows:
        return Markup("")
    rows = table(one.head, [[_cell(cell) for cell in row] for row in one.rows], "analyse-table")
    if not folded:
        return rows
    return Markup('<details class="analyse-rows"><summary>{} rows of numbers</summary>{}</details>').format(
        count(len(one.rows)), rows
    )


def _charts(charts: tuple[Chart, ...]) -> Markup:
    if not charts:
        return Markup("")
    kind = "analyse-one-chart" if len(charts) == 1 else "analyse-large-charts" if len(charts) < 5 else "analyse-small-charts"
    return Markup('<div class="analyse-charts {}">{}</div>').format(kind, joined(_chart(chart) for chart in charts))


def _chart(chart: Chart) -> Markup:
    return Markup(
        '<figure class="analyse-chart"><figcaption>{title}'
        '<button type="button" class="ds-button analyse-save" data-save="png">PNG</button></figcaption>'
        '<div class="analyse-plot" style="height: {height}px" role="img" aria-label="{title}"></div>{figure}</figure>'
    ).format(
        title=chart.title or Markup("&nbsp;"),
        height=chart.figure.layout.height or 300,
        figure=_data("analyse-figure", chart.figure.to_json()),
    )


def _data(kind: str, text: str) -> Markup:
    """JSON inside the page that no browser runs; nothing in it may end the element."""
    return Markup('<script type="application/json" class="{}">{}</script>').format(
        kind, Markup(text.replace("<", "\\u003c"))
    )


def _cell(cell: Cell) -> Markup | str:
    if cell is None:
        return NOTHING
    if isinstance(cell, Estimate):
        return estimate(cell)
    if isinstance(cell, int):
        return count(cell)
    if isinstance(cell, float):
        return number(cell)
    return Markup('<span class="ds-pill {}">{}</span>').format(_TONES[cell], cell) if cell in _TONES else cell


def estimate(one: Estimate) -> Markup:
    """A value with its interval and n; where there are few cases, that is marked."""
    if one.value is None:
        return Markup('<span class="ds-reason">{}</span>').format(one.why or "undefined")
    text = percent(one.value) if one.percent else number(one.value)
    if not one.n:
        return Markup('<span class="ds-share">{}</span>').format(text)
    reach = ""
    if one.low is not None and one.high is not None:
        ends = (f"{100 * end:.0f}" if one.percent else number(end) for end in (one.low, one.high))
        reach = f" {DASH} ".join(ends).replace("-", MINUS)
    few = Markup(' title="few cases"') if one.has_few_cases else ""
    return Markup(
        '<span class="ds-share"><b>{}</b> <small>{}<span class="analyse-count{}"{}>n {}</span></small></span>'
    ).format(text, f"{reach}, " if reach else "", " is-few" if one.has_few_cases else "", few, count(one.n))


def percent(value: float) -> str:
    """0.843 as 84.3 %, with a true minus sign."""
    return f"{100 * value:.1f}\N{NARROW NO-BREAK SPACE}%".replace("-", MINUS)


def number(value: float) -> str:
    """Three digits that count, with a true minus sign."""
    text = f"{value:.3f}" if abs(value) < 10 else f"{value:.1f}" if abs(value) < 1000 else f"{value:,.0f}"
    return text.replace(",", "\N{NARROW NO-BREAK SPACE}").replace("-", MINUS)


def _few(one: Finding) -> tuple[str, ...]:
    few = any(isinstance(cell, Estimate) and cell.has_few_cases for row in one.rows for cell in row)
    return ("Marked n: fewer than 30 cases, so the value says little by itself; read the interval.",) if few else ()
