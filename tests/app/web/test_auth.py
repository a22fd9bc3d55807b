"""Signing in over HTTP, as a browser and as somebody who means harm would do it."""

from __future__ import annotations

import html
import secrets
from collections.abc import Iterator
from http.cookies import SimpleCookie

import httpx
import pytest
from sqlalchemy import delete
from starlette.requests import Request

from app.web.auth import COOKIE, KNOWN_COOKIE, NotAllowedError, NotSignedInError, local_path
from app.web.deployment import public_url
from storage.accounts.sessions import invite
from storage.accounts.users import User, add_user, set_active, set_role
from storage.pairs import list_pairs
from storage.schema import Role, SignInAttemptRow
from tests.helpers.accounts import person, signed_in_client
from tests.helpers.studios import Running, running_studio

PASSWORD = "a good password"


pytestmark = pytest.mark.usefixtures("quick_hashes")


@pytest.fixture(autouse=True)
def no_failures_yet(running: Running) -> None:
    """All tests come from one address, whose failures count together."""
    with running.studio.database.write() as session:
        session.execute(delete(SignInAttemptRow))


@pytest.fixture
def browser(running: Running) -> Iterator[httpx.Client]:
    """A browser with no cookies yet, that sends what browsers send."""
    headers = {"Origin": running.url, "Sec-Fetch-Site": "same-origin"}
    with httpx.Client(base_url=running.url, headers=headers) as client:
        yield client


def somebody(running: Running, role: Role = "annotator") -> User:
    """A new person with `PASSWORD`."""
    with running.studio.database.write() as session:
        return add_user(session, f"Person {secrets.token_hex(4)}", role, PASSWORD)


def invitation(running: Running, role: Role, user_id: int | None = None) -> str:
    with running.studio.database.write() as session:
        return f"/invite/{invite(session, role, created_by=None, user_id=user_id)}"


def sign_in(
    client: httpx.Client, name: str, password: str = PASSWORD, path: str = "/sign-in", **sent: str
) -> httpx.Response:
    return client.post(path, data={"name": name, "password": password}, headers=sent)


def cookies_of(answer: httpx.Response) -> SimpleCookie:
    """What an answer sets."""
    cookies = SimpleCookie()
    for line in answer.headers.get_list("set-cookie"):
        cookies.load(line)
    return cookies


def session_of(client: httpx.Client) -> dict[str, str] | None:
    answer: dict[str, str] | None = client.get("/session").json()["user"]
    return answer


# ---- signing in and out ------------------------------------------------------------------------------------------


def test_sign_in_sets_a_cookie_that_scripts_and_other_sites_cannot_use(running: Running, browser: httpx.Client) -> None:
    ann = somebody(running)
    answer = sign_in(browser, ann.name.upper())
    assert answer.status_code == 303
    assert str(answer.next_request.url) == f"{running.url}/label"
    morsel = cookies_of(answer)[COOKIE]
    assert morsel["httponly"]
    assert morsel["samesite"] == "Lax"
    assert morsel["path"] == "/"
    assert not morsel["secure"]
    assert int(morsel["max-age"]) == 30 * 24 * 3600
    assert session_of(browser) == {"name": ann.name, "role": "annotator"}
    assert browser.get("/session").headers["cache-control"] == "no-store"


def test_a_lead_starts_at_the_lead_page_and_next_leads_elsewhere(running: Running, browser: httpx.Client) -> None:
    lea = somebody(running, "lead")
    assert sign_in(browser, lea.name).headers["location"] == "./lead"
    assert sign_in(browser, lea.name, path="/sign-in?next=/label%3Fcampaign%3D3").headers["location"] == "./label?campaign=3"


@pytest.mark.parametrize("name", ["right", "unknown"])
def test_wrong_name_and_wrong_password_look_the_same(running: Running, browser: httpx.Client, name: str) -> None:
    typed = somebody(running).name if name == "right" else f'<b>"{secrets.token_hex(4)}'
    answer = sign_in(browser, typed, "wrong password")
    assert answer.status_code == 401
    assert "Wrong name or password." in answer.text
    assert "set-cookie" not in answer.headers
    assert session_of(browser) is None
    assert "wrong password" not in answer.text
    assert '<b>"' not in answer.text


def test_the_sixth_failure_from_an_address_has_to_wait(running: Running, browser: httpx.Client) -> None:
    ann = somebody(running)
    assert [sign_in(browser, ann.name, "wrong password").status_code for _ in range(5)] == [401] * 5
    for sent in ({}, {"X-Forwarded-For": "203.0.113.9"}):
        answer = sign_in(browser, ann.name, PASSWORD, **sent)
        assert answer.status_code == 429
        assert 0 < int(answer.headers["retry-after"]) <= 15
        assert "Try again in" in answer.text
        assert "set-cookie" not in answer.headers


def test_a_browser_that_signed_in_before_does_not_wait_for_strangers(running: Running, browser: httpx.Client) -> None:
    ann, bea = somebody(running), somebody(running)
    for name in (ann.name, bea.name):
        cookies = cookies_of(sign_in(browser, name))
        known = cookies[KNOWN_COOKIE]
        assert known["httponly"]
        assert known["samesite"] == "Lax"
    browser.post("/sign-out", data={})
    assert KNOWN_COOKIE in browser.cookies
    assert session_of(browser) is None  # it gives no access by itself
    stranger = httpx.Client(base_url=running.url)
    for name in (ann.name, bea.name):
        assert [sign_in(stranger, name, "wrong password").status_code for _ in range(6)] == [401] * 5 + [429]
        assert sign_in(browser, name, "wrong password").status_code == 401
        assert sign_in(browser, name).status_code == 303
        assert sign_in(stranger, name).status_code == 429


@pytest.mark.usefixtures("running")
def test_a_forged_address_does_not_get_around_the_limit(browser: httpx.Client) -> None:
    statuses = [
        sign_in(browser, secrets.token_hex(4), "wrong password", **{"X-Forwarded-For": f"203.0.113.{number}"}).status_code
        for number in range(21)
    ]
    assert statuses == [401] * 20 + [429]


def test_sign_out_ends_the_sign_in_on_the_server_too(running: Running, browser: httpx.Client) -> None:
    sign_in(browser, somebody(running).name)
    token = browser.cookies[COOKIE]
    assert browser.get("/sign-out").status_code in (404, 405)
    answer = browser.post("/sign-out?next=/label", data={})
    assert answer.status_code == 303
    assert answer.headers["location"] == "./label"
    assert COOKIE not in browser.cookies
    assert session_of(httpx.Client(base_url=running.url, cookies={COOKIE: token})) is None


def test_signing_in_again_ends_what_this_browser_had(running: Running, browser: httpx.Client) -> None:
    first, second = somebody(running), somebody(running)
    sign_in(browser, first.name)
    token = browser.cookies[COOKIE]
    assert first.name in browser.get("/sign-in").text
    sign_in(browser, second.name)
    assert session_of(browser) == {"name": second.name, "role": "annotator"}
    assert session_of(httpx.Client(base_url=running.url, cookies={COOKIE: token})) is None


def test_a_person_who_is_switched_off_is_out_at_once(running: Running) -> None:
    client = signed_in_client(running, "Otto")
    assert session_of(client) == {"name": "Otto", "role": "annotator"}
    otto = person(running, "Otto")
    with running.studio.database.write() as session:
        set_active(session, otto.id, False)
    assert session_of(client) is None


# ---- other sites -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "sent",
    [
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://127.0.0.1:1"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Origin": "https://evil.example", "Sec-Fetch-Site": "cross-site", "X-Forwarded-Host": "evil.example"},
    ],
)
def test_posts_from_other_sites_are_refused(running: Running, sent: dict[str, str]) -> None:
    ann, link = somebody(running), invitation(running, "lead")
    client = signed_in_client(running, "Careful")
    forms = {
        "/sign-in": {"name": ann.name, "password": PASSWORD},
        "/sign-out": {},
        link: {"name": "Mallory", "password": PASSWORD, "again": PASSWORD},
    }
    for path, form in forms.items():
        answer = client.post(path, data=form, headers=sent)
        assert answer.status_code == 403
        assert "another site" in answer.text
        assert "set-cookie" not in answer.headers
    assert session_of(client) == {"name": "Careful", "role": "annotator"}
    assert client.get(link).status_code == 200


def test_another_site_reads_nothing_with_the_cookie_but_its_links_work(running: Running) -> None:
    client = signed_in_client(running, "Careful")
    assert client.get("/session", headers={"Origin": "https://evil.example"}).json() == {"user": None}
    followed = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}
    assert client.get("/session", headers=followed).json()["user"]["name"] == "Careful"


@pytest.mark.parametrize(
    "path",
    [
        "https://evil.example",
        "//evil.example",
        "/\\evil.example",
        "\\\\evil.example",
        "/\t/evil.example",
        "/a//evil.example",
        "javascript:alert(1)",
        "evil.example",
        "/label\r\nSet-Cookie: a=b",
        "/label#x",
        "/sign-in?next=/label",
        "/sign-out",
        "?next=/",
        "/" + "a" * 5_000 + "#",  # would take a pattern that backtracks until tomorrow
        "",
    ],
)
def test_next_leads_to_no_other_site(running: Running, browser: httpx.Client, path: str) -> None:
    assert local_path(path) is None
    ann = somebody(running)
    answer = browser.post("/sign-in", params={"next": path}, data={"name": ann.name, "password": PASSWORD})
    assert answer.status_code == 303
    assert answer.headers["location"] == "./label"


def test_next_keeps_paths_of_this_site() -> None:
    for path in ("/", "/label", "/lead?campaign=3&view=people", "/clips/abc_-1"):
        assert local_path(path) == path


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (b"name=a&password=" + b"x" * 20_000, "application/x-www-form-urlencoded"),
        (b"\xff\xfe", "application/x-www-form-urlencoded"),
        (b'{"name": "a"}', "application/json"),
        (b"&".join(b"a=b" for _ in range(500)), "application/x-www-form-urlencoded"),
    ],
)
def test_what_is_no_form_is_refused_in_plain_words(browser: httpx.Client, content: bytes, kind: str) -> None:
    answer = browser.post("/sign-in", content=content, headers={"Content-Type": kind})
    assert answer.status_code == 400
    assert "form" in answer.text
    assert "Traceback" not in answer.text


# ---- invitations -------------------------------------------------------------------------------------------------


def test_an_invitation_makes_an_account_once_and_signs_it_in(running: Running, browser: httpx.Client) -> None:
    link, name = invitation(running, "annotator"), f"Bea {secrets.token_hex(3)}"
    for _ in range(2):  # looking at it, as a chat program's preview does, does not use it up
        assert "annotator" in browser.get(link).text
    form = {"name": name, "password": PASSWORD, "again": PASSWORD}
    for wrong, said in [({"again": "different"}, "differ"), ({"password": "short", "again": "short"}, "10 to 200")]:
        answer = browser.post(link, data=form | wrong)
        assert answer.status_code == 422
        assert said in answer.text
        assert name in answer.text
        assert "short" not in answer.text
    answer = browser.post(link, data=form)
    assert answer.status_code == 303
    assert answer.headers["location"] == "../label"
    assert session_of(browser) == {"name": name, "role": "annotator"}
    for again in (browser.get(link), browser.post(link, data=form | {"name": "Another"})):
        assert again.status_code == 410
        assert "used already" in again.text
    assert browser.get("/invite/unknown").status_code == 410


def test_a_link_for_a_new_password_cannot_change_name_or_role(running: Running, browser: httpx.Client) -> None:
    ann = somebody(running)
    link = invitation(running, "lead", ann.id)
    assert ann.name in browser.get(link).text
    browser.post(link, data={"name": "Mallory", "password": "another good one", "again": "another good one"})
    assert session_of(browser) == {"name": ann.name, "role": "annotator"}
    assert sign_in(browser, ann.name).status_code == 401


@pytest.mark.slow
def test_the_console_names_a_link_for_the_first_lead_until_there_is_one(
    tmp_path_factory: pytest.TempPathFactory, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path_factory.mktemp("first lead")
    with running_studio(folder) as app:
        said = capsys.readouterr().out
        link = said[said.index(f"{app.url}/invite/") :].split()[0]
        form = {"name": "Lea", "password": PASSWORD, "again": PASSWORD}
        client = httpx.Client()
        assert str(client.post(link, data=form, follow_redirects=True).url) == f"{app.url}/lead"
        assert client.get(f"{app.url}/session").json()["user"] == {"name": "Lea", "role": "lead"}
        assert app.studio.first_lead_link(app.url) is None


# ---- roles, headers, deployments ---------------------------------------------------------------------------------


def test_a_role_is_looked_up_for_each_request(running: Running) -> None:
    """Any handler's check: the running app's own `Auth`, asked with requests as they arrive."""
    auth, client, rosa = running.studio.auth, signed_in_client(running, "Rosa"), person(running, "Rosa")

    def request(cookie: str) -> Request:
        return Request({"type": "http", "headers": [(b"cookie", f"{COOKIE}={cookie}".encode())]})

    asking = request(client.cookies[COOKIE])
    assert auth.require(asking).name == "Rosa"
    assert auth.require(asking, "lead", "annotator").role == "annotator"
    with pytest.raises(NotAllowedError, match="for a lead; you are signed in as Rosa"):
        auth.require(asking, "lead")
    with running.studio.database.write() as session:
        set_role(session, rosa.id, "lead")
    assert auth.require(asking, "lead").name == "Rosa"
    for cookie in ("", "forged", "x" * 5000):
        with pytest.raises(NotSignedInError):
            auth.require(request(cookie))
    with running.studio.database.write() as session:
        set_role(session, rosa.id, "annotator")


def test_sign_in_pages_are_not_cached_framed_or_named_to_others(running: Running, browser: httpx.Client) -> None:
    for path in ("/sign-in", "/invite/unknown", invitation(running, "viewer")):
        headers = browser.get(path).headers
        assert headers["cache-control"] == "no-store"
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "same-origin"
        policy = headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "frame-ancestors 'self'" in policy
        assert "script-src" not in policy


def test_cookie_is_secure_behind_https(running: Running) -> None:
    ann = somebody(running)
    with httpx.Client(base_url=running.url) as client:
        answer = sign_in(client, ann.name, **{"X-Forwarded-Proto": "https"})
    assert "Secure" in answer.headers["set-cookie"]
    assert "SameSite=Lax" in answer.headers["set-cookie"]


def test_on_a_space_the_cookie_lives_inside_the_hubs_page(
    running: Running, browser: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    ann = somebody(running)
    monkeypatch.setenv("SPACE_ID", "team/studio")
    monkeypatch.setenv("SPACE_HOST", "team-studio.hf.space")
    for cookie in sign_in(browser, ann.name).headers.get_list("set-cookie"):
        assert all(part in cookie.split("; ") for part in ("HttpOnly", "Secure", "SameSite=None", "Partitioned"))
    assert "huggingface.co" in browser.get("/sign-in").headers["content-security-policy"]
    assert public_url("http://0.0.0.0:7860/") == "https://team-studio.hf.space"


@pytest.mark.usefixtures("running")
def test_on_a_space_each_visitor_has_an_address_that_cannot_be_forged(
    browser: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SPACE_ID", "team/studio")
    for number in range(20):
        forwarded = f"9.9.9.{number}, 8.8.4.4, 10.0.0.7"
        assert sign_in(browser, secrets.token_hex(4), "wrong password", **{"X-Forwarded-For": forwarded}).status_code == 401
    assert sign_in(browser, "Nobody", "wrong", **{"X-Forwarded-For": "1.1.1.1, 8.8.4.4, 10.0.0.7"}).status_code == 429
    assert sign_in(browser, "Nobody", "wrong", **{"X-Forwarded-For": "8.8.4.4, 1.1.1.1, 10.0.0.7"}).status_code == 401


# ---- the pages behind --------------------------------------------------------------------------------------------


def test_each_page_has_the_header_and_says_nothing_of_who_is_signed_in(running: Running) -> None:
    client = signed_in_client(running, "Zacharias")
    pages = [("/", "Judge"), ("/label", "Label"), ("/analyse", "Analyse"), ("/train", "Train"), ("/lead", "Lead")]
    for path, here in pages:
        text = html.unescape(client.get(path).text.encode().decode("unicode_escape"))
        assert f'aria-current="page">{here}</a>' in text
        assert text.count('aria-current="page"') == 1
        assert "Zacharias" not in text
    assert httpx.get(f"{running.url}/serving").json()["name"] == "tiny random"


def test_the_gallerys_pairs_are_in_the_store(running: Running) -> None:
    with running.studio.database.read() as session:
        pairs = list_pairs(session, "bundled")
    assert {pair.prompt for pair in pairs} >= {"A red square moves right."}
    assert all(pair.generator_a is None and pair.generator_b is None for pair in pairs)
