"""HTML of the pairs on which model and people differ: the list, and the labels and sub-scores of one pair."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from markupsafe import Markup

from app.analyse.figures.disagreements import Disagreement
from app.ui.label_table import labels_side_by_side
from app.ui.markup import DASH, NOTHING, button, count, empty, joined, table
from app.ui.wording import probability
from descore.answer import DIMENSIONS
from storage.analysis.judged_pairs import AnalysedPair
from storage.labelling.labels import Label
from storage.pairs import Pair

CHOICES = {"A": "A", "B": "B", "tie": "tie", None: "nothing in common"}


def disagreement_list(rows: Sequence[Disagreement], labelled: int, start: int, size: int, opened: int | None) -> Markup:
    """Show a page of the list.

    Args:
        rows: all disagreements.
        labelled: number of judged pairs with a label.
        start: index of the page's first row.
        size: number of rows on a page.
        opened: id of the open pair.
    """
    if not labelled:
        return empty("No pair of this selection has both a label and a judgement of this checkpoint.")
    if not rows:
        return empty(f"On all {count(labelled)} labelled pairs the model agrees with people.")
    lines = joined(_line(row, row.pair.pair_id == opened) for row in rows[start : start + size])
    before = button("Earlier", "turn", max(0, start - size)) if start else ""
    after = button("Later", "turn", start + size) if start + size < len(rows) else ""
    return Markup(
        '<h3>{} of {} labelled pairs</h3><ol class="ds-queue analyse-queue">{}</ol><p class="analyse-steps">{}{}</p>'
        '<p class="ds-hint">The surest contradiction first. The percentage is the probability that the model '
        "gives to what "
        "people chose; a dash stands for a checkpoint without a calibration, which gives none.</p>"
    ).format(count(len(rows)), count(labelled), lines, before, after)


def _line(row: Disagreement, opened: bool) -> Markup:
    return Markup(
        '<li><button type="button" data-act="look" data-id="{}" aria-pressed="{}"><span>{}</span>'
        "<small>people {}, model {}<b>{}</b></small></button></li>"
    ).format(
        row.pair.pair_id,
        str(opened).lower(),
        row.pair.prompt,
        _side(CHOICES[row.pair.choice]),
        _side(row.model_outcome),
        DASH if row.p_people is None else probability(row.p_people).replace(" %", "\N{NARROW NO-BREAK SPACE}%"),
    )


def _side(choice: str) -> Markup:
    if choice in ("A", "B"):
        return Markup('<span class="side-{}"><b class="side-badge">{}</b></span>').format(choice.lower(), choice)
    return Markup("<em>{}</em>").format(choice)


def case_head(pair: Pair, analysed: AnalysedPair) -> Markup:
    """Show the prompt, and where the pair comes from."""
    made = [
        Markup("{} by {}").format(_side(side), name)
        for side, name in zip(("A", "B"), analysed.generators, strict=True)
        if name is not None
    ]
    origin = [Markup("pair {} of {}").format(pair.id, pair.source), *made]
    return Markup('<p class="ds-case">{}</p><p class="analyse-summary">{}</p>').format(pair.prompt, joined(origin, ", "))


def case_labels(analysed: AnalysedPair, labels: Sequence[Label], names: Mapping[int, str]) -> Markup:
    """Show people's common choice, their sub-scores beside the model's, and every label."""
    asked = [name for name in DIMENSIONS if any(name in label.sub_scores.get("A", {}) for label in labels)]
    summary = Markup("<h3>People</h3><p>Together: {}, {} of {} labels.</p>").format(
        _side(CHOICES[analysed.choice]), count(round(analysed.support * analysed.labels)), count(analysed.labels)
    )
    return joined([summary, _against(analysed), labels_side_by_side(labels, names, asked) if labels else ""])


def _against(analysed: AnalysedPair) -> Markup:
    """Show the sub-scores as "people / model", marked where they differ."""
    if not analysed.human or analysed.think is None:
        return Markup("")
    rows = []
    for index, side in enumerate(("A", "B")):
        human, model = analysed.human.get(side, {}), analysed.think.sub_scores[index] or {}
        rows.append([_side(side), *(_cell(human.get(name), model.get(name)) for name in DIMENSIONS)])
    return table(("people / model", *DIMENSIONS), rows, "ds-grid")


def _cell(human: str | None, model: str | None) -> Markup:
    if human is None:
        return NOTHING
    differs = model is not None and human != model
    return Markup('<span class="ds-score {}">{} / {}</span>').format("is-marked" if differs else "", human, model or "?")
