"""The form that shows which column of a table is taken for what, and what a lead chose in it."""

from __future__ import annotations

import json
from collections.abc import Mapping

from markupsafe import Markup

from app.ui.markup import joined, options
from app.web.form_data import FormData, FormError
from descore.tables.labels import parse_words
from storage.exchange.column_use import ROLE_WORDS, ROLES, ColumnUse

_PREFIX = "column_"
_NONE = "\N{EN DASH}"


def chosen_columns(form: FormData) -> dict[str, str]:
    """Return role -> column as chosen, "" for none; {} where nothing was changed, or another file was chosen since."""
    if not form.text("columns_of") or form.text("columns_of") != form.text("place"):
        return {}
    chosen = {role: form.text(f"{_PREFIX}{role}") for role in ROLES}
    return {} if _as_text(chosen) == form.text("columns_found") else chosen


def chosen_words(form: FormData) -> dict[str, int]:
    """Return the meanings that were given to words of labels.

    Raises:
        FormError: they can't be read.
    """
    if form.text("columns_of") != form.text("place"):
        return {}
    texts = [part for part in form.text("words").split(",") if part.strip()]
    try:
        return parse_words(texts)
    except ValueError:
        raise FormError("Enter meanings of words as WORD=A, WORD=B or WORD=tie, with commas between them.") from None


def column_fields(use: ColumnUse, form: FormData) -> Markup:
    """Return the fields: for each role a choice of all columns.

    Args:
        use: of the last dry run.
        form: that began it.
    """
    chosen = chosen_columns(form)
    found = form.text("columns_found") if chosen else _as_text(use.roles)
    selected = {**use.roles, **chosen}
    columns = {"": _NONE, **{name: name for name in use.names}}
    selects = joined(
        Markup('<label>{} <select name="{}">{}</select></label>').format(
            ROLE_WORDS[role], f"{_PREFIX}{role}", options(columns, selected.get(role, ""))
        )
        for role in ROLES
    )
    words = form.text("words") if form.text("columns_of") == form.text("place") else ""
    return Markup(
        '<fieldset class="ds-field lead-columns"><legend>Columns</legend>{}'
        '<label>Meanings of labels <input name="words" placeholder="the left one=A, 2=B" value="{}"></label>'
        '<input type="hidden" name="columns_of" value="{}"><input type="hidden" name="columns_found" value="{}">'
        '<button class="ds-button">Check with these columns</button></fieldset>'
    ).format(selects, words, form.text("place"), found)


def column_sentences(use: ColumnUse) -> Markup:
    """Say which columns were read, which were not, and what these may be."""
    sentences = (Markup("<li>{}</li>").format(f"{sentence[:1].upper()}{sentence[1:]}.") for sentence in use.sentences())
    return Markup('<ul class="lead-column-use">{}</ul>').format(joined(sentences)) if use.names else Markup("")


def _as_text(roles: Mapping[str, str]) -> str:
    """Write roles so that equal ones are equal texts, whether a role without a column is left out or empty."""
    return json.dumps([[role, " ".join(roles.get(role, "").split())] for role in ROLES], ensure_ascii=False)
