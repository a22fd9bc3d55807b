"""The endpoints of the Judge page as tools for programs that speak MCP (the Model Context Protocol).

    app_kwargs={"middleware": [Middleware(ToolDoor, blocks=blocks, endpoints=endpoints, auth=auth)]}
    blocks.launch(mcp_server=True, ...)         # Gradio speaks the protocol and describes the tools

Gradio would call the endpoints through a client of its own: then all callers share one address and one place in the queue,
the work goes on when they leave, and it writes files that a call holds as text to the disk, past every bound. So the
calls are made here: in the name of who asks, ended when they leave, with files that were uploaded before.
"""

from __future__ import annotations

import json
import logging
import threading
from functools import partial
from inspect import signature
from typing import TYPE_CHECKING, Any

import gradio as gr
from anyio import CapacityLimiter, to_thread
from gradio.context import LocalContext
from mcp import types
from starlette.requests import Request
from starlette.responses import PlainTextResponse

from app.judge.endpoints import JudgeEndpoints
from app.serving.judging_queue import MOST_OF_NETWORK
from app.web.auth import Auth, AuthError
from app.web.client_signal import CLIENT_LEFT
from app.web.deployment import client_address
from app.web.uploads import Admission, TooManyError
from storage.accounts.attempts import source_of

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

log = logging.getLogger(__name__)

PATH = "/gradio_api/mcp"
# By the names of their endpoints. A vote is a person's, so there is no tool for it.
TOOLS = ("gallery", "judge_bundled", "judge", "score", "compare")
MOST_CALLS = 40  # at a time, of everybody; each holds a thread, most of them waiting in the queue before the model


class ToolDoor:
    """ASGI middleware before Gradio's MCP server, whose tools it sets up: who may pass, and how many at a time.

    Args:
        blocks: what Gradio serves, with its MCP server.
        endpoints: the functions behind the tools.
        auth: tells a page of another site from a program.
    """

    def __init__(self, app: ASGIApp, blocks: gr.Blocks, endpoints: JudgeEndpoints, auth: Auth) -> None:
        self._app, self._auth = app, auth
        self._calls = Admission(MOST_OF_NETWORK, MOST_CALLS)
        self._open = blocks.mcp_server_obj is not None
        if self._open:
            offer_tools(blocks.mcp_server_obj, endpoints)
        else:
            log.error("there is no MCP server: %s", blocks.mcp_error)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on; one to the MCP server, within bounds."""
        path = scope.get("path", "").removeprefix(scope.get("root_path", "")).rstrip("/")
        if scope["type"] != "http" or not (path == PATH or path.startswith(f"{PATH}/")):
            await self._app(scope, receive, send)
            return
        try:
            answer = self._refusal(path, Request(scope))
            if answer is not None:
                await answer(scope, receive, send)
                return
            with self._calls.of(source_of(client_address(Request(scope)))):
                await self._app(scope, receive, send)
        except AuthError as error:
            await PlainTextResponse(str(error), error.status)(scope, receive, send)
        except TooManyError:
            await PlainTextResponse("Too many of your calls are open. Wait for one to end.", 429)(scope, receive, send)

    def _refusal(self, path: str, request: Request) -> PlainTextResponse | None:
        self._auth.same_origin(request)
        if not self._open or path not in (PATH, f"{PATH}/schema"):
            return PlainTextResponse("Not found", 404)
        if request.method != ("POST" if path == PATH else "GET"):
            return PlainTextResponse("This address is for MCP clients; docs/api.md describes them.", 405)
        return None


def offer_tools(server: Any, endpoints: JudgeEndpoints) -> None:
    """Let Gradio's MCP server offer `TOOLS` alone, and call them here.

    Args:
        server: `gr.Blocks.mcp_server_obj`.
        endpoints: the functions behind the tools.
    """
    tools = {f"{server.tool_prefix}{name}": name for name in TOOLS}
    server.tool_to_endpoint = {tool: f"/{name}" for tool, name in tools.items()}
    threads = CapacityLimiter(MOST_CALLS)

    async def call(tool: str, arguments: dict[str, Any]) -> types.CallToolResult:
        if tool not in tools:
            raise ValueError(f"There is no tool {tool[:80]!r}; there are: {', '.join(tools)}.")
        function = getattr(endpoints, tools[tool])
        unknown = set(arguments) - (set(signature(function).parameters) - {"request"})
        if unknown:
            raise ValueError(f"{tool} takes no {min(unknown)[:80]!r}.")
        request = gr.Request(server.mcp_server.request_context.request)
        LocalContext.request.set(request)  # ZeroGPU asks there for whom a GPU is lent
        work = partial(function, **arguments, request=request)
        left = threading.Event()
        CLIENT_LEFT.set(left)
        try:
            return _answer(await to_thread.run_sync(work, abandon_on_cancel=True, limiter=threads))
        except gr.Error as error:  # its text is for who asks; the protocol's library sends it on as the tool's error
            raise ValueError(error.message) from None
        except Exception:
            log.exception("a tool failed")
            raise ValueError("This did not work. The app's log says why.") from None
        finally:  # also when the client has left: then this coroutine is cancelled, and the thread goes on until it looks
            left.set()

    server.mcp_server.call_tool()(call)


def _answer(result: Any) -> types.CallToolResult:
    """Return a result as text and, since the protocol takes an object there alone, as one."""
    text = types.TextContent(type="text", text=json.dumps(result, ensure_ascii=False))
    return types.CallToolResult(content=[text], structuredContent=result if isinstance(result, dict) else {"result": result})
