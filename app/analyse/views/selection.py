"""HTML of the form on top of the Analyse page, and of its warnings."""

from __future__ import annotations

from markupsafe import Markup

from app.analyse.figures.judged_pairs import FITTED_HERE, MODE_TITLES
from app.analyse.selection import Selection, SelectionOptions
from app.ui.markup import checkboxes, empty, options


def selection_form(available: SelectionOptions, selection: Selection) -> Markup:
    """Show the form of a selection; each change of it is sent at once."""
    names = {str(checkpoint.id): checkpoint.name for checkpoint in available.checkpoints}
    others = {key: name for key, name in names.items() if key != str(selection.checkpoint)}
    compared = Markup('<fieldset class="analyse-beside"><legend>compare with</legend>{}</fieldset>').format(
        checkboxes("beside", others, [str(key) for key in selection.beside], change="choose")
    )
    return Markup(
        '<form class="ds-form analyse-choose" data-act="choose">'
        '<label>Checkpoint<select name="checkpoint" aria-label="Checkpoint" data-change="choose">{}</select></label>'
        '<label>Mode<select name="way" aria-label="Mode" data-change="choose">{}</select></label>'
        '<label>Pairs<select name="scope" aria-label="Pairs" data-change="choose">{}</select></label>'
        "<div>{}</div>{}</form>"
    ).format(
        options(names, str(selection.checkpoint)),
        options(MODE_TITLES, selection.mode),
        options(available.scopes, selection.scope),
        checkboxes("held_out", {"yes": "held-out pairs only"}, ["yes"] if selection.held_out else [], change="choose"),
        compared if others else "",
    )


def selection_warnings(*, trained_here: bool, held_out: bool, labelled: int) -> Markup:
    """Warn of what makes the figures of a selection misleading or empty.

    Args:
        trained_here: whether a selected checkpoint was trained on labels of this store.
        held_out: whether only held-out pairs are selected.
        labelled: number of selected pairs in which people chose.
    """
    warnings = Markup("")
    if trained_here and not held_out:
        warnings += Markup(
            '<p class="ds-hint"><mark>A selected checkpoint was trained on labels of this store.</mark> Figures of '
            "agreement leave out the pairs that it was trained on; other pairs of their videos or prompts may still favour "
            "it. The held-out pairs are the fairest.</p>"
        )
    elif trained_here:
        warnings += Markup('<p class="ds-hint"><mark>A selected checkpoint was trained here.</mark> {}</p>').format(
            FITTED_HERE
        )
    if not labelled:
        warnings += empty("People have not labelled any of these pairs yet, so figures that need their labels stay empty.")
    return warnings
