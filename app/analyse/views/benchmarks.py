"""HTML of the import of other reward models' scores: the form, its result, and the imported models."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from markupsafe import Markup

from app.ui.markup import button, count, joined, table

MODELS = ("VideoScore", "VideoAlign", "VisionReward", "UnifiedReward", "UnifiedReward-Thinking", "VideoScore2")
SHOWN_PROBLEMS = 20


def import_form(file: str, rows: int, problems: Sequence[str]) -> Markup:
    """Ask which model gave the uploaded scores."""
    names = joined(Markup('<option value="{}"></option>').format(name) for name in MODELS)
    return Markup(
        "<h3>{} rows in {}</h3>{}"
        '<form class="ds-form ds-inline" data-act="import"><label>Scores of <input name="scorer" required '
        'maxlength="100" '
        'list="analyse-models" autocomplete="off"></label><datalist id="analyse-models">{}</datalist>'
        '<button class="ds-button is-main">Import</button>{}</form>'
        '<p class="ds-hint">Rows are matched with the store’s pairs by pair id, or by both file names and the '
        "prompt. Scores of "
        "the same model that are there already are replaced pair by pair.</p>"
    ).format(count(rows), file, _problems(problems), names, button("Discard", "leave"))


def import_report(file: str, scorer: str, scores: int, unknown: int, problems: Sequence[str]) -> Markup:
    """Report the result of an import."""
    unmatched = f" {count(unknown)} rows belong to no pair of this store." if unknown else ""
    return Markup("<p>{} pairs of {} now have scores of {}.{}</p>{}").format(
        count(scores), file, scorer, unmatched, _problems(problems)
    )


def imported_list(imported: Mapping[str, int], may_import: bool) -> Markup:
    """List the models whose scores are in the store, with their number of pairs."""
    instructions = (
        "Upload a CSV or JSON with a row for each pair (path_A, path_B, prompt, reward_A, reward_B) or each video (path, "
        "prompt, reward); the names that these models’ own scripts write are understood too."
    )
    hint = Markup('<p class="ds-hint">{}</p>').format(instructions) if may_import else Markup("")
    if not imported:
        return Markup("<h3>Other reward models</h3><p>No scores were imported yet.</p>{}").format(hint)
    rows = [[name, count(pairs)] for name, pairs in imported.items()]
    return Markup("<h3>Other reward models</h3>{}{}").format(table(("model", "pairs scored"), rows), hint)


def _problems(problems: Sequence[str]) -> Markup:
    if not problems:
        return Markup("")
    lines = joined(Markup("<li>{}</li>").format(problem) for problem in problems[:SHOWN_PROBLEMS])
    return Markup("<details><summary>{} rows can’t be used</summary><ul>{}</ul></details>").format(
        count(len(problems)), lines
    )
