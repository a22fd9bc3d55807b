"""What every request meets first: who asks, from where, how much it sends, and whether the server still takes requests.

Plain ASGI, so that a stream is passed on as it is and a client that leaves is seen at once.
"""

from __future__ import annotations

import hmac
import json
from urllib.parse import urlsplit

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from descore.server.config import ServerConfig, is_loopback
from descore.server.errors import ServerError
from descore.server.metrics import Metrics

OPEN = "/health"  # for those who watch the server and have no token
UPLOAD = "/v1/videos"
# Labels of the metrics: addresses that somebody made up are counted together.
_KNOWN = {OPEN, UPLOAD, "/v1/judge", "/v1/score", "/v1/checkpoint", "/metrics", "/openapi.json"}


class Doors:
    """The first layer of the server's app."""

    def __init__(self, app: ASGIApp, config: ServerConfig, metrics: Metrics) -> None:
        self._app, self._config, self._metrics = app, config, metrics
        self._token = None if config.token is None else config.token.encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request through, or answer it with a refusal."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        path: str = scope["path"]
        known = UPLOAD if path.startswith(f"{UPLOAD}/") else path if path in _KNOWN else "other"

        async def counted(message: Message) -> None:
            if message["type"] == "http.response.start":
                self._metrics.requests.labels(known, str(message["status"])).inc()
            await send(message)

        try:
            headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
            self._check(path, headers)
            bounded = receive if path == UPLOAD else self._bounded(headers, receive)
            await self._app(scope, bounded, counted)
        except ServerError as error:
            await _refuse(error, counted)

    def _check(self, path: str, headers: dict[str, str]) -> None:
        """Refuse a request that may not come in.

        Raises:
            ServerError: no token, another site's page, another name of this machine.
        """
        # Pages of other sites send these with what they send; programs don't.
        origin = headers.get("origin")
        if origin is not None and urlsplit(origin).netloc != headers.get("host"):
            raise ServerError(403, "forbidden", "pages of other sites may not ask this server")
        if self._token is None:
            # A name that somebody else points at this machine would make any page one of this site.
            name = urlsplit(f"//{headers.get('host', '')}").hostname or ""
            if not is_loopback(name):
                raise ServerError(403, "forbidden", "without a token this server answers to names of this machine only")
            return
        scheme, _, given = headers.get("authorization", "").partition(" ")
        # The comparison takes the same time wherever the first difference is.
        right = hmac.compare_digest(given.strip().encode("latin-1", "replace"), self._token)
        if path != OPEN and not (right and scheme.lower() == "bearer"):
            raise ServerError(
                401, "unauthorized", "send the server's token: Authorization: Bearer TOKEN", {"WWW-Authenticate": "Bearer"}
            )

    def _bounded(self, headers: dict[str, str], receive: Receive) -> Receive:
        limit = self._config.body_bytes
        too_large = ServerError(413, "too_large", f"the request has more than {limit:,} bytes; send fewer rows at a time")
        length = headers.get("content-length", "0")
        if length.isdigit() and int(length) > limit:
            raise too_large
        arrived = 0

        async def bounded() -> Message:
            nonlocal arrived
            message = await receive()
            arrived += len(message.get("body", b""))
            if arrived > limit:
                raise too_large
            return message

        return bounded


async def _refuse(error: ServerError, send: Send) -> None:
    body = json.dumps({"error": error.body()}, ensure_ascii=False).encode()
    headers = {"content-type": "application/json", "content-length": str(len(body)), **error.headers}
    raw = [(name.lower().encode(), value.encode("latin-1")) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": error.status, "headers": raw})
    await send({"type": "http.response.body", "body": body})
