"""The labelling endpoints of a running app, as the page and programs use them."""

from __future__ import annotations

import secrets
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from descore.answer import DIMENSIONS
from storage.campaigns.campaign import Gold, set_status
from storage.campaigns.members import set_paused
from storage.labelling.assignments import Assignment, get_assignment
from storage.labelling.labels import Label, labels_of_pair
from storage.pairs import video_by_public_id
from tests.helpers.accounts import person, signed_in_client
from tests.helpers.campaigns import GENERATORS, MODEL_SCORES, SECRETS, THOUGHTS, make_campaign
from tests.helpers.studios import Running

SCORES = {"left": dict.fromkeys(DIMENSIONS, "2"), "right": dict.fromkeys(DIMENSIONS, "0")}
ANSWER = {
    "action": "label",
    "choice": "left",
    "strength": "clearly",
    "sub_scores": SCORES,
    "marks": [{"side": "right", "time": 0.5}],
    "note": "the square jumps",
    "seconds": 12.5,
    "playback": {"left": {"watched": 1.0, "plays": 2}, "right": {"watched": 0.5, "plays": 0}},
}


class Desk:
    """One person at the endpoints; keeps every answer's text, to search it later."""

    def __init__(self, running: Running, name: str, role: Any = "annotator") -> None:
        self.client = signed_in_client(running, name, role)
        self.user = person(running, name, role)
        self.heard: list[str] = []

    def post(self, name: str, status: int = 200, **fields: Any) -> dict[str, Any]:
        response = self.client.post(f"/api/label/{name}", json=fields, timeout=120)
        return self._heard(response, status)

    def get(self, name: str, status: int = 200, **fields: Any) -> dict[str, Any]:
        return self._heard(self.client.get(f"/api/label/{name}", params=fields), status)

    def submit(self, turn: str, status: int = 200, submission: str | None = None, **changes: Any) -> dict[str, Any]:
        edits = changes.pop("edits", None)
        submission = submission or secrets.token_hex(16)
        return self.post("submit", status, turn=turn, submission=submission, edits=edits, answer=ANSWER | changes)

    def turn_of(self, running: Running, turn: str) -> Assignment:
        with running.studio.database.read() as session:
            return get_assignment(session, turn, self.user.id)

    def label_of(self, running: Running, turn: str) -> Label:
        label = self.turn_of(running, turn).label
        assert label is not None
        return label

    def _heard(self, response: httpx.Response, status: int) -> dict[str, Any]:
        self.heard.append(response.text)
        assert response.status_code == status, response.text
        assert response.headers["cache-control"] == "no-store"
        found = response.json()
        assert isinstance(found, dict)
        return found


def code_of(answer: dict[str, Any]) -> str:
    return str(answer["error"]["code"])


# ---- the flow ----------------------------------------------------------------------------------------------------


def test_from_the_first_pair_to_the_last(running: Running) -> None:
    campaign = make_campaign(running, "flow", number=3)
    desk = Desk(running, "Flo")
    listed = {one["id"]: one for one in desk.get("campaigns")["campaigns"]}[campaign.id]
    assert listed == {"id": campaign.id, "name": "flow", "status": "open", "done": 0, "left": 3}
    first = desk.post("next", campaign=campaign.id)
    assert first["progress"] == {"today": 0, "labels": 0, "left": 3}
    assert first["waiting"] is None
    turn = first["turn"]
    assert turn["dimensions"] == list(DIMENSIONS)
    assert turn["draft"] is None
    assert turn["practice"] is None
    assert desk.post("next", campaign=campaign.id)["turn"]["turn"] == turn["turn"], "an open turn is resumed"

    second = desk.submit(turn["turn"])
    assert second["saved"]["is_new"]
    assert second["feedback"] is None
    assert (second["progress"]["today"], second["progress"]["labels"]) == (1, 1)
    assert second["turn"]["turn"] != turn["turn"]
    third = desk.submit(second["turn"]["turn"], action="skip", choice=None, strength=None, sub_scores={}, reason="unclear")
    last = desk.submit(third["turn"]["turn"], action="flag", choice=None, strength=None, sub_scores={}, reason="broken")
    assert last["turn"] is None
    assert last["waiting"] == "finished"
    lines = desk.get("history", campaign=campaign.id)["turns"]
    assert [line["label"]["action"] for line in lines] == ["flag", "skip", "label"]

    opened = desk.post("open", turn=turn["turn"])["turn"]
    assert opened["label"]["note"] == "the square jumps"
    assert opened["state"] == "labelled"
    desk.submit(turn["turn"], choice="tie", strength=None, edits=opened["label"]["id"])
    assert desk.label_of(running, turn["turn"]).choice == "tie"
    stale = desk.submit(turn["turn"], 409, choice="both_bad", strength=None, edits=opened["label"]["id"])
    assert code_of(stale) == "lease_lost", "the revision that was edited is no longer in force"

    key = secrets.token_hex(16)
    undone = desk.post("undo", campaign=campaign.id, submission=key)
    assert undone["turn"]["state"] == "leased"
    assert undone["turn"]["draft"] is not None
    again = desk.post("undo", campaign=campaign.id, submission=key)
    assert again["turn"]["turn"] == undone["turn"]["turn"], "a retry takes nothing more back"


@pytest.mark.slow
@pytest.mark.parametrize("side", ["left", "right"])
def test_sides_of_the_page_become_the_videos_that_stood_there(running: Running, side: str) -> None:
    campaign = make_campaign(running, f"sides {side}", number=20)
    desk = Desk(running, f"Sid {side}")
    turn, seen = desk.post("next", campaign=campaign.id)["turn"], set()
    other = {"left": "right", "right": "left"}[side]
    while turn is not None:
        scores = {side: dict.fromkeys(DIMENSIONS, "2"), other: dict.fromkeys(DIMENSIONS, "0")}
        played = {side: {"watched": 1.0, "plays": 3}, other: {"watched": 0.25, "plays": 0}}
        marks = [{"side": other, "time": 0.75}]
        answer = desk.submit(turn["turn"], choice=side, sub_scores=scores, playback=played, marks=marks)
        label = desk.label_of(running, turn["turn"])
        with running.studio.database.read() as session:
            chosen = video_by_public_id(session, turn[side]["url"].rpartition("/")[2])
            pair = get_assignment(session, turn["turn"], desk.user.id).pair
        video = "A" if chosen.id == pair.video_a.id else "B"
        rest = {"A": "B", "B": "A"}[video]
        assert label.choice == video
        assert (label.left_video == video) == (side == "left")
        assert set(label.sub_scores[video].values()) == {"2"}
        assert set(label.sub_scores[rest].values()) == {"0"}
        assert label.playback[video]["plays"] == 3
        assert label.playback[rest]["watched"] == 0.25
        assert list(label.marks) == [{"video": rest, "time": 0.75}]
        shown = desk.post("open", turn=turn["turn"])["turn"]["label"]
        assert shown["choice"] == side
        assert shown["sub_scores"] == scores
        assert shown["marks"] == marks
        seen.add(video)
        turn = answer["turn"]
    assert seen == {"A", "B"}, "sides are drawn; with twenty pairs both videos stood on this side once"


def test_draft_is_resumed_elsewhere_exactly_as_it_was(running: Running) -> None:
    campaign = make_campaign(running, "drafts")
    desk = Desk(running, "Dora")
    turn = desk.post("next", campaign=campaign.id)["turn"]
    draft = {
        "choice": "right",
        "strength": "slightly",
        "sub_scores": {"left": {"subject": "1"}, "right": {}},
        "marks": [{"side": "left", "time": 1.25}],
        "note": "not fin",
        "seconds": 4.5,
        "playback": {"left": {"watched": 0.1, "plays": 0, "bins": "1" * 5 + "0" * 45}},
        "submission": "abc",
    }
    desk.post("draft", turn=turn["turn"], draft=draft)
    elsewhere = Desk(running, "Dora")
    assert elsewhere.post("next", campaign=campaign.id)["turn"]["draft"] == draft
    elsewhere.submit(turn["turn"])
    assert code_of(desk.post("draft", 409, turn=turn["turn"], draft=draft)) == "lease_lost"
    assert code_of(desk.post("draft", 422, turn=turn["turn"], draft=["x"])) == "bad_answer"


def test_the_same_submission_is_saved_once(running: Running) -> None:
    campaign = make_campaign(running, "once")
    desk = Desk(running, "Una")
    turn, submission = desk.post("next", campaign=campaign.id)["turn"], secrets.token_hex(16)
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda _: desk.submit(turn["turn"], submission=submission), range(4)))
    assert sorted(one["saved"]["is_new"] for one in answers) == [False, False, False, True]
    assert len({one["turn"]["turn"] for one in answers}) == 1
    assert answers[-1]["progress"]["labels"] == 1
    with running.studio.database.read() as session:
        pair = get_assignment(session, turn["turn"], desk.user.id).pair
        assert len(labels_of_pair(session, campaign.id, pair.id)) == 1
    refused = desk.submit(turn["turn"], 422, submission=submission, choice="right")
    assert code_of(refused) == "bad_answer"


# ---- who may ask -------------------------------------------------------------------------------------------------

POSTS = ("next", "submit", "draft", "undo", "open", "compare")
GETS = ("campaigns", "history", "guidelines")


def test_without_a_sign_in_nothing_is_answered(running: Running) -> None:
    for name in POSTS:
        answer = httpx.post(f"{running.url}/api/label/{name}", json={"campaign": 1, "turn": "x", "submission": "x"})
        assert (answer.status_code, code_of(answer.json())) == (401, "not_signed_in"), name
    for name in GETS:
        answer = httpx.get(f"{running.url}/api/label/{name}?campaign=1")
        assert (answer.status_code, code_of(answer.json())) == (401, "not_signed_in"), name


def test_a_viewer_may_not_label_and_a_lead_may(running: Running) -> None:
    campaign = make_campaign(running, "roles")
    viewer = Desk(running, "Vic", "viewer")
    for name in POSTS:
        assert code_of(viewer.post(name, 403, campaign=campaign.id, turn="x", submission="x")) == "not_allowed"
    for name in GETS:
        assert code_of(viewer.get(name, 403, campaign=campaign.id)) == "not_allowed"
    assert Desk(running, "Lea", "lead").post("next", campaign=campaign.id)["turn"] is not None


def test_anothers_turn_is_out_of_reach(running: Running) -> None:
    campaign = make_campaign(running, "owners")
    owner, other = Desk(running, "Olga"), Desk(running, "Oskar")
    turn = owner.post("next", campaign=campaign.id)["turn"]["turn"]
    refusals = [
        other.submit(turn, 403),
        other.post("draft", 403, turn=turn, draft={}),
        other.post("open", 403, turn=turn),
        other.post("compare", 403, turn=turn),
    ]
    unknown = other.post("open", 403, turn="unknown")
    assert {code_of(one) for one in refusals} == {"not_yours"}
    assert unknown["error"] == refusals[0]["error"], "an unknown turn and another's look the same"
    assert owner.submit(turn)["saved"]["is_new"]


def test_what_another_site_sends_is_refused(running: Running) -> None:
    campaign = make_campaign(running, "sites")
    desk = Desk(running, "Sue")
    address, body = "/api/label/next", {"campaign": campaign.id}
    for headers in ({"Origin": "https://evil.example"}, {"Sec-Fetch-Site": "cross-site"}):
        answer = desk.client.post(address, json=body, headers=headers)
        assert (answer.status_code, code_of(answer.json())) == (403, "cross_site")
    # What a plain form of another site could send without asking: no JSON.
    answer = desk.client.post(address, content=b'{"campaign": 1}', headers={"Content-Type": "text/plain"})
    assert (answer.status_code, code_of(answer.json())) == (415, "bad_request")


BAD_CHANGES: tuple[dict[str, Any], ...] = (
    {"choice": "A"},
    {"choice": "left", "strength": None},
    {"sub_scores": {"left": SCORES["left"]}},
    {"sub_scores": {"A": SCORES["left"], "B": SCORES["left"]}},
    {"sub_scores": {"left": SCORES["left"], "right": dict.fromkeys(DIMENSIONS, "3")}},
    {"marks": [{"side": "left", "time": 99}]},
    {"marks": "many"},
    {"marks": [{"video": "A", "time": 1}]},
    {"seconds": "long"},
    {"playback": {"left": 3}},
    {"action": "withdraw"},
    {"left_video": "A"},
    {"choice": ["left"]},
    {"sub_scores": {"left": {"subject": {}}, "right": {}}},
    {"marks": [{"side": {}, "time": 1}]},
    {"action": []},
    {"strength": {}},
)


def test_bad_answers_are_refused_in_plain_words(running: Running) -> None:
    campaign = make_campaign(running, "bad answers")
    desk = Desk(running, "Bart")
    turn = desk.post("next", campaign=campaign.id)["turn"]["turn"]
    for changes in BAD_CHANGES:
        refused = desk.submit(turn, 422, **changes)
        assert code_of(refused) == "bad_answer", changes
        assert "Traceback" not in refused["error"]["message"], changes
    assert desk.post("next", campaign=campaign.id)["progress"]["labels"] == 0


def test_malformed_requests_get_an_answer(running: Running) -> None:
    desk = Desk(running, "Mal")
    odd = (b"{", b"[]", b'{"campaign": NaN}', b'{"campaign": true}', b'{"campaign": -1}', b"{}", b'{"campaign": "\\u0000"}')
    for content in odd:
        answer = desk.client.post("/api/label/next", content=content, headers={"Content-Type": "application/json"})
        assert (answer.status_code, code_of(answer.json())) == (422, "bad_request"), content
    assert code_of(desk.post("next", 404, campaign=10**6)) == "not_found"
    assert code_of(desk.post("draft", 413, turn="x", draft={"note": "x" * 200_000})) == "bad_request"


# ---- blind and assisted ------------------------------------------------------------------------------------------


def test_a_blind_campaign_tells_nothing_before_the_label_is_saved(running: Running) -> None:
    campaign = make_campaign(running, "blind", number=6, gold={0: Gold("A"), 1: Gold("B")}, gold_share=0.4)
    desk = Desk(running, "Bea")
    turn = desk.post("next", campaign=campaign.id)["turn"]
    assert code_of(desk.post("compare", 403, turn=turn["turn"])) == "not_saved"
    first = turn["turn"]
    while turn is not None:
        desk.post("draft", turn=turn["turn"], draft={"note": "hm"})
        turn = desk.submit(turn["turn"])["turn"]
    desk.get("campaigns")
    desk.get("history", campaign=campaign.id)
    desk.get("guidelines", campaign=campaign.id)
    desk.post("open", turn=first)
    undone = desk.post("undo", campaign=campaign.id, submission=secrets.token_hex(16))["turn"]
    assert code_of(desk.post("compare", 403, turn=undone["turn"])) == "not_saved"
    heard = "\n".join(desk.heard)
    for secret in (*SECRETS, "<think>", '"gold"', '"repeat"', '"work"', '"A"', '"B"', '"model"', '"rewards"'):
        assert secret not in heard, f"an answer contains {secret}"
    # The search itself finds what is there.
    assert "squares that move" in heard


def test_compare_after_saving_shows_the_model_by_the_sides_of_the_page(running: Running) -> None:
    campaign = make_campaign(running, "compared", number=8)
    desk = Desk(running, "Cem")
    turn, seen = desk.post("next", campaign=campaign.id)["turn"], set()
    while turn is not None:
        token = turn["turn"]
        turn = desk.submit(token)["turn"]
        before = desk.turn_of(running, token)
        view = desk.post("compare", turn=token)
        assert before.revealed_at is None
        assert desk.turn_of(running, token).revealed_at is not None
        a, b = ("left", "right") if before.left_video == "A" else ("right", "left")
        seen.add(a)
        model = view["model"]
        assert view["own"]["choice"] == "left"
        assert view["generators"] == {a: GENERATORS[0], b: GENERATORS[1]}
        assert model["thoughts"] == {a: THOUGHTS[0], b: THOUGHTS[1]}
        assert model["sub_scores"] == {a: MODEL_SCORES[0], b: MODEL_SCORES[1]}
        assert model["rewards"][a] == "+731.25 SD"
        assert (model["p_left"] > 0.99) == (a == "left")
        shown_as = {"left": "A", "right": "B"}
        assert model["headline"].startswith(f"{shown_as[a]} preferred")
        assert model["reason"].startswith(shown_as[b])
    assert seen == {"left", "right"}


def test_an_assisted_campaign_opens_what_it_says_and_no_more(running: Running) -> None:
    campaign = make_campaign(running, "assisted", visible=("generators",), dimensions=())
    desk = Desk(running, "Asta")
    turn = desk.post("next", campaign=campaign.id)["turn"]
    assert turn["open"] == ["generators"]
    assert turn["dimensions"] == []
    view = desk.post("compare", turn=turn["turn"])
    assert set(view["generators"].values()) == set(GENERATORS)
    assert view["model"] is None
    desk.submit(turn["turn"], sub_scores={})
    label = desk.label_of(running, turn["turn"])
    assert label.visible == ("generators",)
    assert label.sub_scores == {}
    assert set(desk.post("compare", turn=turn["turn"])["model"]["thoughts"].values()) == set(THOUGHTS)


# ---- qualification, pauses ---------------------------------------------------------------------------------------


def test_practice_pairs_give_feedback_and_decide_who_goes_on(running: Running) -> None:
    gold = {0: Gold("A", None, "B jumps."), 1: Gold("A", {"A": dict.fromkeys(DIMENSIONS, "2"), "B": {}}, "See B.")}
    settings: dict[str, Any] = {"gold": gold, "qualification_pairs": 2, "qualification_pass": 1.0}
    campaign = make_campaign(running, "practice", **settings)
    for name, hits in (("Quentin", True), ("Quirin", False)):
        desk = Desk(running, name)
        turn = desk.post("next", campaign=campaign.id)["turn"]
        for number in (1, 2):
            assert turn["practice"] == {"number": number, "of": 2}
            left = desk.turn_of(running, turn["turn"]).left_video
            right_side, wrong_side = ("left", "right") if left == "A" else ("right", "left")
            answer = desk.submit(turn["turn"], choice=right_side if hits or number == 1 else wrong_side)
            feedback = answer["feedback"]
            assert feedback["gold"]["choice"] == right_side
            assert feedback["right"] == (hits or number == 1)
            assert feedback["gold"]["explanation"] in ("B jumps.", "See B.")
            assert (feedback["number"], feedback["of"]) == (number, 2)
            turn = answer["turn"]
        if hits:
            assert turn is not None
            assert turn["practice"] is None
        else:
            assert turn is None
            assert answer["waiting"] == "not qualified"


def test_why_there_is_no_pair_is_told(running: Running) -> None:
    campaign = make_campaign(running, "pauses")
    desk = Desk(running, "Pia")
    turn = desk.post("next", campaign=campaign.id)["turn"]["turn"]
    database = running.studio.database
    with database.write() as session:
        set_paused(session, campaign.id, desk.user.id, True)
    assert desk.submit(turn)["waiting"] == "paused", "what was begun may be finished"
    with database.write() as session:
        set_paused(session, campaign.id, desk.user.id, False)
        set_status(session, campaign.id, "paused")
    assert desk.post("next", campaign=campaign.id)["waiting"] == "campaign paused"
    with database.write() as session:
        set_status(session, campaign.id, "closed")
    assert desk.post("next", campaign=campaign.id)["waiting"] == "campaign closed"
    assert campaign.id not in {one["id"] for one in desk.get("campaigns")["campaigns"]}
