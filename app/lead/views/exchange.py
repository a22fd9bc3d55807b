"""The forms of import and export, and the reports of a dry run and an import."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from markupsafe import Markup

from app.importing.import_file import ImportPlan, ImportReport
from app.lead.views.import_columns import column_sentences
from app.ui.markup import button, checkboxes, count, joined, options, table
from storage.exchange.formats.detect import EXPORTS, FORMATS
from storage.exchange.parsed import Problem

MOST_PROBLEMS = 200
UPLOADED = "upload"
EXPORT_PATH = "/api/lead/export"


def import_form(
    folders: Sequence[str], uploaded: Sequence[str], origin: str, source: str, format: str, columns: Markup | str = ""
) -> Markup:
    """Return the form of an import.

    Args:
        folders: names in the folder for imports.
        uploaded: names of the uploaded files.
        origin, source, format: the values in the form.
        columns: the fields of `column_fields`, after a dry run.
    """
    names = f"uploaded: {', '.join(uploaded[:3])}{' and more' if len(uploaded) > 3 else ''}"
    choices = {UPLOADED: names} if uploaded else {}
    choices |= {f"folder:{name}": f"imports/{name}" for name in folders}
    if not choices:
        return Markup(
            '<p class="ds-hint">Upload a table with its videos, or a zip of both; several files at once are fine. '
            "What is too large to upload can be put into the folder <code>imports</code> of the app’s data folder.</p>"
        )
    return Markup(
        '<form class="ds-form ds-inline" id="lead-import-form" data-act="check">'
        '<label>From <select name="place">{}</select></label>'
        '<label>Name of the source <input name="source" required maxlength="150" value="{}"></label>'
        '<label>Format <select name="format">{}</select></label>'
        '<button class="ds-button is-main">Check what would be imported</button>{}</form>'
    ).format(options(choices, origin), source, options({"": "detected"} | {name: name for name in FORMATS}, format), columns)


def plan_view(plan: ImportPlan) -> Markup:
    """Report a dry run: what is new, what is known, what is wrong."""
    figures = {
        "pairs": (plan.pairs_new, plan.pairs_known),
        "labels": (plan.labels_new, plan.labels_known),
        "videos": (plan.videos_new, plan.videos_known),
    }
    cells = joined(
        Markup("<div><dt>{}</dt><dd>{} <small>new, {} known</small></dd></div>").format(name, count(new), count(known))
        for name, (new, known) in figures.items()
    )
    head = Markup('<h3>{} as {}</h3><dl class="ds-figures">{}</dl>').format(plan.file, plan.format, cells)
    people = Markup("<p>Labels of {}.</p>").format(", ".join(plan.annotators)) if plan.annotators else Markup("")
    people += column_sentences(plan.columns)
    if plan.problems:
        refusal = Markup('<p class="ds-status is-bad">Nothing is imported. Correct these problems first:</p>')
        return joined([head, people, refusal, problem_table(plan.problems), _notes(plan.notes)])
    if not (plan.pairs_new or plan.labels_new or plan.thoughts_new):
        return joined([head, people, Markup("<p>Everything in it is in the store already.</p>"), _notes(plan.notes)])
    go = button("Import", "import", kind="is-main", fields_of="#lead-import-form")
    return joined([head, people, _notes(plan.notes), Markup('<p class="lead-go">{}</p>').format(go)])


def report_view(report: ImportReport) -> Markup:
    """Report an import."""
    counts = f"{count(report.pairs_added)} pairs, {count(report.labels_added)} labels, {count(report.videos_added)} videos"
    return Markup("<h3>Imported from {}</h3><p>{} came in as {}.</p>{}{}").format(
        report.file, counts, report.source, column_sentences(report.columns), _notes(report.notes)
    )


def problem_table(problems: Sequence[Problem]) -> Markup:
    """Return the problems with their lines in the file."""
    rows = [
        [f"{problem.file}{f', line {problem.line}' if problem.line else ''}", problem.message]
        for problem in problems[:MOST_PROBLEMS]
    ]
    rest = len(problems) - MOST_PROBLEMS
    more = Markup("<p>And {} more.</p>").format(count(rest)) if rest > 0 else Markup("")
    return table(("where", "what"), rows, "lead-problems") + more


def _notes(notes: Sequence[Problem]) -> Markup:
    if not notes:
        return Markup("")
    return Markup("<details><summary>{} notes</summary>{}</details>").format(count(len(notes)), problem_table(notes))


def running_view(stage: str) -> Markup:
    """Say that an import of this person goes on; the page may have been reloaded meanwhile."""
    return Markup("<p>An import is running: {}.</p>{}").format(stage, button("Follow it", "follow", kind="is-main"))


def export_form(sources: Mapping[str, int], campaigns: Mapping[int, str]) -> Markup:
    """Return the form of an export; its answer is a download."""
    what = {"all": "everything"}
    what |= {f"campaign:{key}": f"campaign {name}" for key, name in campaigns.items()}
    what |= {f"source:{name}": f"source {name} ({count(pairs)} pairs)" for name, pairs in sources.items()}
    labels = {
        "raw": "every label as it was given",
        "consensus": "one answer for each pair, by majority",
        "weighted": "one answer for each pair, weighted by reliability",
    }
    return Markup(
        '<form class="ds-form ds-columns" method="get" action=".{}">'
        '<label class="ds-field">What<select name="what">{}</select></label>'
        '<label class="ds-field">Format<select name="format">{}</select></label>'
        '<label class="ds-field">Labels<select name="labels">{}</select></label>'
        '<fieldset class="ds-field ds-wide">{}</fieldset>'
        '<p class="ds-submit"><button class="ds-button is-main">Download</button><span class="ds-hint">A zip; without '
        "the videos it names them by their content, and imports again into a store that has them.</span></p></form>"
    ).format(
        EXPORT_PATH,
        options(what),
        options({name: name for name in EXPORTS}, "parquet"),
        options(labels),
        checkboxes("videos", {"yes": "with the video files"}),
    )
