"""What every answer of the app says to the browser, and which addresses of Gradio are closed.

    app_kwargs={"middleware": [Middleware(SecurityHeaders, api_docs=False)]}      # of gr.Blocks.launch

The policy allows what the pages use and nothing from other machines. Gradio's pages have inline scripts and styles, and turn
the scripts of their components into functions; so scripts in a page's own text can't be forbidden, only others' files.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from starlette.datastructures import MutableHeaders
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.web.deployment import on_space

_POLICY: Mapping[str, str] = {
    "default-src": "'self'",
    "script-src": "'self' 'unsafe-inline' 'unsafe-eval'",
    "style-src": "'self' 'unsafe-inline'",
    "img-src": "'self' data: blob:",
    "media-src": "'self' data: blob:",
    "font-src": "'self' data:",
    "connect-src": "'self' data: blob:",
    "worker-src": "'self' blob:",
    "object-src": "'none'",
    "base-uri": "'self'",
    "form-action": "'self'",
}
# The pages of FastAPI's documentation take their scripts from there.
_DOCS_POLICY: Mapping[str, str] = {
    **_POLICY,
    "script-src": "'self' 'unsafe-inline' https://cdn.jsdelivr.net",
    "style-src": "'self' 'unsafe-inline' https://cdn.jsdelivr.net",
    "img-src": "'self' data: https://fastapi.tiangolo.com",
}
DOCS = re.compile(r"/(docs(/oauth2-redirect)?|redoc|openapi\.json|gradio_api/openapi\.json)/?")
# Gradio's own tools for developers and operators: its reload, editor of the program's source, profiler, usage figures,
# record of calls, fetching of other machines' pages. None of the pages nor its client for programs needs them.
CLOSED = re.compile(
    r"/monitoring(/.*)?"
    r"|/gradio_api/(dev|profiling|run-history|vibe-code|vibe-edit|undo-vibe-edit|vibe-starter-queries)(/.*)?"
    r"|/gradio_api/(runs|deep_link|token|process_recording)/?"
    r"|/gradio_api/proxy=.*"
)


def frame_ancestors() -> str:
    """Say who may show the app inside a page: itself, and the Hub where the app is a Space."""
    return "'self' https://huggingface.co https://*.huggingface.co https://*.hf.space" if on_space() else "'self'"


def security_headers(path: str = "/") -> dict[str, str]:
    """Return the headers of an answer."""
    rules = _DOCS_POLICY if DOCS.fullmatch(path) else _POLICY
    policy = "; ".join(f"{name} {value}" for name, value in {**rules, "frame-ancestors": frame_ancestors()}.items())
    return {
        "Content-Security-Policy": policy,
        "Referrer-Policy": "same-origin",
        "X-Content-Type-Options": "nosniff",
    }


class SecurityHeaders:
    """Adds the headers to each answer that has none of its own, and answers closed addresses as unknown ones.

    Args:
        api_docs: leave FastAPI's description of the addresses open.
    """

    def __init__(self, app: ASGIApp, api_docs: bool = False) -> None:
        self._app, self._api_docs = app, api_docs

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle a request of ASGI."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        path = scope["path"].removeprefix(scope.get("root_path", ""))

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in security_headers(path).items():
                    headers.setdefault(name, value)
            await send(message)

        closed = CLOSED.fullmatch(path) or (DOCS.fullmatch(path) and not self._api_docs)
        app = PlainTextResponse("Not found", status_code=404) if closed else self._app
        await app(scope, receive, with_headers)
