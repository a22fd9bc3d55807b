"""DEMO=1: a sandbox for guests with limits, no administration, everything else as ever."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import httpx
import pytest
from gradio_client import Client
from starlette.requests import Request
from starlette.routing import Route

from app.judge.access import JudgingAccess
from app.lead.views.exchange import EXPORT_PATH
from app.web.auth import COOKIE, NotSignedInError
from app.web.deployment import SettingError, is_demo
from storage.accounts import guests
from storage.accounts.guests import GuestLimits
from storage.campaigns.campaign import list_campaigns
from storage.labelling import sandbox
from tests.helpers.accounts import signed_in_client
from tests.helpers.campaigns import make_campaign
from tests.helpers.studios import PROMPTS, Running, running_studio

pytestmark = pytest.mark.slow  # an app of its own
SAID = {
    "action": "label",
    "choice": "left",
    "strength": "clearly",
    "sub_scores": {side: {"subject": "2", "dynamics": "1"} for side in ("left", "right")},
    "seconds": 3.0,
}


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with ExitStack() as stack:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("DEMO", "1")
            app = stack.enter_context(running_studio(tmp_path_factory.mktemp("demo")))
        yield app


def visitor(demo: Running) -> httpx.Client:
    return httpx.Client(base_url=demo.url, timeout=60)


@contextmanager
def guest(demo: Running) -> Iterator[httpx.Client]:
    """A visitor who has clicked."""
    with visitor(demo) as client:
        answer = client.post("/guest")
        assert answer.status_code == 303, answer.text
        assert answer.headers["location"].endswith("/label")
        client.cookies = httpx.Cookies({COOKIE: answer.cookies[COOKIE]})
        yield client


def post(client: httpx.Client, name: str, **fields: Any) -> httpx.Response:
    return client.post(f"/api/label/{name}", json=fields)


def test_a_guest_labels_in_the_sandbox_and_compares(demo: Running) -> None:
    with guest(demo) as client:
        (campaign,) = client.get("/api/label/campaigns").json()["campaigns"]
        assert (campaign["name"], campaign["status"]) == ("Sandbox", "open")
        turn = post(client, "next", campaign=campaign["id"]).json()["turn"]
        assert turn["prompt"] in PROMPTS.values()
        assert client.get(turn["left"]["url"].removeprefix(".")).status_code == 200
        saved = post(client, "submit", turn=turn["turn"], submission="a", answer=SAID)
        assert saved.status_code == 200, saved.text
        assert saved.json()["saved"]["is_new"]
        assert post(client, "compare", turn=turn["turn"]).json()["model"] is not None


def test_a_guest_may_save_so_many_answers(demo: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sandbox, "GUEST_ANSWERS", 1)
    with guest(demo) as client:
        campaign = client.get("/api/label/campaigns").json()["campaigns"][0]["id"]
        turn = post(client, "next", campaign=campaign).json()["turn"]
        saved = post(client, "submit", turn=turn["turn"], submission="a", answer=SAID).json()
        assert saved["turn"] is None
        assert saved["waiting"] == "This is a demo: a guest may save 1 answers, and you have. Thank you!"
        again = post(client, "submit", turn=turn["turn"], submission="a", answer=SAID)
        assert not again.json()["saved"]["is_new"], "a retry is answered as before"
        refused = post(client, "undo", campaign=campaign, submission="b")
        assert (refused.status_code, refused.json()["error"]["code"]) == (409, "campaign")


def test_a_guest_sees_no_other_campaign(demo: Running) -> None:
    other = make_campaign(demo, "of the lab", visible=("rewards",)).id
    with guest(demo) as client:
        assert [one["name"] for one in client.get("/api/label/campaigns").json()["campaigns"]] == ["Sandbox"]
        assert "guests label in the sandbox only" in post(client, "next", campaign=other).json()["waiting"]
        assert client.get(f"/api/label/guidelines?campaign={other}").status_code == 404


def test_an_address_has_so_many_guests(demo: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    few = GuestLimits(each_origin=0)
    monkeypatch.setattr(guests.admit_guest, "__defaults__", (few, None))
    with visitor(demo) as client:
        answer = client.post("/guest")
        assert answer.status_code == 429
        assert "your address has had its 0 guests of today" in answer.text.replace("&#39;", "'")
        assert COOKIE not in answer.cookies
        assert client.post("/guest", headers={"Origin": "https://elsewhere.example"}).status_code == 403


def test_nobody_leads_or_trains_in_a_demo(demo: Running) -> None:
    assert demo.studio.first_lead_link(demo.url) is None
    routes = [route for route in demo.studio.routes if isinstance(route, Route)]
    closed = [route for route in routes if route.path.startswith(("/api/train/", EXPORT_PATH))]
    assert len(closed) == 6
    lead = signed_in_client(demo, "Lea", "lead")  # who led before this became a demo
    for signed_in in (guest(demo), lead):
        with signed_in as client:
            for route in closed:
                for method in {*(route.methods or ())} - {"HEAD"}:
                    answer = client.request(method, route.path)
                    assert answer.status_code == 403, route
                    assert answer.json()["error"]["message"].startswith("This is a demo: ")
            for page, sentence in (("/train", "training is not available here"), ("/lead", "nobody leads campaigns here")):
                assert sentence in client.get(page).text
    # The events of Gradio: what a page does not have nobody can call.
    named = {str(function.fn) for function in demo.studio.blocks.fns.values()}
    assert not [name for name in named if "LeadPage" in name or "lead." in name]


def test_the_gallery_is_there_and_a_guest_is_a_visitor_like_any_other(demo: Running) -> None:
    program = Client(demo.url, verbose=False)
    assert {pair["prompt"] for pair in program.predict(api_name="/gallery")} == set(PROMPTS.values())
    with guest(demo) as client:
        scope = {
            "type": "http",
            "headers": [(b"cookie", f"{COOKIE}={client.cookies[COOKIE]}".encode())],
            "client": ("::1", 1),
        }
        request = Request(scope)
        assert demo.studio.auth.require(request, "annotator").is_guest
        assert JudgingAccess(demo.studio.auth, "open").visitor(request).person is None
        with pytest.raises(NotSignedInError):
            JudgingAccess(demo.studio.auth, "sign-in").visitor(request)


def test_without_demo_there_are_no_guests(running: Running) -> None:
    with visitor(running) as client:
        assert client.post("/guest").status_code in (404, 405)
        assert "data-guests" not in client.get("/label").text
    with running.studio.database.read() as session:
        assert "Sandbox" not in [campaign.config.name for campaign in list_campaigns(session)]


@pytest.mark.parametrize(("value", "is_one"), [("", False), ("0", False), ("1", True), (" 1 ", True)])
def test_a_demo_is_asked_for(monkeypatch: pytest.MonkeyPatch, value: str, is_one: bool) -> None:
    monkeypatch.setenv("DEMO", value)
    assert is_demo() is is_one
    monkeypatch.setenv("DEMO", "yes")
    with pytest.raises(SettingError, match="DEMO is 1"):
        is_demo()
