"""Analyse page: everything as one file, through a route that looks up who asks."""

from __future__ import annotations

import re
from datetime import datetime, timezone

from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import BaseRoute, Route

from app.analyse.benchmarks_tab import BenchmarksTab
from app.analyse.disagreements_tab import DisagreementsTab
from app.analyse.findings_tabs import FindingsTab
from app.analyse.panel import READERS, AnalyseSection
from app.analyse.selection import AnalyseContext, SelectedPairs, Selection
from app.analyse.views.report import REPORT_PATH, case_table, report_form, report_html
from app.web.auth import AuthError
from app.web.panel import Reply
from app.web.plain_errors import PLAIN_ERRORS
from app.web.plain_pages import page
from storage.accounts.users import User


class ReportTab(AnalyseSection):
    """A button whose answer is the file."""

    name, title = "report", "Report"

    def __init__(
        self, context: AnalyseContext, tabs: tuple[FindingsTab, ...], cases: DisagreementsTab, benchmarks: BenchmarksTab
    ) -> None:
        super().__init__(context)
        self._tabs, self._cases, self._benchmarks = tabs, cases, benchmarks

    def view(self, person: User, selection: Selection) -> Reply:
        """What is in it."""
        chosen = self.context.chosen(selection)
        names = [one.name for one in chosen.checkpoints]
        fields = selection.to_value() | {"held_out": "yes" if selection.held_out else "no"}
        return Reply(report_form(fields, _pairs_in_words(chosen), names))

    def routes(self) -> list[BaseRoute]:
        """The download."""
        return [Route(REPORT_PATH, self.download, methods=["GET"])]

    def download(self, request: Request) -> Response:
        """The file of the selection that the query names."""
        try:
            self.context.auth.require(request, *READERS)
            asked = dict(request.query_params) | {"beside": request.query_params.getlist("beside")}
            chosen = self.context.chosen(self.context.select(asked))
        except PLAIN_ERRORS as error:
            status = error.status if isinstance(error, AuthError) else 422
            return page("plain/notice.html", status, up="../../", title="Report", text=str(error))
        name = re.sub(r"[^a-z0-9]+", "-", chosen.first.name.lower()).strip("-") or "checkpoint"
        headers = {
            "Content-Disposition": f'attachment; filename="descore-{name}.html"',
            "Cache-Control": "no-store",
            "X-Content-Type-Options": "nosniff",
        }
        return HTMLResponse(self.write(chosen), headers=headers)

    def write(self, chosen: SelectedPairs) -> str:
        """The file's text."""
        parts = [(tab.title, tab.found(chosen)) for tab in self._tabs]
        parts.append((self._benchmarks.title, self._benchmarks.found(chosen)))
        return report_html(
            checkpoints=[(one.name, one.fingerprint) for one in chosen.checkpoints],
            facts={"pairs": _pairs_in_words(chosen), "details": f"of {chosen.first.name}, asked to {chosen.selection.mode}"},
            parts=parts,
            cases=case_table(self._cases.found(chosen)),
            at=datetime.now(timezone.utc),
        )


def _pairs_in_words(chosen: SelectedPairs) -> str:
    held_out = ", held-out ones only" if chosen.selection.held_out else ""
    return f"{chosen.scope}{held_out} ({len(chosen.first.pairs)}, of which {chosen.labelled} are labelled)"
