"""Form on top of the Analyse page: which checkpoint, mode and pairs the tabs show."""

from __future__ import annotations

from typing import Any

import gradio as gr

from app.analyse.section import READERS, AnalyseSection
from app.analyse.selection import Selection
from app.analyse.views.selection import selection_form, selection_warnings
from app.web.form_data import FormData
from app.web.panel import Reply
from app.web.plain_errors import PLAIN_ERRORS
from storage.accounts.users import User


class SelectionPanel(AnalyseSection):
    """The form, and warnings on what it selects."""

    name, title = "choose", "Choose"

    def view(self, _person: User, selection: Selection) -> Reply:
        """Show the form as it is filled in."""
        options = self.context.options()
        selected_ids = {selection.checkpoint, *selection.beside}
        trained_here = any(row.id in selected_ids and row.snapshot_hash is not None for row in options.checkpoints)
        labelled = self.context.load(selection).labelled
        warnings = selection_warnings(trained_here=trained_here, held_out=selection.held_out, labelled=labelled)
        return Reply(selection_form(options, selection) + warnings)

    def choose(self, event: gr.EventData, request: gr.Request) -> list[Any]:
        """Handle a change of the form: return the panel, and the selection for the page and for the browser's memory."""
        try:
            person = self.context.auth.require(request, *READERS)
            selection = self.context.select(FormData.of(event).fields)
            value = selection.to_value()
            return [self.view(person, selection).value(), value, value]
        except PLAIN_ERRORS as error:
            return [Reply(None, str(error), bad=True).value(), gr.skip(), gr.skip()]
