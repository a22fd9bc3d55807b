"""Bundled pairs in a blind campaign: out of everybody's reach but the leads' and the annotators' who label them."""

from __future__ import annotations

import secrets
from collections.abc import Iterator

import httpx
import pytest
from gradio_client import Client
from gradio_client.exceptions import AppError

from app.web.auth import COOKIE
from storage.campaigns.campaign import CampaignConfig, create_campaign, set_status
from storage.campaigns.guidelines import DEFAULT_GUIDELINES
from storage.labelling.assignments import Assignment
from storage.labelling.next_assignment import next_assignment
from storage.pairs import Pair, list_pairs
from tests.helpers.accounts import cookie_of, person, signed_in_client, signed_in_program
from tests.helpers.studios import Running


@pytest.fixture
def blind(running: Running) -> Iterator[Pair]:
    """The bundled pair "blue", in a blind campaign as long as the test lasts."""
    with running.studio.database.write() as session:
        (pair,) = (one for one in list_pairs(session, "bundled") if one.prompt.startswith("A blue"))
        config = CampaignConfig(f"blind {secrets.token_hex(4)}", overlap=1, gold_share=0.0, repeat_share=0.0, dimensions=())
        campaign = create_campaign(session, config, [pair.id], DEFAULT_GUIDELINES, created_by=None)
    holder = person(running, "Holder").id
    with running.studio.database.write() as session:
        assert isinstance(next_assignment(session, campaign.id, holder), Assignment)
    yield pair
    with running.studio.database.write() as session:
        set_status(session, campaign.id, "closed")


def statuses(client: httpx.Client, pair: Pair) -> set[int]:
    addresses = [f"/clips/{video.public_id}{part}" for video in (pair.video_a, pair.video_b) for part in ("", "/poster")]
    return {client.get(address).status_code for address in addresses}


def test_clips_are_for_those_who_got_them_and_for_leads_and_viewers(running: Running, blind: Pair) -> None:
    assert statuses(httpx.Client(base_url=running.url), blind) == {403}
    assert statuses(signed_in_client(running, "Without a lease"), blind) == {403}
    assert statuses(signed_in_client(running, "Vic", "viewer"), blind) == {200}
    assert statuses(signed_in_client(running, "Holder"), blind) == {200}
    assert statuses(signed_in_client(running, "Mira", "lead"), blind) == {200}
    refused = httpx.get(f"{running.url}/clips/{blind.video_a.public_id}")
    assert refused.headers["cache-control"] == "no-store"
    assert "labelled blind" in refused.text


@pytest.mark.usefixtures("blind")
def test_only_leads_see_and_judge_the_pair(running: Running) -> None:
    for cookies in ({}, {COOKIE: cookie_of(running, "Holder")}):
        client = Client(running.url, verbose=False, headers={"Cookie": "; ".join(f"{k}={v}" for k, v in cookies.items())})
        assert [pair["id"] for pair in client.predict(api_name="/gallery")] == ["red"]
        with pytest.raises(AppError, match="labelled blind"):
            client.predict("blue", "quick", 8, api_name="/judge_bundled")
    lead = signed_in_program(running, "Mira", "lead")
    assert [pair["id"] for pair in lead.predict(api_name="/gallery")] == ["red", "blue"]
    assert lead.predict("blue", "quick", 8, api_name="/judge_bundled")["verdict"] in ("A", "B", "tie")


def test_it_is_open_again_once_the_campaign_is_closed(running: Running, client: Client) -> None:
    assert {pair["id"] for pair in client.predict(api_name="/gallery")} >= {"blue"}
    assert client.predict("blue", "quick", 8, api_name="/judge_bundled")["verdict"] in ("A", "B", "tie")
    assert httpx.get(running.url).status_code == 200
