"""The static files: templates and style sheets, which go into pages as text, and scripts, which a browser fetches.

The scripts of `app/static` are ES modules that import what they use. They are served under a folder whose name holds a hash
of all of them, so that a browser may keep them for ever; `mount_script` makes a component load one.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from functools import cache
from pathlib import Path

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import BaseRoute, Route

STATIC = Path(__file__).resolve().parent.parent / "static"
BASE_SHEETS = ("shared/colours.css", "shared/base.css")
COMPONENT_SHEETS = (
    "shared/header.css",
    "shared/synced_pair.css",
    "shared/verdict.css",
    "shared/panel.css",
    "shared/tabs.css",
    "shared/table.css",
    "shared/form.css",
    "shared/case.css",
)
PAGE_SHEETS = (
    "judge/judge.css",
    "judge/vote.css",
    "judge/batch.css",
    "lead/lead.css",
    "lead/adjudication.css",
    "label/label.css",
    "label/dialogs.css",
    "analyse/analyse.css",
    "train/train.css",
)
_YEAR = 365 * 24 * 3600


@cache
def read_static(name: str) -> str:
    """Return the text of one file of `app/static`."""
    return (STATIC / name).read_text(encoding="utf-8")


def styles() -> str:
    """Return all style sheets as one text, for `Blocks.launch(css=...)`: base, components, pages."""
    return "\n".join(read_static(name) for name in (*BASE_SHEETS, *COMPONENT_SHEETS, *PAGE_SHEETS))


def colours_by_preference() -> str:
    """Return the colours for a page without Gradio's script, which would choose between light and dark."""
    colours = read_static("shared/colours.css")
    return colours.replace(".dark {", "@media (prefers-color-scheme: dark) { :root {") + "}\n"


def mount_script(module: str, events: Sequence[str] = (), **options: str) -> str:
    """Return a component's `js_on_load`: it imports a module and calls its `mount` with what Gradio gives, and `options`.

    The address is relative to the page's, so that it holds behind a proxy's prefix.

    Args:
        events: the events that the module triggers. Gradio knows those of a component by their names in this text.
    """
    address = json.dumps(f"./{_folder()}/{module}")
    return (
        f"// events: {json.dumps(list(events))}\n"
        f"import(new URL({address}, document.baseURI).href)"
        f".then((page) => page.mount({{ element, props, trigger, watch, ...{json.dumps(options)} }}));"
    )


def scripts_route() -> BaseRoute:
    """Return the route under which the scripts are served."""
    return Route(f"/{_folder()}/{{name:path}}", _script, methods=["GET"])


async def _script(request: Request) -> Response:
    text = _scripts().get(request.path_params["name"])
    if text is None:
        return PlainTextResponse("no such script", status_code=404)
    headers = {"Cache-Control": f"public, max-age={_YEAR}, immutable", "X-Content-Type-Options": "nosniff"}
    return Response(text, media_type="text/javascript", headers=headers)


@cache
def _scripts() -> dict[str, str]:
    """Read every script, by its name below `app/static`."""
    names = sorted(path.relative_to(STATIC).as_posix() for path in STATIC.rglob("*.js"))
    return {name: read_static(name) for name in names}


@cache
def _folder() -> str:
    """Return the folder of the addresses; another one as soon as one script differs."""
    digest = hashlib.sha256(json.dumps(_scripts()).encode()).hexdigest()
    return f"scripts-{digest[:12]}"
