"""The whole report as one HTML file that asks no other machine for anything."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import cache

from markupsafe import Markup
from plotly.offline import get_plotlyjs

from app.analyse.figures.disagreements import Disagreement
from app.analyse.figures.finding import Finding
from app.analyse.views.findings import findings
from app.ui.assets import colours_by_preference, read_static
from app.ui.markup import joined, moment

REPORT_PATH = "/api/analyse/report"
MOST_CASES = 25
CONTENTS = "agreement with people, the surest disagreements, hacking watch, generators, benchmarks"


def report_form(fields: Mapping[str, object], scope: str, names: Sequence[str]) -> Markup:
    """A button that answers with the file. fields: the selection, as the form of the page has it."""
    hidden = joined(
        Markup('<input type="hidden" name="{}" value="{}">').format(name, value)
        for name, one in fields.items()
        for value in (one if isinstance(one, (list, tuple)) else [one])
    )
    return Markup(
        '<form class="ds-form analyse-report-form" method="get" action=".{}">{}<p>One HTML file with what these tabs show '
        "of <b>{}</b> on {}: {}. It brings the script of its figures along, so it opens without a network. "
        "Videos and the names of annotators are not in it.</p>"
        '<p><button class="ds-button is-main">Write the report</button></p></form>'
    ).format(REPORT_PATH, hidden, ", ".join(names), scope, CONTENTS)


def report_html(
    *,
    checkpoints: Sequence[tuple[str, str]],
    facts: Mapping[str, str],
    parts: Sequence[tuple[str, Sequence[Finding]]],
    cases: Finding,
    at: datetime,
) -> str:
    """The file. checkpoints: name and fingerprint. parts: title and findings. cases: of `case_table`."""
    title = f"DeScore: {checkpoints[0][0]} against people"
    lines = [(f"checkpoint {name}", f"sha256 {fingerprint}") for name, fingerprint in checkpoints]
    lines += [*facts.items(), ("written", moment(at))]
    about = joined(Markup("<div><dt>{}</dt><dd>{}</dd></div>").format(name, value) for name, value in lines)
    shown = [(name, findings(found, folded=False)) for name, found in parts]
    shown.insert(1, ("Disagreements", findings([cases], folded=False)))
    return str(
        Markup(read_static("analyse/report.html")).format(
            title=title,
            style=Markup(_style()),
            about=Markup('<dl class="analyse-about">{}</dl>').format(about),
            parts=joined(Markup("<h2>{}</h2>{}").format(name, html) for name, html in shown),
            plotly=Markup(get_plotlyjs()),
            figures=Markup(read_static("analyse/figures.js")),
        )
    )


def case_table(found: Sequence[Disagreement]) -> Finding:
    """The surest contradictions, in words."""
    note = f"{len(found)} pairs on which the model does not say what people say; the surest {MOST_CASES} come first."
    head = ("pair", "prompt", "people", "model", "probability of people's choice", "margin", "labels")
    rows = tuple(
        (
            one.pair.pair_id,
            one.pair.prompt,
            one.pair.choice or "",
            one.model_outcome,
            one.p_people,
            one.margin,
            one.pair.labels,
        )
        for one in found[:MOST_CASES]
    )
    return Finding("disagreements", "Where model and people differ most", (note,), (), head, rows)


@cache
def _style() -> str:
    """The page's colours by the reader's preference, and the looks of tables and figures."""
    sheets = ("shared/panel.css", "shared/table.css", "analyse/analyse.css")
    return "\n".join([colours_by_preference(), *(read_static(name) for name in sheets)])
