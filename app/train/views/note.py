"""HTML of the note on a run: shown to all who see the page, written by leads."""

from __future__ import annotations

from markupsafe import Markup

from app.train.views.runs import RunSummary
from app.ui.dates import day
from storage.training.run_notes import LONGEST_NOTE, RunNote


def note_view(summary: RunSummary, note: RunNote | None, may_act: bool) -> Markup:
    """Show the note with who wrote it and when, and to leads the field that replaces it."""
    shown = Markup("")
    if note is not None:
        shown = Markup('<p class="train-note-text">{}</p><p><small>note by {}, {}</small></p>').format(
            note.text, note.by, day(note.created_at)
        )
    return shown + (_field(summary, note) if may_act else "")


def _field(summary: RunSummary, note: RunNote | None) -> Markup:
    return Markup(
        '<details class="train-more" data-keep="note-{id}"><summary>{title}</summary>'
        '<form class="ds-form train-note-form" data-act="note" data-id="{id}">'
        '<textarea name="text" rows="3" maxlength="{longest}" aria-label="Note on {name}">{text}</textarea>'
        '<button type="submit" class="ds-button">Save note</button></form></details>'
    ).format(
        id=summary.run.id,
        title="Change the note" if note else "Write a note",
        longest=LONGEST_NOTE,
        name=summary.run.name,
        text=note.text if note else "",
    )
