"""HTML of the report: one file that needs no network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import cache

from markupsafe import Markup
from plotly.offline import get_plotlyjs

from app.analyse.figures.disagreements import Disagreement
from app.analyse.figures.finding import Finding
from app.analyse.views.findings import findings_view
from app.ui.assets import colours_by_preference, read_static
from app.ui.dates import day
from app.ui.markup import joined

REPORT_PATH = "/api/analyse/report"
MOST_CASES = 25
CONTENTS = "agreement with people, the surest disagreements, hacking watch, generators, benchmarks"


def report_form(fields: Mapping[str, object], scope: str, names: Sequence[str]) -> Markup:
    """Show the button that downloads the file. fields: the selection, as the form of the page sends it."""
    hidden = joined(
        Markup('<input type="hidden" name="{}" value="{}">').format(name, value)
        for name, values in fields.items()
        for value in (values if isinstance(values, (list, tuple)) else [values])
    )
    return Markup(
        '<form class="ds-form analyse-report-form" method="get" action=".{}">{}<p>One HTML file with what these tabs show '
        "of <b>{}</b> on {}: {}. It contains the script of its figures, so it opens without a network. "
        "It has neither videos nor the names of annotators.</p>"
        '<p><button class="ds-button is-main">Write the report</button></p></form>'
    ).format(REPORT_PATH, hidden, ", ".join(names), scope, CONTENTS)


def report_html(
    *,
    checkpoints: Sequence[tuple[str, str]],
    summary: Mapping[str, str],
    parts: Sequence[tuple[str, Sequence[Finding]]],
    cases: Finding,
    at: datetime,
) -> str:
    """Return the text of the file.

    Args:
        checkpoints: name and fingerprint of each, the one in detail first.
        summary: further lines of its head: title -> text.
        parts: title and findings of each tab.
        cases: the finding of `case_table`.
        at: time of writing.
    """
    title = f"DeScore: {checkpoints[0][0]} against people"
    lines = [(f"checkpoint {name}", f"sha256 {fingerprint}") for name, fingerprint in checkpoints]
    lines += [*summary.items(), ("written", day(at))]
    about = joined(Markup("<div><dt>{}</dt><dd>{}</dd></div>").format(name, value) for name, value in lines)
    sections = [(name, findings_view(findings, folded=False)) for name, findings in parts]
    sections.insert(1, ("Disagreements", findings_view([cases], folded=False)))
    return str(
        Markup(read_static("analyse/report.html")).format(
            title=title,
            style=Markup(_style()),
            about=Markup('<dl class="analyse-about">{}</dl>').format(about),
            parts=joined(Markup("<h2>{}</h2>{}").format(name, html) for name, html in sections),
            plotly=Markup(get_plotlyjs()),
            figures=Markup(read_static("analyse/figures.js")),
        )
    )


def case_table(disagreements: Sequence[Disagreement]) -> Finding:
    """Tabulate the surest disagreements."""
    note = f"The model disagrees with people on {len(disagreements)} pairs; these are the surest {MOST_CASES} at most."
    head = ("pair", "prompt", "people", "model", "probability of people's choice", "margin", "labels")
    rows = tuple(
        (
            row.pair.pair_id,
            row.pair.prompt,
            row.pair.choice or "",
            row.model_outcome,
            row.p_people,
            row.margin,
            row.pair.labels,
        )
        for row in disagreements[:MOST_CASES]
    )
    return Finding("disagreements", "Where model and people differ most", (note,), (), head, rows)


@cache
def _style() -> str:
    """Return the styles of tables and figures, with light or dark colours by the reader's preference."""
    sheets = ("shared/panel.css", "shared/table.css", "analyse/analyse.css")
    return "\n".join([colours_by_preference(), *(read_static(name) for name in sheets)])
