"""Pages outside Gradio: plain HTML from `app/static`, in the app's colours, without a script."""

from __future__ import annotations

from functools import cache
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.responses import HTMLResponse

from app.ui.assets import STATIC, colours_by_preference, read_static
from app.web.security_headers import frame_ancestors

_templates = Environment(loader=FileSystemLoader(STATIC), autoescape=True, undefined=StrictUndefined, trim_blocks=True)


def page(template: str, status: int = 200, **values: Any) -> HTMLResponse:
    """Render a page from a template, which escapes the `values`.

    The page is never cached, names itself to no other site, runs no script, and is framed by nobody but a Space.
    """
    text = _templates.get_template(template).render({"error": None, "name": "", **values, "style": _style()})
    policy = "default-src 'none'; style-src 'unsafe-inline'; img-src 'self'; form-action 'self'; base-uri 'none'"
    headers = {
        "Cache-Control": "no-store",
        # The other headers are those of every answer (`security_headers.py`); the policy is stricter here.
        "Content-Security-Policy": f"{policy}; frame-ancestors {frame_ancestors()}",
    }
    return HTMLResponse(text, status_code=status, headers=headers)


@cache
def _style() -> str:
    """Return the style sheet. Elsewhere Gradio's script chooses between light and dark; here the style itself has to."""
    return colours_by_preference() + read_static("plain/plain_pages.css")
