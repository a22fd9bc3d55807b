"""The labels of one pair, side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from markupsafe import Markup

from app.ui.markup import NOTHING, joined, pill, table
from storage.labelling.consensus import COUNTED
from storage.labelling.labels import Label

SHORT_CHOICES = {"A": "A", "B": "B", "tie": "tie", "both_bad": "both bad"}
KINDS = {"work": "", "import": "imported", "repeat": "repeat", "gold": "gold", "qualification": "qualification"}


def labels_side_by_side(labels: Sequence[Label], names: Mapping[int, str], dimensions: Sequence[str]) -> Markup:
    """Return a table with a row for each label. Cells of sub-scores read "A / B" and are marked where people differ."""
    ordinary = [label for label in labels if label.kind in COUNTED]
    differing = {name: len({_cell(label, name) for label in ordinary}) > 1 for name in dimensions}
    rows = [
        [
            Markup("<b>{}</b> {}").format(names.get(label.annotator_id, "?"), pill(KINDS.get(label.kind, label.kind))),
            _choice(label),
            *(_score(label, name, differing[name]) for name in dimensions),
            f"{label.seconds:.0f} s",
            _remarks(label),
        ]
        for label in labels
    ]
    return table(("annotator", "choice", *dimensions, "time", "note, marks"), rows, "ds-labels")


def _choice(label: Label) -> Markup:
    if label.choice in ("A", "B"):
        badge = Markup('<b class="side-badge">{}</b>').format(label.choice)
        return Markup('<span class="side-{}">{} {}</span>').format(label.choice.lower(), badge, label.strength or "")
    return Markup("{}").format(SHORT_CHOICES.get(label.choice or "", NOTHING))


def _cell(label: Label, dimension: str) -> tuple[str | None, str | None]:
    a, b = (label.sub_scores.get(side, {}).get(dimension) for side in ("A", "B"))
    return a, b


def _score(label: Label, dimension: str, differs: bool) -> Markup:
    a, b = _cell(label, dimension)
    if a is None and b is None:
        return NOTHING
    return Markup('<span class="ds-score {}">{} / {}</span>').format("is-marked" if differs else "", a, b)


def _remarks(label: Label) -> Markup:
    marks = [f"{mark['video']} breaks at {mark['time']:.2f} s" for mark in label.marks]
    return joined([label.note, *marks][0 if label.note else 1 :], "; ")
