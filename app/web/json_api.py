"""JSON endpoints: a JSON object in, work in a thread, a JSON object or a plain error out.

    Route("/api/label/next", endpoint(auth, work, threads), methods=["POST"])

`work(user, fields)` gets the signed-in person and the fields of the request, and returns the answer.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from typing import Any

from anyio import CapacityLimiter, to_thread
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from app.web.auth import Auth, AuthError, CrossSiteError, NotSignedInError
from app.web.plain_errors import JUDGING_ERRORS, judging_error_text
from storage import NotInStoreError, StorageError
from storage.accounts.users import User
from storage.errors import AnswerError, CampaignError, LeaseLostError, NotYoursError, TextError
from storage.foreign_json import read_json
from storage.schema import Role

log = logging.getLogger(__name__)

LARGEST_BODY = 128 * 1024  # bytes; a note of the greatest length and a full draft need a tenth of it
Work = Callable[[User, Mapping[str, Any]], dict[str, Any]]


class RequestError(RuntimeError):
    """The request can't be answered as it is.

    Attributes:
        status: of the HTTP answer.
        code: a word for the page; the message is for the person.
    """

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status, self.code = status, code


_STATUS: tuple[tuple[type[Exception], int, str], ...] = (
    (NotSignedInError, 401, "not_signed_in"),
    (CrossSiteError, 403, "cross_site"),
    (AuthError, 403, "not_allowed"),
    (NotYoursError, 403, "not_yours"),
    (LeaseLostError, 409, "lease_lost"),
    (AnswerError, 422, "bad_answer"),
    (CampaignError, 409, "campaign"),
    (NotInStoreError, 404, "not_found"),
    (TextError, 422, "bad_request"),
    # Every other error of the store is the database itself: full, locked, away. It may be tried again.
    (StorageError, 503, "store"),
)


def endpoint(
    auth: Auth, work: Work, threads: CapacityLimiter, roles: Sequence[Role] = ("annotator", "lead")
) -> Callable[[Request], Awaitable[Response]]:
    """Return the handler of a route for people of these roles; it looks them up, and does the work, in one of `threads`."""

    async def answer(request: Request) -> Response:
        try:
            if request.method == "POST":
                auth.same_origin(request)
                fields: Mapping[str, Any] = await read_object(request)
            else:
                fields = dict(request.query_params)
            content = await to_thread.run_sync(partial(_signed_in, auth, request, work, fields, roles), limiter=threads)
            return reply(200, content)
        except Exception as error:
            return refusal(error)

    return answer


def _signed_in(auth: Auth, request: Request, work: Work, fields: Mapping[str, Any], roles: Sequence[Role]) -> dict[str, Any]:
    return work(auth.require(request, *roles), fields)


async def read_object(request: Request) -> dict[str, Any]:
    """Return the JSON object in a request.

    Raises:
        RequestError: it has another content type (a form of another site could send that), is too long, or no object.
    """
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
        raise RequestError(415, "bad_request", "Send JSON, with Content-Type: application/json.")
    content = bytearray()
    async for part in request.stream():
        content += part
        if len(content) > LARGEST_BODY:
            raise RequestError(413, "bad_request", f"A request may have {LARGEST_BODY} bytes at most.")
    try:
        sent = read_json(content)
    except ValueError as error:
        raise RequestError(422, "bad_request", f"This request can't be read: {error}.") from None
    if not isinstance(sent, dict):
        raise RequestError(422, "bad_request", "Send a JSON object.")
    return sent


def reply(status: int, content: Mapping[str, Any]) -> JSONResponse:
    """Return an answer that no browser or proxy keeps."""
    return JSONResponse(content, status_code=status, headers={"Cache-Control": "no-store"})


def refusal(error: Exception) -> JSONResponse:
    """Turn an error into an answer. An unforeseen one is logged, and answered without its details."""
    if isinstance(error, RequestError):
        status, code, message = error.status, error.code, str(error)
    else:
        status, code = next(((status, code) for kind, status, code in _STATUS if isinstance(error, kind)), (500, "failed"))
        message = str(error) if status != 500 else "This did not work. The server's log says why."
        if isinstance(error, JUDGING_ERRORS) and status == 500:
            status, code, message = 422, "model", judging_error_text(error)
    if status >= 500:
        log.error("a request failed", exc_info=error)
    return reply(status, {"error": {"code": code, "message": message}})


def text_of(fields: Mapping[str, Any], name: str) -> str:
    """Return a text of a request that can't be empty.

    Raises:
        RequestError: it is missing, too long or no text.
    """
    value = fields.get(name)
    if not isinstance(value, str) or not value or len(value) > 64:
        raise RequestError(422, "bad_request", f"{name} is missing")
    return value


def number_of(fields: Mapping[str, Any], name: str) -> int:
    """Return a whole number of a request, given as a number or (in an address) as digits.

    Raises:
        RequestError: it is missing or no whole number.
    """
    value = fields.get(name)
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 10:
        return int(value)
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 2**31:
        raise RequestError(422, "bad_request", f"{name} has to be a whole number")
    return value
