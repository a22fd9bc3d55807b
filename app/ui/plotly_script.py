"""Plotly's own script, as the Python package brings it: served by the app, so that no other machine is asked for it.

A page loads `PLOTLY_ADDRESS` once it has something to draw; browsers keep it until the package is another version.
"""

from __future__ import annotations

import gzip
from functools import cache
from importlib import metadata, resources

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

PLOTLY_ADDRESS = f"./plotly-{metadata.version('plotly')}.js"
_YEAR = 365 * 24 * 3600


def plotly_route() -> BaseRoute:
    """Return the route under which the script is served."""
    return Route(PLOTLY_ADDRESS.removeprefix("."), _script, methods=["GET"])


async def _script(request: Request) -> Response:
    headers = {"Cache-Control": f"public, max-age={_YEAR}, immutable", "Vary": "Accept-Encoding"}
    packed = "gzip" in request.headers.get("accept-encoding", "")
    content = _packed() if packed else gzip.decompress(_packed())
    return Response(
        content, media_type="text/javascript", headers=headers | ({"Content-Encoding": "gzip"} if packed else {})
    )


@cache
def _packed() -> bytes:
    """Compress the script: 4.8 MB of text become 1.4."""
    return gzip.compress((resources.files("plotly") / "package_data" / "plotly.min.js").read_bytes(), 6)
