"""Bounds on uploads while they arrive, and the folder in which they wait for their use.

    from starlette.middleware import Middleware

    middleware = Middleware(UploadBounds, folder=folder, who=access.visitor, is_lead=auth.is_lead)
    sweep(folder, WAIT_SECONDS)             # what nobody used, also of an app that was killed

Gradio takes 1000 files a request from anybody, and at an end forgets which ones it took. Leads import whole folders, so they
have no bounds here.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

import gradio as gr
from python_multipart.multipart import parse_options_header
from starlette.concurrency import run_in_threadpool
from starlette.formparsers import MultiPartException
from starlette.requests import Request
from starlette.responses import PlainTextResponse

from app.web.auth import AuthError

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from app.serving.judging_queue import Visitor

PATH = "/upload"  # Gradio's, below its prefix
WAIT_SECONDS = 3600.0  # from an upload to its use
LARGEST_FILE = 512 << 20  # bytes; also what Gradio is told
MOST_FILES = 2  # a request: a pair
_ENVELOPE = 64 << 10  # bytes of a request beside its files
LARGEST_REQUEST = MOST_FILES * LARGEST_FILE + _ENVELOPE
# Within `WAIT_SECONDS`: a pair of the largest files and a second try; of everybody, as much as the store keeps of them.
MOST_OF_ORIGIN, MOST_IN_ALL = 2 * LARGEST_REQUEST, 10 << 30
# Requests that are open at a time: both boxes of a page, in two tabs.
OPEN_OF_ORIGIN, OPEN_IN_ALL = 4, 100
STANDSTILL_SECONDS = 30.0  # without a byte: what is open and sends nothing takes the place of others
FREE_DISK = 1 << 30  # bytes that labels and checkpoints need


LONGEST_PATH = 4096
NOT_UPLOADED = (
    "This is no uploaded file. Send the file itself to /gradio_api/upload first, then name it by the path that is answered; "
    "nothing is fetched from an address."
)


class UploadRefusedError(MultiPartException):
    """An upload is over a bound. Gradio's parser deletes what it has written when it meets this kind."""


class TooManyError(ValueError):
    """Somebody has as many requests open as they may have; the message is for them."""


class Admission:
    """At most so many requests at a time, of one origin and of all; threads may share it."""

    def __init__(self, each: int, all: int) -> None:
        self._each, self._all = each, all
        self._lock = threading.Lock()
        self._open: Counter[str] = Counter()

    @contextmanager
    def of(self, origin: str) -> Iterator[None]:
        """Hold one place until the block ends.

        Raises:
            TooManyError: there is none.
        """
        with self._lock:
            if self._open[origin] >= self._each:
                raise TooManyError("Your earlier uploads are still being worked on. Wait for them, then try again.")
            if self._open.total() >= self._all:
                raise TooManyError("The app is busy with uploads. Try again in a minute.")
            self._open[origin] += 1
        try:
            yield
        finally:
            with self._lock:
                self._open[origin] -= 1
                self._open += Counter()  # drops zeros


class Arrivals:
    """Bytes that arrived within the last hour, of each origin and in all."""

    def __init__(self, each: int, all: int, clock: Callable[[], float]) -> None:
        self._each, self._all, self._clock = each, all, clock
        self._parts: deque[tuple[float, str, int]] = deque()
        self._bytes: Counter[str] = Counter()

    def add(self, origin: str, size: int) -> None:
        """Count a part of an upload.

        Raises:
            UploadRefusedError: it is over a bound.
        """
        now = self._clock()
        while self._parts and self._parts[0][0] <= now - WAIT_SECONDS:
            _, old, gone = self._parts.popleft()
            self._bytes[old] -= gone
            if not self._bytes[old]:
                del self._bytes[old]
        if self._bytes[origin] + size > self._each:
            limit = f"{self._each / 1e9:.1f} GB"
            raise UploadRefusedError(f"You have uploaded {limit} within an hour, the limit. Try again later.")
        if self._bytes.total() + size > self._all:
            raise UploadRefusedError("There is no room for more uploads now. Try again in an hour.")
        if self._parts and self._parts[-1][1] == origin and now - self._parts[-1][0] < 1.0:
            when, _, before = self._parts.pop()
            self._parts.append((when, origin, before + size))
        else:
            self._parts.append((now, origin, size))
        self._bytes[origin] += size


class UploadBounds:
    """ASGI middleware before Gradio's upload address: bounds on files, bytes and open requests, while they stream in."""

    def __init__(
        self,
        app: ASGIApp,
        folder: Path,
        who: Callable[[Request], Visitor],
        is_lead: Callable[[Request], bool],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._app, self._folder, self._who, self._is_lead = app, folder, who, is_lead
        self._open = Admission(OPEN_OF_ORIGIN, OPEN_IN_ALL)
        self._arrivals = Arrivals(MOST_OF_ORIGIN, MOST_IN_ALL, clock)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on; one that uploads files, within bounds."""
        if scope["type"] != "http" or scope["method"] != "POST" or not scope["path"].rstrip("/").endswith(PATH):
            await self._app(scope, receive, send)
            return
        request = Request(scope)
        try:
            visitor = await run_in_threadpool(self._who, request)
            if await run_in_threadpool(self._is_lead, request):
                await self._app(scope, _Body(receive), send)
                return
            self._refuse_at_once(request)
            with self._open.of(visitor.origin):
                await self._app(scope, _Body(receive, _boundary(request), visitor.origin, self._arrivals), send)
        except AuthError as error:
            await PlainTextResponse(str(error), error.status)(scope, receive, send)
        except TooManyError as error:
            await PlainTextResponse(str(error), 429)(scope, receive, send)
        except UploadRefusedError as error:
            await PlainTextResponse(error.message, 413)(scope, receive, send)

    def _refuse_at_once(self, request: Request) -> None:
        length = request.headers.get("content-length", "")
        if length.isdigit() and int(length) > LARGEST_REQUEST:
            raise UploadRefusedError(_TOO_LARGE)
        if shutil.disk_usage(self._folder).free < FREE_DISK:
            raise UploadRefusedError("The disk of this app is nearly full, so it takes no uploads now.")


_TOO_LARGE = f"This upload is over {LARGEST_REQUEST / 1e6:.0f} MB, the limit for one request. Upload smaller videos."


class _Body:
    """The `receive` of a request, counted as it comes.

    Parts are counted by their boundary. A file that holds it by chance would end there for every parser, too.
    """

    def __init__(
        self, receive: Receive, boundary: bytes | None = None, origin: str = "", arrivals: Arrivals | None = None
    ) -> None:
        self._receive, self._boundary, self._origin, self._arrivals = receive, boundary, origin, arrivals
        self._tail = b""
        self._boundaries = self._bytes = 0
        self._ended = False

    async def __call__(self) -> Message:
        if self._ended or self._arrivals is None:
            message = await self._receive()
        else:
            message = await self._next_bytes()
        if self._ended:
            return message
        if message["type"] == "http.disconnect":
            # Starlette's own error for this would leave the half file behind.
            raise UploadRefusedError("The upload broke off. Upload the file again.")
        self._ended = not message.get("more_body", False)
        if self._arrivals is not None:
            self._count(message.get("body", b""), self._arrivals)
        return message

    async def _next_bytes(self) -> Message:
        try:
            return await asyncio.wait_for(self._receive(), STANDSTILL_SECONDS)
        except asyncio.TimeoutError:
            raise UploadRefusedError(
                f"Nothing of the upload came for {STANDSTILL_SECONDS:.0f} seconds. Upload the file again."
            ) from None

    def _count(self, chunk: bytes, arrivals: Arrivals) -> None:
        self._bytes += len(chunk)
        if self._bytes > LARGEST_REQUEST:
            raise UploadRefusedError(_TOO_LARGE)
        arrivals.add(self._origin, len(chunk))
        if self._boundary:
            seen = self._tail + chunk
            self._boundaries += seen.count(self._boundary)
            # As much as can't hold a whole one, so none is counted twice.
            self._tail = seen[max(0, len(seen) - len(self._boundary) + 1) :]
            if self._boundaries > MOST_FILES + 1:  # one more closes the last part
                raise UploadRefusedError(f"Upload {MOST_FILES} files at a time. Only leads may upload more.")


def _boundary(request: Request) -> bytes | None:
    _, options = parse_options_header(request.headers.get("content-type"))
    boundary = options.get(b"boundary")
    return b"--" + boundary if boundary else None


def refuse_addresses(blocks: gr.Blocks) -> None:
    """Let no component fetch a file from an address: Gradio would download it to the disk, whatever its size."""
    for block in blocks.blocks.values():
        move = block.async_move_resource_to_block_cache

        async def moved(path: Any, move: Callable[[Any], Any] = move) -> Any:
            if str(path).lower().startswith(("http://", "https://")):
                raise gr.Error("Send the file itself, not an address.", print_exception=False)
            return await move(path)

        block.async_move_resource_to_block_cache = moved


def uploads_folder() -> Path:
    """Return the folder in which Gradio keeps uploads; `Studio.open` sets it."""
    return Path(os.environ["GRADIO_TEMP_DIR"])


def uploaded_file(file: Any) -> Path:
    """Return the uploaded file that a program names, which need not be there any more.

    Args:
        file: what the upload address answered: a path, an address of this app that ends in it (nothing is fetched, so it
            does not matter of which host), or Gradio's {"path": ...} around one of them.

    Raises:
        ValueError: it names no file in the folder of uploads.
    """
    name = file.get("path") if isinstance(file, Mapping) else file
    if not isinstance(name, str) or len(name) > LONGEST_PATH or "\0" in name:
        raise ValueError(NOT_UPLOADED)
    if name.lower().startswith(("http://", "https://")):
        name = unquote(name).partition("/gradio_api/file=")[2]
    folder, path = uploads_folder().resolve(), Path(name).resolve()
    if path == folder or not path.is_relative_to(folder):
        raise ValueError(NOT_UPLOADED)
    return path


def sweep(folder: Path, older_than: float) -> int:
    """Delete files that nobody has touched for so many seconds, and old empty folders; return how many files."""
    deleted, limit = 0, time.time() - older_than
    for parent, _, names in os.walk(folder, topdown=False):
        for name in names:
            path = Path(parent, name)
            with suppress(OSError):
                status = path.lstat()
                if max(status.st_mtime, status.st_ctime) < limit:
                    path.unlink()
                    deleted += 1
        if Path(parent) != folder:
            with suppress(OSError):  # not empty
                if Path(parent).stat().st_mtime < limit:  # else an upload may be about to use it
                    Path(parent).rmdir()
    return deleted
