"""Sign-in, sign-out and invitation pages, the cookie behind them, and the checks that handlers make.

    auth = Auth(database)
    user = auth.require(request, "annotator", "lead")     # a starlette or Gradio request; raises AuthError
    auth.same_origin(request)                             # first thing in every POST route

The pages are plain HTML that works without JavaScript. The cookie holds a random token and nothing else; the person and
their role are looked up for each request. A second cookie says to which accounts this browser was signed in before, for the
limit on failed attempts alone.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any
from urllib.parse import parse_qsl, quote, urlsplit

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.routing import BaseRoute, Route

from app.web.deployment import client_address, on_https, on_space
from app.web.plain_pages import page
from app.web.provider import Provider, ProviderError, ProviderSignIn
from storage import Database, StorageError
from storage.accounts.attempts import source_of
from storage.accounts.credentials import SHORTEST
from storage.accounts.guests import admit_guest
from storage.accounts.identities import Identity, sign_in_as
from storage.accounts.known_browsers import MOST_MARKS
from storage.accounts.sessions import (
    SIGNED_IN_FOR,
    SignedIn,
    accept_invitation,
    open_sign_in,
    read_invitation,
    sign_in,
    sign_out,
    user_of,
)
from storage.accounts.users import User
from storage.errors import GuestLimitError, InvitationError, SignInRefusedError
from storage.schema import Role
from storage.uploads import origin_key

COOKIE = "descore_session"
# Marks of the accounts that were signed in to with this browser. It opens nothing and stays at sign-out.
KNOWN_COOKIE = "descore_known"
KNOWN_FOR = timedelta(days=400)  # browsers keep no cookie longer
START: dict[Role, str] = {"lead": "/lead", "annotator": "/label", "viewer": "/lead"}
LARGEST_FORM = 16 * 1024  # bytes
_INVITE = "/invite/"
# A path of this site: never two slashes in a row, nothing that a browser would read as a host.
_LOCAL = re.compile(r"(?:/[\w.~%@:+,-]+)*/?(?:\?[\w.~%@:+,/=&-]*)?", re.ASCII)
_OWN_SITE = ("same-origin", "none")  # of Sec-Fetch-Site: a page of ours, or the person themselves


class AuthError(RuntimeError):
    """The request may not do this; the message is for the person."""

    status = 403  # of the HTTP answer


class NotSignedInError(AuthError):
    """Nobody is signed in with this browser."""

    status = 401


class NotAllowedError(AuthError):
    """The person's role does not allow this."""


class CrossSiteError(AuthError):
    """The request was sent by a page of another site."""


class BadFormError(AuthError):
    """The request holds no form of this app."""

    status = 400


class Auth:
    """Sign-in of the people of one store.

    Args:
        provider: who vouches for people beside the store's own passwords; None for nobody.
    """

    def __init__(self, database: Database, provider: Provider | None = None, guests: bool = False) -> None:
        """Choose who comes in besides the people of the store.

        Args:
            guests: visitors may label as guests, as in a demo.
        """
        self.database, self._guests = database, guests
        self._provider = None if provider is None else ProviderSignIn(provider)

    # ---- checks --------------------------------------------------------------------------------------------------

    def user(self, request: Any) -> User | None:
        """Return the person who is signed in with this browser; None if a page of another site sent the request."""
        token = request.cookies.get(COOKIE)
        if not token or _is_foreign(request):
            return None
        with self.database.read() as session:
            return user_of(session, token)

    def is_lead(self, request: Any) -> bool:
        """Tell whether a lead is signed in with this browser."""
        user = self.user(request)
        return user is not None and user.role == "lead"

    def require(self, request: Any, *roles: Role) -> User:
        """Return the signed-in person, who must have one of these roles (any, if none is given).

        Raises:
            NotSignedInError: nobody is signed in.
            NotAllowedError: the person has another role.
        """
        user = self.user(request)
        if user is None:
            raise NotSignedInError("Sign in first.")
        if roles and user.role not in roles:
            wanted = " or ".join(f"{'an' if role == 'annotator' else 'a'} {role}" for role in roles)
            raise NotAllowedError(f"This is for {wanted}; you are signed in as {user.name} ({user.role}).")
        return user

    def same_origin(self, request: Any) -> None:
        """Refuse a request that a page of another site sends.

        Raises:
            CrossSiteError: `Sec-Fetch-Site` or `Origin` names another site. A program that sends neither passes.
        """
        if request.headers.get("sec-fetch-site") not in (None, *_OWN_SITE) or _is_foreign(request):
            raise CrossSiteError("This request came from another site and was refused.")

    # ---- pages ---------------------------------------------------------------------------------------------------

    def routes(self) -> list[BaseRoute]:
        """Return the web routes, for the app that Gradio launches."""
        elsewhere = (
            []
            if self._provider is None
            else self._provider.routes(self._wanted_elsewhere, self._vouched_for, self._not_vouched_for)
        )
        return [
            *elsewhere,
            Route("/sign-in", self._sign_in_page, methods=["GET"]),
            Route("/sign-in", self._form(self._sign_in), methods=["POST"]),
            Route("/sign-out", self._form(self._sign_out), methods=["POST"]),
            Route("/invite/{token}", self._invitation_page, methods=["GET"]),
            Route("/invite/{token}", self._form(self._accept), methods=["POST"]),
            Route("/session", self._session, methods=["GET"]),
            *([Route("/guest", self._form(self._guest), methods=["POST"])] if self._guests else []),
        ]

    def _guest(self, request: Request, _form: Mapping[str, str]) -> Response:
        if self.user(request) is None:
            origin = origin_key(source_of(client_address(request)), self.database.home)
            try:
                return self._welcome(request, admit_guest(self.database, origin), None)
            except GuestLimitError as error:
                return page("plain/notice.html", 429, up=_up(request), title="Guests", text=str(error))
        return _go(request, START["annotator"])

    def _session(self, request: Request) -> Response:
        user = self.user(request)
        person = None if user is None else {"name": user.name, "role": user.role}
        return JSONResponse({"user": person}, headers={"Cache-Control": "no-store"})

    def _sign_in_page(self, request: Request, status: int = 200, **values: Any) -> Response:
        user = self.user(request)
        start = START[user.role] if user else "/"
        wanted = _wanted(request)
        values |= {"wanted": quote(wanted) if wanted else "", **self._elsewhere()}
        return page("plain/sign_in.html", status, up=_up(request), user=user, start=start, **values)

    def _sign_in(self, request: Request, form: Mapping[str, str]) -> Response:
        name, password = form.get("name", ""), form.get("password", "")
        try:
            signed_in = sign_in(self.database, name, password, client_address(request), marks=_marks(request))
        except SignInRefusedError as error:
            response = self._sign_in_page(request, 429 if error.retry_seconds else 401, name=name, error=str(error))
            if error.retry_seconds:
                response.headers["Retry-After"] = str(error.retry_seconds)
            return response
        return self._welcome(request, signed_in, _wanted(request))

    async def _wanted_elsewhere(self, request: Request) -> str:
        """Return the page to come back to, or the invitation that is accepted, which only a page of ours may begin."""
        if request.method == "GET":
            return _wanted(request) or ""
        try:
            self.same_origin(request)
            return _INVITE + (await _read_form(request)).get("invitation", "")
        except AuthError as error:
            raise ProviderError(str(error)) from error

    def _vouched_for(self, request: Request, identity: Identity, role: Role, wanted: str) -> Response:
        invitation = wanted.removeprefix(_INVITE) if wanted.startswith(_INVITE) else None
        try:
            signed_in = sign_in_as(self.database, identity, role, invitation)
        except StorageError as error:
            return self._not_vouched_for(request, str(error))
        return self._welcome(request, signed_in, local_path(wanted))

    def _not_vouched_for(self, request: Request, reason: str) -> Response:
        return page("plain/notice.html", 403, up=_up(request), title="Sign in", text=reason)

    def _sign_out(self, request: Request, _form: Mapping[str, str]) -> Response:
        token = request.cookies.get(COOKIE)
        if token:
            with self.database.write() as session:
                sign_out(session, token)
        response = _go(request, _wanted(request) or "/")
        response.headers.append("Set-Cookie", _cookie(request, COOKIE, "", timedelta(0)))
        return response

    def _invitation_page(self, request: Request, status: int = 200, **values: Any) -> Response:
        try:
            with self.database.read() as session:
                invitation = read_invitation(session, request.path_params["token"])
        except InvitationError as error:
            return page("plain/notice.html", 410, up=_up(request), title="Invitation", text=str(error))
        token = request.path_params["token"]
        values |= {"invitation": invitation, "shortest": SHORTEST, "token": token, **self._elsewhere()}
        return page("plain/invitation.html", status, up=_up(request), **values)

    def _elsewhere(self) -> dict[str, Any]:
        """Return what a page needs for the way to the provider."""
        return {"provider": None if self._provider is None else self._provider.provider.name, "new_tab": on_space()}

    def _accept(self, request: Request, form: Mapping[str, str]) -> Response:
        name, password = form.get("name", ""), form.get("password", "")
        try:
            if password != form.get("again"):
                raise StorageError("The two passwords differ.")
            user = accept_invitation(self.database, request.path_params["token"], name, password)
        except StorageError as error:
            return self._invitation_page(request, 422, name=name, error=str(error))
        with self.database.write() as session:
            signed_in = open_sign_in(session, user.id, marks=_marks(request))
        return self._welcome(request, signed_in, None)

    def _welcome(self, request: Request, signed_in: SignedIn, target: str | None) -> Response:
        """Go to the page that was wanted, with a new cookie; the browser's earlier sign-in ends."""
        before = request.cookies.get(COOKIE)
        if before:
            with self.database.write() as session:
                sign_out(session, before)
        response = _go(request, target or START[signed_in.user.role])
        response.headers.append("Set-Cookie", _cookie(request, COOKIE, signed_in.token, SIGNED_IN_FOR))
        if signed_in.mark:
            marks = [signed_in.mark, *(mark for mark in _marks(request) if mark != signed_in.mark)]
            response.headers.append("Set-Cookie", _cookie(request, KNOWN_COOKIE, "~".join(marks[:MOST_MARKS]), KNOWN_FOR))
        return response

    def _form(self, handle: Callable[[Request, Mapping[str, str]], Response]) -> Callable[[Request], Any]:
        """Return the handler of a form: it refuses other sites, reads the fields, then leaves the event loop."""

        async def answer(request: Request) -> Response:
            try:
                self.same_origin(request)
                form = await _read_form(request)
            except AuthError as error:
                return page("plain/notice.html", error.status, up=_up(request), title="Refused", text=str(error))
            return await run_in_threadpool(handle, request, form)

        return answer


def local_path(path: str | None) -> str | None:
    """Return a `next` that leads to a page of this site, else None."""
    if path is None or not path.startswith("/") or path.startswith(("/sign-", _INVITE)):
        return None
    return path if _LOCAL.fullmatch(path) else None


def _wanted(request: Request) -> str | None:
    return local_path(request.query_params.get("next"))


def _is_foreign(request: Any) -> bool:
    """Tell whether a page of another site sent this. A link that a person follows carries no Origin: it is not foreign."""
    origin = request.headers.get("origin")
    if origin is None:
        return False
    site = request.headers.get("sec-fetch-site")  # the browser's own word; no page can set it
    if site is not None:
        return site not in _OWN_SITE
    return bool(urlsplit(origin).netloc.lower() != str(request.headers.get("host", "")).lower())


async def _read_form(request: Request) -> dict[str, str]:
    """Return the fields of a small form.

    Raises:
        BadFormError: it is too large, or no form.
    """
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > LARGEST_FORM:
            raise BadFormError("This form is too large.")
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if body and kind != "application/x-www-form-urlencoded":
        raise BadFormError("This address takes only the form of its own page.")
    try:
        return dict(parse_qsl(body.decode("utf-8"), keep_blank_values=True, max_num_fields=20))
    except ValueError:
        raise BadFormError("This form can't be read.") from None


def _up(request: Request) -> str:
    """Return the path from this address to the app's root, which need not be the root of the host."""
    path = request.url.path.removeprefix(request.scope.get("root_path", ""))
    return "../" * (path.strip("/").count("/")) or "./"


def _go(request: Request, path: str) -> Response:
    return RedirectResponse(_up(request) + path[1:], status_code=303, headers={"Cache-Control": "no-store"})


def _marks(request: Request) -> list[str]:
    """Return the marks of earlier sign-ins with this browser."""
    return request.cookies.get(KNOWN_COOKIE, "").split("~")[:MOST_MARKS]


def _cookie(request: Request, name: str, value: str, lasts: timedelta) -> str:
    """Return the Set-Cookie line. A Space is shown inside a page of another site, which needs a cookie of its own kind."""
    parts = [f"{name}={value}", "Path=/", f"Max-Age={int(lasts.total_seconds())}", "HttpOnly"]
    if on_space():
        parts += ["Secure", "SameSite=None", "Partitioned"]
    else:
        parts += [*(["Secure"] if on_https(request) else []), "SameSite=Lax"]
    return "; ".join(parts)
