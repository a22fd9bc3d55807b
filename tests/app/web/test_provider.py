"""Signing in with an account elsewhere, as a browser does it and as a provider or a stranger may get it wrong."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from html import unescape
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from app.web.auth import Auth
from app.web.deployment import SettingError
from app.web.provider import HUGGING_FACE, SETTINGS, SPACE_SETTINGS, Provider, provider_here
from storage.accounts.invitations import invite
from storage.accounts.users import add_user, find_user, list_users, set_active
from tests.helpers.http_server import http_server
from tests.helpers.oidc_provider import ANOTHER_KEY, CLIENT_ID, CLIENT_SECRET, OidcProvider, oidc_provider

if TYPE_CHECKING:
    from storage import Database


@pytest.fixture
def provider() -> Iterator[OidcProvider]:
    with oidc_provider() as served:
        yield served


@contextmanager
def browser_of(database: Database, provider: OidcProvider, owner: str = "") -> Iterator[httpx.Client]:
    """A browser on an app whose people may sign in with the provider."""
    auth = Auth(database, Provider(provider.url, CLIENT_ID, CLIENT_SECRET, owner))
    with http_server(auth.routes()) as url, httpx.Client(base_url=url, follow_redirects=True) as browser:
        yield browser


def signed_in(browser: httpx.Client) -> dict[str, str] | None:
    """Who the app takes this browser's person for."""
    user: dict[str, str] | None = browser.get("/session").json()["user"]
    return user


def go(browser: httpx.Client, wanted: str = "") -> httpx.Response:
    """Follow the link of the sign-in page to the provider and back, up to the page that is shown then."""
    return browser.get("/sign-in/provider", params={"next": wanted} if wanted else {})


def test_a_person_comes_back_signed_in_and_keeps_the_account(sqlite_database: Database, provider: OidcProvider) -> None:
    with browser_of(sqlite_database, provider) as browser:
        assert "Sign in with 127.0.0.1" in browser.get("/sign-in").text
        assert go(browser).url.path == "/label"
        assert signed_in(browser) == {"name": "ada", "role": "annotator"}
        browser.post("/sign-out")
        assert signed_in(browser) is None
        provider.person["preferred_username"] = "ada-lovelace"  # renamed there
        assert go(browser, "/analyse?tab=2").url.raw_path == b"/analyse?tab=2"
        assert signed_in(browser) == {"name": "ada", "role": "annotator"}
    with sqlite_database.read() as session:
        assert len(list_users(session)) == 1


def test_a_name_that_is_taken_opens_nobody_elses_account(sqlite_database: Database, provider: OidcProvider) -> None:
    with sqlite_database.write() as session:
        add_user(session, "Ada", "lead")
        add_user(session, "ada (127.0.0.1)", "annotator")
    with browser_of(sqlite_database, provider) as browser:
        go(browser)
        assert signed_in(browser) == {"name": "ada (127.0.0.1, 2)", "role": "annotator"}


@pytest.mark.parametrize("name", ["", "\u200b\u202e", "x" * 300, 17, None])
def test_any_name_will_do(sqlite_database: Database, provider: OidcProvider, name: Any) -> None:
    provider.person["preferred_username"] = name
    with browser_of(sqlite_database, provider) as browser:
        go(browser)
        user = signed_in(browser)
    assert user is not None
    assert 1 <= len(user["name"]) <= 80


def test_a_name_may_stand_at_the_description_alone(sqlite_database: Database, provider: OidcProvider) -> None:
    provider.only_at_userinfo = ("preferred_username",)
    with browser_of(sqlite_database, provider) as browser:
        go(browser)
        assert signed_in(browser) == {"name": "ada", "role": "annotator"}


def test_the_owner_becomes_a_lead_and_nobody_else(sqlite_database: Database, provider: OidcProvider) -> None:
    with browser_of(sqlite_database, provider, owner="ada") as browser:
        assert go(browser).url.path == "/lead"
        provider.person = {"sub": "18", "preferred_username": "Ada"}
        go(browser)
        assert signed_in(browser) == {"name": "Ada (127.0.0.1)", "role": "annotator"}


def test_an_account_that_is_switched_off_stays_so(sqlite_database: Database, provider: OidcProvider) -> None:
    with browser_of(sqlite_database, provider) as browser:
        go(browser)
        with sqlite_database.write() as session:
            user = find_user(session, "ada")
            assert user is not None
            set_active(session, user.id, False)
        answer = go(browser)
        assert (answer.status_code, signed_in(browser)) == (403, None)
        assert "switched off" in answer.text


def accept(browser: httpx.Client, token: str, **headers: str) -> httpx.Response:
    """Follow the button of an invitation's page, and the page after it, to the provider and back."""
    onwards = browser.post("/sign-in/provider", data={"invitation": token}, headers=headers)
    address = re.search(r'content="0; url=([^"]+)"', onwards.text)
    return onwards if address is None else browser.get(unescape(address[1]))


def test_an_invitation_is_accepted_with_the_providers_account(sqlite_database: Database, provider: OidcProvider) -> None:
    with sqlite_database.write() as session:
        token = invite(session, "viewer", created_by=None)
    with browser_of(sqlite_database, provider) as browser:
        page = browser.get(f"/invite/{token}")
        assert "Accept with 127.0.0.1" in page.text
        assert f'name="invitation" value="{token}"' in page.text
        assert accept(browser, token).url.path == "/lead"
        assert signed_in(browser) == {"name": "ada", "role": "viewer"}
        assert "was used already" in accept(browser, token).text


def test_no_other_site_and_no_link_accepts_an_invitation(sqlite_database: Database, provider: OidcProvider) -> None:
    """Else somebody could be led into an account whose password a stranger knows."""
    with sqlite_database.write() as session:
        token = invite(session, "lead", created_by=None)
    with browser_of(sqlite_database, provider) as browser:
        refused = accept(browser, token, **{"Sec-Fetch-Site": "cross-site"})
        assert (refused.status_code, signed_in(browser)) == (403, None)
        assert "came from another site" in refused.text
        assert go(browser, f"/invite/{token}").url.path == "/label"
        assert signed_in(browser) == {"name": "ada", "role": "annotator"}


@pytest.mark.parametrize(
    ("fault", "sentence"),
    [
        ({"declines": True}, "the request was declined there"),
        ({"down": True}, "can&#39;t be reached now"),
        ({"key": ANOTHER_KEY}, "its answer can&#39;t be used"),
        ({"instead": {"iss": "https://elsewhere.example"}}, "its answer can&#39;t be used"),
        ({"instead": {"aud": "another app"}}, "its answer can&#39;t be used"),
        ({"instead": {"nonce": "of another sign-in"}}, "its answer can&#39;t be used"),
        ({"instead": {"exp": int(time.time()) - 3600}}, "its answer can&#39;t be used"),
        ({"instead": {"sub": None}}, "its answer can&#39;t be used"),
        ({"instead": {"sub": "x" * 300}}, "subject of users"),
    ],
)
def test_what_can_not_be_believed_signs_nobody_in(
    sqlite_database: Database, provider: OidcProvider, fault: dict[str, Any], sentence: str
) -> None:
    for name, value in fault.items():
        setattr(provider, name, value)
    with browser_of(sqlite_database, provider) as browser:
        answer = go(browser)
        assert (answer.status_code, signed_in(browser)) == (403, None)
    assert sentence in answer.text
    with sqlite_database.read() as session:
        assert list_users(session) == ()


def test_a_provider_that_calls_itself_otherwise_is_not_asked(sqlite_database: Database, provider: OidcProvider) -> None:
    renamed = Provider(provider.url.replace("127.0.0.1", "localhost"), CLIENT_ID, CLIENT_SECRET)
    with http_server(Auth(sqlite_database, renamed).routes()) as url:
        answer = httpx.get(f"{url}/sign-in/provider")
    assert answer.status_code == 403


def test_a_sign_in_that_another_browser_began_is_refused(sqlite_database: Database, provider: OidcProvider) -> None:
    """Else somebody could sign another person in to an account of their own, and watch what they do there."""
    another = partial(httpx.Client, follow_redirects=True)
    with browser_of(sqlite_database, provider) as mine, another(base_url=mine.base_url) as theirs:
        asked = mine.get("/sign-in/provider", follow_redirects=False).headers["location"]
        back = httpx.get(asked, follow_redirects=False).headers["location"]
        answer = theirs.get(back)
        assert (answer.status_code, signed_in(theirs)) == (403, None)
        assert "begun in another browser" in answer.text
        mine.get(back)
        assert signed_in(mine) is not None
        assert mine.get(back).status_code == 403  # a second time


@pytest.mark.parametrize("wanted", ["//elsewhere.example", "https://elsewhere.example", "/sign-out", "/invite/x"])
def test_nobody_is_sent_to_another_site(sqlite_database: Database, provider: OidcProvider, wanted: str) -> None:
    with browser_of(sqlite_database, provider) as browser:
        assert go(browser, wanted).url.path == "/label"


def test_the_settings_name_a_provider(monkeypatch: pytest.MonkeyPatch) -> None:
    lab = dict(zip(SETTINGS, ("https://sso.example.org/", "id", "secret"), strict=True))
    assert provider_here({}) is None
    assert provider_here(lab) == Provider("https://sso.example.org", "id", "secret")
    with pytest.raises(SettingError, match=f"{SETTINGS[2]} is not set"):
        provider_here({**lab, SETTINGS[2]: ""})
    with pytest.raises(SettingError, match="has to be an https address"):
        provider_here({**lab, SETTINGS[0]: "http://sso.example.org"})
    space = {**dict(zip(SPACE_SETTINGS, (HUGGING_FACE, "id", "secret"), strict=True)), "SPACE_AUTHOR_NAME": "ada"}
    assert provider_here(space) is None  # not on a Space
    monkeypatch.setenv("SPACE_ID", "ada/descore")
    assert provider_here(space) == Provider(HUGGING_FACE, "id", "secret", "ada")
    assert provider_here({**space, **lab}) == Provider("https://sso.example.org", "id", "secret")
