"""People for tests of a running app: already signed in, without the cost of hashing a password."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import httpx
from gradio_client import Client

from app.web.auth import COOKIE
from storage.accounts.sessions import open_sign_in
from storage.accounts.users import User, add_user, find_user

if TYPE_CHECKING:
    from storage.schema import Role
    from tests.helpers.studios import Running


def person(running: Running, name: str, role: Role = "annotator") -> User:
    """The person of this name, added if new; without a password."""
    with running.studio.database.write() as session:
        return find_user(session, name) or add_user(session, name, role)


def cookie_of(running: Running, name: str, role: Role = "annotator") -> str:
    """The cookie of a new sign-in of this person."""
    user = person(running, name, role)
    with running.studio.database.write() as session:
        return open_sign_in(session, user.id).token


def signed_in_client(running: Running, name: str, role: Role = "annotator") -> httpx.Client:
    """A program that is signed in; its addresses are relative to the app."""
    return httpx.Client(base_url=running.url, cookies={COOKIE: cookie_of(running, name, role)})


def signed_in_program(running: Running, name: str, role: Role = "annotator") -> Client:
    """A client of the app's endpoints that is signed in."""
    return Client(running.url, verbose=False, headers={"Cookie": f"{COOKIE}={cookie_of(running, name, role)}"})


def sign_in_browser(context: Any, running: Running, name: str, role: Role = "annotator") -> None:
    """Sign a Playwright `BrowserContext` in."""
    context.add_cookies([{"name": COOKIE, "value": cookie_of(running, name, role), "url": running.url, "httpOnly": True}])
