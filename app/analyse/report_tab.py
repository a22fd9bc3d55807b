"""Tab that writes all figures into one HTML file, through a route that checks who asks."""

from __future__ import annotations

import re
from datetime import datetime, timezone

from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import BaseRoute, Route

from app.analyse.benchmarks_tab import BenchmarksTab
from app.analyse.disagreements_tab import DisagreementsTab
from app.analyse.figure_tabs import FigureTab
from app.analyse.figures.judged_pairs import MODE_TITLES
from app.analyse.section import READERS, AnalyseSection
from app.analyse.selection import AnalyseContext, SelectedPairs, Selection
from app.analyse.views.report import REPORT_PATH, case_table, report_form, report_html
from app.web.auth import AuthError
from app.web.panel import Reply
from app.web.plain_errors import PLAIN_ERRORS
from app.web.plain_pages import page
from storage.accounts.users import User


class ReportTab(AnalyseSection):
    """A button that downloads the file."""

    name, title = "report", "Report"

    def __init__(
        self, context: AnalyseContext, tabs: tuple[FigureTab, ...], cases: DisagreementsTab, benchmarks: BenchmarksTab
    ) -> None:
        super().__init__(context)
        self._tabs, self._cases, self._benchmarks = tabs, cases, benchmarks

    def view(self, _person: User, selection: Selection) -> Reply:
        """Show the button, and what the file will contain."""
        selected = self.context.load(selection)
        names = [checkpoint.name for checkpoint in selected.checkpoints]
        fields = selection.to_value() | {"held_out": "yes" if selection.held_out else "no"}
        return Reply(report_form(fields, _pairs_text(selected), names))

    def routes(self) -> list[BaseRoute]:
        """Return the route of the download."""
        return [Route(REPORT_PATH, self.download, methods=["GET"])]

    def download(self, request: Request) -> Response:
        """Answer with the file of the selection that the query names."""
        try:
            self.context.auth.require(request, *READERS)
            fields = dict(request.query_params) | {"beside": request.query_params.getlist("beside")}
            selected = self.context.load(self.context.select(fields))
        except PLAIN_ERRORS as error:
            status = error.status if isinstance(error, AuthError) else 422
            return page("plain/notice.html", status, up="../../", title="Report", text=str(error))
        name = re.sub(r"[^a-z0-9]+", "-", selected.first.name.lower()).strip("-") or "checkpoint"
        headers = {
            "Content-Disposition": f'attachment; filename="descore-{name}.html"',
            "Cache-Control": "no-store",
            "X-Content-Type-Options": "nosniff",
        }
        return HTMLResponse(self.write(selected), headers=headers)

    def write(self, selected: SelectedPairs) -> str:
        """Return the text of the file."""
        parts = [(tab.title, tab.findings(selected)) for tab in self._tabs]
        parts.append((self._benchmarks.title, self._benchmarks.findings(selected)))
        return report_html(
            checkpoints=[(checkpoint.name, checkpoint.fingerprint) for checkpoint in selected.checkpoints],
            summary={
                "pairs": _pairs_text(selected),
                "details": f"of {selected.first.name}, {MODE_TITLES[selected.selection.mode]}",
            },
            parts=parts,
            cases=case_table(self._cases.disagreements(selected)),
            at=datetime.now(timezone.utc),
        )


def _pairs_text(selected: SelectedPairs) -> str:
    held_out = ", held-out ones only" if selected.selection.held_out else ""
    return f"{selected.scope}{held_out} ({len(selected.first.pairs)}, of which {selected.labelled} are labelled)"
