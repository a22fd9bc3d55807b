"""Requests of the Label page with random damage: refused in a sentence as the client's fault, and a store that is sound."""

from __future__ import annotations

import json
import secrets
from typing import Any

import httpx
import pytest
from hypothesis import strategies as st

from storage.campaigns.label_schema import checked
from storage.labelling.labels import labels_of_pair
from storage.maintenance.integrity import check_store
from storage.pairs import list_pairs
from tests.app.label.test_api import ANSWER, Desk, code_of
from tests.helpers.campaigns import make_campaign
from tests.helpers.mutations import FEWER_EXAMPLES, holds_for, mutated, mutated_json
from tests.helpers.studios import Running

pytestmark = pytest.mark.slow
JSON = {"Content-Type": "application/json"}
PIECES = [*'{}[",:', "\\u0000", "\\ud800", "\ufffd", "NaN", "1e999", "9" * 400, "9" * 5000, "[" * 1500, "null"]
DRAFT = {"note": "so far", "seconds": 2.0, "marks": [], "sub_scores": {"left": {"subject": "2"}}, "playback": {"left": {}}}


def send(desk: Desk, name: str, body: bytes) -> httpx.Response:
    """Send a body, and check that the answer is JSON, with one sentence where it is a refusal."""
    answer = desk.client.post(f"/api/label/{name}", content=body, headers=JSON, timeout=120)
    assert answer.status_code == 200 or 400 <= answer.status_code < 500, answer.text
    said = answer.json()
    if answer.status_code != 200:
        assert set(said["error"]) == {"code", "message"}
        assert 0 < len(said["error"]["message"]) < 1000
        assert "Traceback" not in said["error"]["message"]
    return answer


@FEWER_EXAMPLES  # each is three requests
def test_damaged_bodies_get_a_sentence_and_store_nothing_odd(running: Running, examples: int) -> None:
    campaign = make_campaign(running, f"damaged {examples}", number=examples, overlap=1)
    desk = Desk(running, f"Dan {examples}")
    turn = desk.post("next", campaign=campaign.id)["turn"]["turn"]
    answered = 0

    def check(drawn: tuple[str, str]) -> None:
        nonlocal turn, answered
        name, text = drawn
        body = text.replace("TURN", turn).replace("SUBMISSION", secrets.token_hex(8)).replace('"CAMPAIGN"', str(campaign.id))
        answered += send(desk, name, body.encode("utf-8", "surrogatepass")).status_code == 200
        following = desk.post("next", campaign=campaign.id)["turn"]  # whatever was kept can be shown again
        assert following is not None
        turn = following["turn"]
        desk.get("history", campaign=campaign.id)

    bodies: dict[str, dict[str, Any]] = {
        "submit": {"turn": "TURN", "submission": "SUBMISSION", "edits": None, "answer": ANSWER},
        "draft": {"turn": "TURN", "draft": DRAFT},
        "next": {"campaign": "CAMPAIGN", "midnight": "2026-01-31T00:00:00Z"},
        "undo": {"campaign": "CAMPAIGN", "submission": "SUBMISSION"},
        "open": {"turn": "TURN"},
        "compare": {"turn": "TURN"},
    }
    drawn = [
        st.tuples(st.just(name), damages)
        for name, body in bodies.items()
        for damages in (mutated_json([body]), mutated([json.dumps(body)], PIECES))
    ]
    # Most of what is stored comes by two of them.
    holds_for(st.one_of(*drawn[:4], *drawn[:4], *drawn), examples, check)
    assert answered, "some damages are harmless"
    with running.studio.database.read() as session:
        assert check_store(running.studio.database) == ()
        for pair in list_pairs(session, "test"):
            for label in labels_of_pair(session, campaign.id, pair.id):
                if label.action != "withdraw":
                    checked(label, campaign.config.dimensions, pair.video_a.duration, pair.video_b.duration)


# ---- what was found so ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ('"\\ud800"', "note holds the character U+D800 at position 1, which can't be stored"),
        ('{"\\ud800": 1}', "a key holds the character U+D800"),
        ("1e999", "note is no finite number"),
        ("1" + "0" * 400, "note is a whole number of more than 64 bits"),
        ("9" * 5000, "it holds a number of thousands of digits"),
        ("[" * 100 + "]" * 100, "nested more than 64 levels deep"),
        ("[" * 980 + "]" * 980, "nested more than 64 levels deep"),
    ],
)
def test_a_draft_that_could_not_be_shown_again_is_refused(running: Running, value: str, words: str) -> None:
    """Half a character in a draft was stored, and from then on each request for that pair failed."""
    campaign = make_campaign(running, f"draft {value[:20]} {len(value)}")
    desk = Desk(running, "Dot")
    turn = desk.post("next", campaign=campaign.id)["turn"]["turn"]
    refused = send(desk, "draft", f'{{"turn": "{turn}", "draft": {{"note": {value}}}}}'.encode())
    assert (refused.status_code, code_of(refused.json())) == (422, "bad_request")
    assert words in refused.json()["error"]["message"]
    assert desk.post("next", campaign=campaign.id)["turn"]["draft"] is None


@pytest.mark.parametrize("name", ["seconds", "marks", "playback"])
def test_a_number_of_hundreds_of_digits_is_refused(running: Running, name: str) -> None:
    campaign = make_campaign(running, f"digits {name}")
    desk = Desk(running, "Dig")
    turn = desk.post("next", campaign=campaign.id)["turn"]["turn"]
    huge = {"seconds": 10**400, "marks": [{"side": "left", "time": 10**400}], "playback": {"left": {"watched": 10**400}}}
    body = {"turn": turn, "submission": "huge", "answer": ANSWER | {name: huge[name]}}
    refused = send(desk, "submit", json.dumps(body).encode())
    assert refused.status_code == 422
