"""Links to pairs: which open, what they show and grant, and what becomes of them; against a real app."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import gradio as gr
import httpx
import pytest
from sqlalchemy import func, select, update

from app.judge.api import JudgeApi, Selection
from app.judge.page import JudgePage
from app.judge.shown import Answered
from app.web.auth import NotAllowedError
from descore.calibration import Calibration
from storage.campaigns.campaign import CampaignConfig, create_campaign, set_status
from storage.campaigns.guidelines import DEFAULT_GUIDELINES
from storage.errors import ShareError
from storage.pairs import Pair, find_pair
from storage.schema import JudgementRow, ShareRow, utc_now
from storage.votes import ShownAnswer, current_vote, current_votes
from tests.helpers.accounts import cookie_of, signed_in_client
from tests.helpers.judge_tab import PROMPT, Tab, request
from tests.helpers.studios import PROMPTS, Running, make_clip, running_studio


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """An app of these tests' own: they promote, judge and share."""
    with running_studio(tmp_path_factory.mktemp("links")) as app:
        yield app


@pytest.fixture(scope="module")
def page(running: Running) -> JudgePage:
    return JudgePage(running.studio.endpoints._api)


@pytest.fixture(scope="module")
def api(page: JudgePage) -> JudgeApi:
    return page.api


@pytest.fixture
def clips(tmp_path: Path) -> tuple[Path, Path]:
    shade = secrets.randbelow(200)
    return make_clip(tmp_path / "a.mp4", (250, shade, 40)), make_clip(tmp_path / "b.mp4", (40, shade, 250))


@pytest.fixture
def maker(page: JudgePage, clips: tuple[Path, Path]) -> Tab:
    """Somebody who had two videos of their own judged."""
    tab = Tab(page)
    tab.bring(*clips)
    tab.judge()
    return tab


def pair_of(running: Running, tab: Tab) -> Pair:
    store = running.studio.clip_store
    a, b = store.by_id(tab.selection.a), store.by_id(tab.selection.b)
    with running.studio.database.read() as session:
        pair = find_pair(session, a, b, tab.text)
    assert pair is not None
    return pair


def rewards(tab: Tab) -> list[tuple[str, str]]:
    return [(side["reward"], side["raw_reward"]) for side in tab.panel["sides"]]


def statuses(running: Running, token: str, client: httpx.Client | None = None) -> list[int]:
    client = client or httpx.Client(base_url=running.url)
    return [client.get(f"/shared/{token}/{side}").status_code for side in ("a", "b")]


# ---- bundled pairs --------------------------------------------------------------------------------------------------


def test_a_bundled_pair_opens_by_its_name_and_is_not_judged(running: Running, page: JudgePage) -> None:
    with running.studio.database.read() as session:
        before = session.scalar(select(func.count()).select_from(JudgementRow))
    tab = Tab(page, query="pair=blue")
    assert tab.text == PROMPTS["blue"]
    assert tab.selection.bundled == "blue"
    assert tab.strip["selected"] == "blue"
    assert tab.panel["phase"] == "idle"
    assert tab.share["path"] == "judge?pair=blue"
    assert not tab.notice.visible
    with running.studio.database.read() as session:
        assert session.scalar(select(func.count()).select_from(JudgementRow)) == before


def test_it_opens_with_the_verdict_that_the_store_has(page: JudgePage) -> None:
    tab = Tab(page, query="pair=red")
    tab.judge("quick")
    again = Tab(page, query="pair=red")
    assert (again.panel["phase"], again.panel["source"], again.mode) == ("done", "store", "quick")
    assert again.panel["p"] == tab.panel["p"]


def test_a_link_comes_before_what_the_browser_looked_at_last(page: JudgePage) -> None:
    tab = Tab(page, query="pair=blue")
    assert Tab(page, tab.saved).text == PROMPTS["blue"]
    assert Tab(page, tab.saved, query="pair=red").text == PROMPTS["red"]


def test_a_pair_opens_by_its_number_for_those_who_may_see_it(running: Running, page: JudgePage, maker: Tab) -> None:
    number = pair_of(running, Tab(page, query="pair=blue")).id
    assert Tab(page, query=f"pair={number}").selection.bundled == "blue"
    own = pair_of(running, maker).id
    assert "everybody may see" in Tab(page, query=f"pair={own}").notice.value
    annotator = cookie_of(running, "Ann")
    assert "everybody may see" in Tab(page, query=f"pair={own}", cookie=annotator).notice.value
    lead = cookie_of(running, "Lea", "lead")
    assert Tab(page, query=f"pair={own}", cookie=lead).text == PROMPT


@pytest.mark.parametrize("name", ["nowhere", "", "-1", "0", "9" * 40, "%F0%9F%98%80", "..", "red%00", "' OR 1=1"])
def test_a_link_that_leads_nowhere_says_so(page: JudgePage, name: str) -> None:
    tab = Tab(page, query=f"pair={name}")
    assert tab.notice.visible
    assert "<script" not in tab.notice.value
    assert tab.text == PROMPTS["red"], "the page works all the same"


def test_the_address_of_links_leads_to_the_page_at_the_root(running: Running) -> None:
    for path, target in (
        ("/judge", "./"),
        ("/judge?pair=pair-01", "./?pair=pair-01"),
        ("/judge?share=a%26b&x=1", "./?share=a%26b"),
        ("/judge?pair=//elsewhere.example", "./?pair=%2F%2Felsewhere.example"),
    ):
        answer = httpx.get(running.url + path)
        assert (answer.status_code, answer.headers["location"]) == (307, target)
    assert httpx.get(f"{running.url}/judge?pair=red", follow_redirects=True).status_code == 200
    assert httpx.get(running.url).status_code == 200


# ---- one's own videos -----------------------------------------------------------------------------------------------


def test_a_shared_pair_opens_with_videos_prompt_and_verdict(running: Running, page: JudgePage, maker: Tab) -> None:
    assert maker.share["state"] == "ready"
    token = maker.make_link()
    assert (maker.share["state"], maker.share["own"]) == ("made", True)
    assert maker.share["until"].startswith(f"{utc_now() + timedelta(days=30):%Y-%m-%d} ")
    guest = Tab(page, query=f"share={token}")
    assert guest.text == PROMPT
    assert not guest.shown["prompt"].interactive
    for name in ("phase", "headline", "p", "verdict"):
        assert guest.panel[name] == maker.panel[name], name
    assert rewards(guest) == rewards(maker)
    assert (guest.share["state"], guest.share["own"], guest.share["until"]) == ("shared", False, maker.share["until"])
    assert guest.player["a"]["url"] == f"./shared/{token}/a"
    assert statuses(running, token) == [200, 200]
    part = httpx.get(f"{running.url}/shared/{token}/b", headers={"Range": "bytes=0-9"})
    assert (part.status_code, len(part.content), part.headers["cache-control"]) == (206, 10, "no-store")


def test_it_shows_the_verdict_of_then_after_another_checkpoint_serves(
    running: Running, page: JudgePage, maker: Tab, monkeypatch: pytest.MonkeyPatch
) -> None:
    token = maker.make_link()
    served = running.studio.serving.now
    manifest = replace(served.manifest, calibration=Calibration({}))
    other = replace(served, name="another", fingerprint="0" * 64, manifest=manifest)
    monkeypatch.setattr(running.studio.serving, "_served", other)
    guest = Tab(page, query=f"share={token}")
    assert (guest.panel["p"], rewards(guest)) == (maker.panel["p"], rewards(maker))
    assert Tab(page, maker.saved).panel["phase"] == "idle"


def test_the_link_grants_the_two_clips_and_no_more(running: Running, page: JudgePage, maker: Tab) -> None:
    token = maker.make_link()
    guest = Tab(page, query=f"share={token}")
    sent = str({name: value for name, value in guest.shown.items() if name not in ("selection", "prompt", "notice")})
    for public_id in (maker.selection.a, maker.selection.b):
        assert public_id not in sent, "the clips' own addresses would outlive the link"
    client = httpx.Client(base_url=running.url)
    for path in ("c", "A", "..", "a/poster", "", "%2e%2e", maker.selection.a):
        assert client.get(f"/shared/{token}/{path}").status_code in (404, 405), path
    for wrong in ("made-up", token[:-1], token + "x", "x" * 5000):
        answer = client.get(f"/shared/{wrong}/a")
        assert (answer.status_code, answer.text.startswith("This link is unknown")) == (410, True)
    assert "a" not in guest.saved


def test_with_the_link_one_may_ask_about_its_prompt_alone(maker: Tab, api: JudgeApi) -> None:
    token = maker.make_link()
    selection = Selection(maker.selection.a, maker.selection.b, share=token)
    assert api.pair_of(selection, f" {PROMPT} ", request()).prompt == PROMPT
    with pytest.raises(ValueError, match="for its own prompt"):
        api.pair_of(selection, "Another prompt.", request())


def test_only_the_browser_that_made_it_ends_it_and_then_it_says_so(running: Running, page: JudgePage, maker: Tab) -> None:
    token = maker.make_link()
    guest = Tab(page, query=f"share={token}")
    guest.end_link()
    assert "made no link" in guest.share["status"]
    assert statuses(running, token) == [200, 200]
    reloaded = Tab(page, maker.saved)
    assert (reloaded.share["state"], reloaded.share["own"]) == ("open", True)
    reloaded.end_link()
    assert "has ended" in reloaded.share["status"]
    assert statuses(running, token) == [410, 410]
    late = Tab(page, query=f"share={token}")
    assert f"This link ended on {utc_now():%Y-%m-%d}." in late.notice.value
    assert late.selection.share is None
    asked = (guest.selection, PROMPT, "quick", 8, guest.saved, request())
    *_, (panel, *_) = page._judge(*asked)
    assert panel["phase"] == "error", "a page that is still open can't go on with it"
    assert "This link ended" in panel["status"]


def test_the_maker_ends_it_from_the_linked_page_too(running: Running, page: JudgePage, maker: Tab) -> None:
    token = maker.make_link()
    same = Tab(page, maker.saved, query=f"share={token}")
    assert same.share["own"]
    same.end_link()
    assert statuses(running, token) == [410, 410]


def test_a_link_ends_by_itself(running: Running, page: JudgePage, maker: Tab) -> None:
    token = maker.make_link()
    with running.studio.database.write() as session:
        session.execute(update(ShareRow).values(expires_at=utc_now() - timedelta(seconds=1)))
    assert statuses(running, token) == [410, 410]
    assert "This link ended on" in Tab(page, query=f"share={token}").notice.value


# ---- refusals -------------------------------------------------------------------------------------------------------


def test_what_was_not_judged_is_not_shared(page: JudgePage, clips: tuple[Path, Path]) -> None:
    tab = Tab(page)
    tab.bring(*clips, prompt="Another prompt.")
    assert tab.share["state"] == "none"
    assert tab.make_link() == ""
    assert "Judge two videos of your own first" in tab.share["status"]
    tab.shown["answered"] = Answered("think", 0)  # what nobody asked
    assert tab.make_link() == ""
    assert "Judge this pair first" in tab.share["status"]


def test_bundled_and_imported_videos_are_not_shared(page: JudgePage, api: JudgeApi) -> None:
    tab = Tab(page, query="pair=blue")
    tab.judge()
    assert tab.share["state"] == "link"
    assert tab.make_link() == ""
    assert "brought to this page" in tab.share["status"]
    pair = api.bundled["blue"]  # as videos of one's own, by a browser that makes its state up
    made_up = Tab(page, {"a": pair.a.public_id, "b": pair.b.public_id, "prompt": "Mine."})
    made_up.judge()
    assert made_up.make_link() == ""
    assert "brought to this page" in made_up.share["status"]


def test_whoever_got_a_link_makes_no_other(page: JudgePage, maker: Tab) -> None:
    guest = Tab(page, query=f"share={maker.make_link()}")
    guest.judge()
    assert guest.share["state"] == "shared"
    assert guest.make_link() == ""


def test_a_pair_of_a_blind_campaign_is_neither_shared_nor_opened(running: Running, page: JudgePage, maker: Tab) -> None:
    token = maker.make_link()
    config = CampaignConfig(f"blind {secrets.token_hex(4)}", overlap=1, gold_share=0.0, repeat_share=0.0, dimensions=())
    with running.studio.database.write() as session:
        campaign = create_campaign(session, config, [pair_of(running, maker).id], DEFAULT_GUIDELINES, created_by=None)
    lead = cookie_of(running, "Lea", "lead")
    try:
        assert statuses(running, token) == [403, 403]
        assert statuses(running, token, signed_in_client(running, "Ann")) == [403, 403]
        assert "labelled blind" in Tab(page, query=f"share={token}").notice.value
        assert Tab(page, query=f"share={token}", cookie=lead).text == PROMPT
        assert maker.make_link() == ""
        assert "labelled blind" in maker.share["status"]
        with pytest.raises(NotAllowedError, match="can't be shared"):  # a lead may judge it, and no more
            page.api.shares.make(pair_of(running, maker), "quick", 8, "c" * 32, page.api.access.visitor(request("", lead)))
    finally:
        with running.studio.database.write() as session:
            set_status(session, campaign.id, "closed")
    assert statuses(running, token) == [200, 200]


def test_too_many_links_are_refused_in_a_sentence(page: JudgePage, maker: Tab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("storage.shares.MOST_IN_A_DAY", 0)
    assert maker.make_link() == ""
    assert "links were made from here within a day" in maker.share["status"]
    with pytest.raises(ShareError):
        page.api.shares.open("", request())


def test_without_an_account_a_lab_shares_nothing_and_opens_what_was_shared(tmp_path: Path) -> None:
    with running_studio(tmp_path, access="sign-in") as lab:
        page = JudgePage(lab.studio.endpoints._api)
        ada = Tab(page, cookie=cookie_of(lab, "Ada"))
        ada.bring(make_clip(tmp_path / "a.mp4", (9, 9, 250)), make_clip(tmp_path / "b.mp4", (9, 250, 9)))
        ada.judge()
        token = ada.make_link()
        guest = Tab(page, query=f"share={token}")
        assert guest.panel["phase"] == "done"
        assert statuses(lab, token) == [200, 200]
        ada.cookie = None
        assert ada.make_link() == ""
        assert "people with an account only" in ada.share["status"]


# ---- names on votes -------------------------------------------------------------------------------------------------


def vote(tab: Tab, choice: str) -> dict[str, Any]:
    event = gr.EventData(None, {"choice": choice, "token": secrets.token_hex(16), "note": ""})
    asked = (tab.selection, tab.text, tab.shown["answered"], tab.saved, event, request("", tab.cookie))
    tab.show(tab.page.voting.take_vote(*asked))
    view: dict[str, Any] = tab.shown["votes"]
    return view


def test_a_signed_in_persons_vote_has_their_name_and_follows_them(running: Running, page: JudgePage) -> None:
    ada = cookie_of(running, "Ada")
    home = Tab(page, query="pair=blue", cookie=ada)
    assert vote(home, "A")["status"].endswith(" UTC as Ada")
    work = Tab(page, query="pair=blue", cookie=cookie_of(running, "Ada"))
    assert work.saved["voter"] != home.saved["voter"]
    assert (work.votes["choice"], work.votes["status"][-7:]) == ("A", " as Ada")
    assert vote(work, "B")["choice"] == "B"
    visitor = Tab(page, query="pair=blue")
    assert visitor.votes["choice"] is None
    assert vote(visitor, "tie")["status"].endswith(" UTC")
    with running.studio.database.read() as session:
        votes = current_votes(session, pair_of(running, home).id)
        named = {(one.choice, one.user_name) for one in votes}
    assert named == {("B", "Ada"), ("tie", None)}


def test_a_vote_keeps_what_of_the_model_stood_on_the_page(running: Running, page: JudgePage) -> None:
    tab = Tab(page, query="pair=blue")
    vote(tab, "A")
    pair = pair_of(running, tab)

    def seen() -> Any:
        with running.studio.database.read() as session:
            kept = current_vote(session, pair.id, str(tab.saved["voter"]))
            assert kept is not None
            return kept.shown

    assert (tab.shown["answered"] is None) == (seen() == "nothing")
    tab.shown["answered"] = Answered("k", 4, pair.id, ShownAnswer("k", 4, "f", "B", 0.2))
    vote(tab, "B")
    assert seen() == ShownAnswer("k", 4, "f", "B", 0.2)
    tab.shown["answered"] = Answered("k", 4, pair.id + 1, ShownAnswer("k", 4, "f", "B", 0.2))  # of another prompt
    vote(tab, "tie")
    assert seen() == "nothing"
    asked = (tab.selection, tab.text, "k", 3, tab.saved, request("", tab.cookie))
    writing = page._judge(*asked)
    next(writing)
    vote(tab, "A")
    assert seen() == ShownAnswer("k", 3), "how it was asked, while it is being written"
    *_, (_, _, _, _, tab.shown["answered"]) = writing
    tab.judge()
    vote(tab, "A")
    answer = seen()
    assert isinstance(answer, ShownAnswer)
    assert answer.fingerprint == running.studio.served.fingerprint
    assert answer.verdict in ("A", "B", "tie")
