"""Pages that a demo does not have: each says why in one sentence, and so do its addresses."""

from __future__ import annotations

from dataclasses import dataclass

import gradio as gr
from markupsafe import Markup
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route


@dataclass(frozen=True)
class ClosedPage:
    """A page of one sentence.

    Attributes:
        sentence: what is not here, and why.
        addresses: of the page that would be here, which answer with it.
    """

    sentence: str
    addresses: tuple[BaseRoute, ...]

    def build(self, _blocks: gr.Blocks) -> None:
        """Lay the page out in the current `gr.Blocks`."""
        gr.HTML(str(Markup('<p class="ds-gate">{}</p>').format(self.sentence)), apply_default_css=False, elem_id="ds-gate")

    def routes(self) -> list[BaseRoute]:
        """Return the page's addresses, which refuse everybody."""
        return [
            Route(route.path, self._refuse, methods=sorted(route.methods or {"GET"}))
            for route in self.addresses
            if isinstance(route, Route)
        ]

    def _refuse(self, _request: Request) -> Response:
        content = {"error": {"code": "demo", "message": self.sentence}}
        return JSONResponse(content, status_code=403, headers={"Cache-Control": "no-store"})
