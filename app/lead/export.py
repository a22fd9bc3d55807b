"""Tab Export: the store's pairs and labels as a download, through a route for leads only."""

from __future__ import annotations

import shutil
import tempfile
import time
import zipfile
from pathlib import Path
from typing import Any, cast

from starlette.background import BackgroundTask
from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.routing import BaseRoute, Route

from app.lead.context import LeadSection
from app.lead.views.exchange import EXPORT_PATH, export_form
from app.web.auth import AuthError
from app.web.panel import Reply
from app.web.plain_pages import page
from storage import StorageError
from storage.accounts.users import User
from storage.analysis.reward_margins import pair_sources
from storage.campaigns.campaign import list_campaigns
from storage.data_home import ensure_folder
from storage.exchange.exporting.export import export
from storage.exchange.exporting.stored_pairs import Labels
from storage.labelling.vote_labels import votes_summary

OUTGOING = "outgoing"
ABANDONED_SECONDS = 24 * 3600


class ExportTab(LeadSection):
    """A form whose answer is a zip."""

    name, title = "export", "Export"

    def view(self, _person: User, _campaign: int | None) -> Reply:
        """Show the formats and choices of an export."""
        with self.context.database.read() as session:
            sources = pair_sources(session)
            campaigns = {campaign.id: campaign.config.name for campaign in list_campaigns(session)}
            votes = votes_summary(session)
        if votes is not None:
            campaigns[votes.campaign.id] = votes.campaign.config.name
        return Reply(export_form(sources, campaigns))

    def routes(self) -> list[BaseRoute]:
        """Return the route of the download."""
        return [Route(EXPORT_PATH, self.download, methods=["GET"])]

    def download(self, request: Request) -> Response:
        """Write the export into a private folder, pack it, send it, remove both."""
        try:
            self.context.auth.require(request, "lead")
            selection = _selection(request.query_params.get("what", ""))
        except AuthError as error:
            return _refused(error.status, str(error))
        folder = _new_folder(self.context.database.home)
        try:
            archive = self._pack(request, selection, folder)
        except BaseException as error:
            shutil.rmtree(folder, ignore_errors=True)
            if isinstance(error, StorageError):
                return _refused(422, str(error))
            raise
        clean = BackgroundTask(shutil.rmtree, folder, ignore_errors=True)
        headers = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}
        return FileResponse(archive, media_type="application/zip", filename=archive.name, headers=headers, background=clean)

    def _pack(self, request: Request, selection: dict[str, Any], outgoing: Path) -> Path:
        format = request.query_params.get("format", "")
        folder = outgoing / "export"
        labels = cast("Labels", request.query_params.get("labels", "raw"))
        with_videos = request.query_params.get("videos") == "yes"
        report = export(self.context.database, folder, format, labels=labels, copy_videos=with_videos, **selection)
        archive = outgoing / f"descore-{report.format}.zip"
        with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as packed:
            for path in sorted(folder.rglob("*")):
                if path.is_file():
                    # Videos are compressed already.
                    stored = path.suffix in (".mp4", ".webm", ".parquet")
                    packed.write(path, path.relative_to(folder), zipfile.ZIP_STORED if stored else None)
        shutil.rmtree(folder)
        return archive


def _new_folder(home: Path) -> Path:
    """Make a private folder for one export; remove those of downloads that were broken off long ago."""
    outgoing = ensure_folder(home / OUTGOING)
    for earlier in outgoing.iterdir():
        if time.time() - earlier.stat().st_mtime > ABANDONED_SECONDS:
            shutil.rmtree(earlier, ignore_errors=True)
    return Path(tempfile.mkdtemp(dir=outgoing))


def _selection(what: str) -> dict[str, Any]:
    kind, _, key = what.partition(":")
    if kind == "campaign" and key.isdigit():
        return {"campaign_id": int(key)}
    return {"source": key} if kind == "source" else {}


def _refused(status: int, text: str) -> Response:
    return page("plain/notice.html", status, up="../../", title="Export", text=text)
