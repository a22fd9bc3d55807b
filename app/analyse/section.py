"""A section of the Analyse page, and the script of its panel."""

from __future__ import annotations

from typing import Any, ClassVar

from app.analyse.selection import AnalyseContext, Selection
from app.ui.assets import mount_script
from app.ui.plotly_script import PLOTLY_ADDRESS
from app.web.panel import PANEL_EVENTS, Section
from storage.schema import Role

READERS: tuple[Role, ...] = ("lead", "viewer")


class AnalyseSection(Section[Selection]):
    """A section of the Analyse page; its scope is the selection that the person made."""

    page: ClassVar[str] = "analyse"
    readers = READERS

    def __init__(self, context: AnalyseContext) -> None:
        super().__init__(context.auth)
        self.context = context

    def scope_of(self, state: Any) -> Selection:
        """Return the selection that the browser's state names.

        Raises:
            FormError: there is no checkpoint yet.
        """
        return self.context.select(state)

    def script(self) -> str:
        """Return the script of the panel, which draws figures and saves tables too."""
        return mount_script("analyse/panel.js", PANEL_EVENTS, plotly=PLOTLY_ADDRESS)
