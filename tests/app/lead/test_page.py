"""The Lead page's handlers and routes against a real server: who may call them, and what they do."""

from __future__ import annotations

import io
import json
import re
import secrets
import zipfile
from collections.abc import Iterator
from html import unescape
from typing import Any

import httpx
import pytest

from app.lead.uncertainty_order import uncertain_first
from storage.accounts.sessions import sign_in
from storage.accounts.users import find_user
from storage.analysis.reward_margins import margins, pair_ids_of
from storage.campaigns.campaign import Campaign, CampaignConfig, create_campaign, get_campaign, list_campaigns
from storage.campaigns.guidelines import DEFAULT_GUIDELINES, current_guidelines
from storage.campaigns.members import member
from storage.errors import SignInRefusedError
from storage.judgements import Question, save_judgement
from storage.labelling.adjudication import disputed
from storage.labelling.assignments import Assignment
from storage.labelling.campaign_pairs import flagged_pairs
from storage.labelling.gold import gold_choices
from storage.labelling.labels import Answer, labels_of_pair
from storage.labelling.next_assignment import next_assignment
from storage.labelling.submit import submit
from storage.labelling.vote_labels import votes_summary
from storage.pairs import Pair, get_pair
from storage.schema import Choice
from storage.votes import save_vote
from tests.helpers.accounts import person, signed_in_client
from tests.helpers.direct_calls import call, handlers
from tests.helpers.stores import RECORD
from tests.helpers.studios import PROMPTS, Running, running_studio
from tests.helpers.waiting import wait_until

FORM: dict[str, Any] = {
    "name": "Bundled pairs",
    "sources": ["bundled"],
    "dimensions": ["subject", "camera"],
    "visible": [],
    "ordering": "random",
    "overlap": "2",
    "gold_share": "0",
    "repeat_share": "0",
    "lease_minutes": "30",
    "qualification_pairs": "0",
    "qualification_pass": "70",
}


# What a section's buttons and forms would do.
ACTS = {
    "lead-campaigns": ("close", "choose"),
    "lead-annotators": ("pause",),
    "lead-adjudicate": ("look", "decide"),
    "lead-gold": ("gold",),
    "lead-guidelines": ("revise",),
    "lead-new": ("create", "judge"),
    "lead-accounts": ("invite", "deactivate"),
    "lead-import": ("check",),
}


class Desk:
    """One tab of a browser on the Lead page."""

    def __init__(self, running: Running, client: httpx.Client) -> None:
        self.running, self.client, self.session = running, client, secrets.token_hex(8)

    def act(self, section: str, act: str, key: object = "", **fields: Any) -> dict[str, Any]:
        """Press a button or send a form of a section; the panel's value."""
        number = self._number(f"lead-{section}", "act")
        event = {"asked": {"act": act, "id": str(key), **fields}}
        answer = call(self.client, number, [None], event, self.session)
        return dict(answer["output"]["data"][0])

    def open(self, section: str) -> str:
        """Bring a tab to the front; its HTML."""
        answer = call(self.client, self._number(section, "select"), [None], None, self.session)
        return str(answer["output"]["data"][1]["html"])

    def _number(self, name: str, event: str) -> int:
        blocks = self.running.studio.blocks
        for number, function in blocks.fns.items():
            for target, kind in function.targets:
                block = blocks.blocks.get(target) if target is not None else None
                if (
                    function.page == "lead"
                    and kind == event
                    and name in (getattr(block, "elem_id", None), getattr(block, "id", None))
                ):
                    return number
        raise AssertionError(f"{name} has no {event}")


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """An app of its own: other tests make campaigns too."""
    with running_studio(tmp_path_factory.mktemp("lead")) as app:
        yield app


@pytest.fixture
def desk(app: Running) -> Desk:
    return Desk(app, signed_in_client(app, "Mira", "lead"))


def campaign(app: Running, desk: Desk, name: str, **settings: Any) -> Campaign:
    """A campaign over the bundled pairs, chosen at the desk."""
    with app.studio.database.write() as session:
        chosen = CampaignConfig(name, **{"gold_share": 0.0, "repeat_share": 0.0, "overlap": 2, **settings})
        ids = pair_ids_of(session, ["bundled"])
        made = create_campaign(session, chosen, ids, DEFAULT_GUIDELINES, created_by=None)
    desk.act("campaigns", "choose", made.id)
    return made


def pairs_of(app: Running) -> list[Pair]:
    """The bundled pairs."""
    with app.studio.database.read() as session:
        return [get_pair(session, pair_id) for pair_id in pair_ids_of(session, ["bundled"])]


def label(app: Running, made: Campaign, name: str, *choices: Choice | None) -> None:
    """Label the next pairs as somebody; None flags one."""
    annotator = person(app, name)
    scores = {video: dict.fromkeys(made.config.dimensions, "2") for video in ("A", "B")}
    for choice in choices:
        with app.studio.database.write() as session:
            turn = next_assignment(session, made.id, annotator.id)
            assert isinstance(turn, Assignment)
            strength = "clearly" if choice in ("A", "B") else None
            said = Answer(choice=choice, strength=strength, sub_scores=scores if made.config.dimensions else {})  # type: ignore[arg-type]
            said = said if choice else Answer(action="flag", reason="<b>torn</b>")
            submit(session, turn.token, annotator.id, secrets.token_hex(8), said)


# ---- who may --------------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("role", ["nobody", "annotator", "viewer"])
def test_no_handler_tells_or_does_anything_for_others(app: Running, desk: Desk, role: str) -> None:
    """Every handler of the page, called by hand with what would name a campaign, a person or an act."""
    made = campaign(app, desk, f"secret plans {role}")
    label(app, made, "Zoe the annotator", "A")
    zoe = person(app, "Zoe the annotator")
    client = httpx.Client(base_url=app.url) if role == "nobody" else signed_in_client(app, f"other {role}", role)  # type: ignore[arg-type]
    told = ""
    for number, section in handlers(app, "lead").items():
        inputs = [None] * len(app.studio.blocks.fns[number].inputs)
        for act in ACTS.get(section, ("",)):
            event = {"asked": {**FORM, "act": act, "id": str(zoe.id if act == "deactivate" else made.id), "role": "lead"}}
            told += json.dumps(call(client, number, inputs, event)["output"])
    assert "Zoe" not in told
    assert "one-time" not in told
    assert role == "viewer" or "secret plans" not in told
    with app.studio.database.read() as session:
        assert get_campaign(session, made.id).status == "open"
        assert len(list_campaigns(session)) == len({one.config.name for one in list_campaigns(session)})
        assert "Bundled pairs" not in {one.config.name for one in list_campaigns(session)}
        found = find_user(session, "Zoe the annotator")
        assert found is not None
        assert found.active
        assert found.role == "annotator"


@pytest.mark.slow
def test_a_viewer_sees_progress_and_agreement_and_nothing_to_press(app: Running, desk: Desk) -> None:
    made = campaign(app, desk, "for viewers")
    label(app, made, "Ada", "A", "A")
    label(app, made, "Ben", "A", "B")
    viewer = Desk(app, signed_in_client(app, "Vic", "viewer"))
    shown = viewer.act("campaigns", "choose", made.id)
    assert "for viewers" in shown["html"]
    assert "Pause" not in shown["html"]
    assert "2 of 2" in viewer.open("progress")
    assert "overall choice" in viewer.open("agreement")
    assert "This is for a lead" in viewer.open("annotators")
    assert "This is for a lead" in viewer.open("accounts")
    refused = viewer.act("campaigns", "pause", made.id)
    assert refused["bad"]
    assert "This is for a lead" in refused["status"]


def test_handlers_are_no_public_endpoints_and_the_page_itself_says_nothing(app: Running) -> None:
    assert not [one for one in app.studio.blocks.fns.values() if one.page == "lead" and one.api_visibility != "private"]
    page = httpx.get(f"{app.url}/lead").text
    assert "Zoe" not in page
    assert "secret plans" not in page


# ---- what it does ---------------------------------------------------------------------------------------------------


def test_create_from_bundled_pairs_with_gold_and_qualification(app: Running, desk: Desk) -> None:
    with app.studio.database.read() as session:
        first, second = pair_ids_of(session, ["bundled"])
    form = desk.open("new")
    assert "bundled (2 pairs)" in form
    assert all(prompt in form for prompt in PROMPTS.values())
    refused = desk.act("new", "create", **FORM | {"name": "With a test", "qualification_pairs": "1"})
    assert refused["bad"]
    assert "qualification needs gold" in refused["status"]
    assert refused["html"] is None
    refused = desk.act("new", "create", **FORM | {"name": "With a test", "overlap": "many"})
    assert refused["bad"]
    assert "Enter a number for overlap" in refused["status"]
    gold = {"qualification_pairs": "1", f"gold-{second}": "B", f"why-{second}": "A is <red>"}
    done = desk.act("new", "create", **FORM | {"name": "With a test"} | gold)
    assert not done["bad"]
    assert "With a test is open" in done["status"]
    with app.studio.database.read() as session:
        made = next(one for one in list_campaigns(session) if one.config.name == "With a test")
        (one,) = gold_choices(session, made.id, "gold")
    assert made.config.dimensions == ("subject", "camera")
    assert made.config.lease_seconds == 1800
    assert one.pair.id == second
    assert one.gold is not None
    assert one.gold.explanation == "A is <red>"
    assert "With a test" in desk.open("progress") or "subject, camera" in desk.open("progress")
    again = desk.act("new", "create", **FORM | {"name": "With a test"})
    assert again["bad"]
    assert "already" in again["status"]
    assert first != second


@pytest.mark.slow
def test_missing_judgements_are_made_and_order_the_queue(app: Running, desk: Desk) -> None:
    first = next(pair for pair in pairs_of(app) if "red" in pair.prompt)
    with app.studio.database.write() as session:  # the other one is asked of the model itself
        for video in (first.video_a, first.video_b):
            question = Question(video.id, first.prompt, app.studio.served.fingerprint, "think")
            save_judgement(session, question, RECORD)
    done = desk.act("new", "judge", **FORM | {"name": "judged"})
    assert done["status"] == "1 pair judged."
    assert "2 of these pairs have a reward" in done["html"]
    assert 'value="judged"' in done["html"]  # what was typed stays
    with app.studio.database.read() as session:
        by_pair = margins(session, app.studio.served.fingerprint)
    assert len(by_pair) == 2
    for ordering in ("uncertain", "disagreement"):
        done = desk.act("new", "create", **FORM | {"name": f"by {ordering}", "ordering": ordering})
        assert not done["bad"], done
    cleo = person(app, "Cleo").id
    with app.studio.database.write() as session:
        made = next(one for one in list_campaigns(session) if one.config.name == "by uncertain")
        turn = next_assignment(session, made.id, cleo)
    scale = app.studio.served.scale("think")
    scores = uncertain_first(by_pair, 0.0 if scale is None else scale.tie_threshold)
    assert by_pair[first.id] == 0
    assert isinstance(turn, Assignment)
    assert turn.pair.id == min(scores, key=lambda one: scores[one])
    assert not desk.act("campaigns", "choose", made.id)["bad"]
    done = desk.act("progress", "sort", made.id)
    assert not done["bad"]
    assert done["status"] == f"Sorted by {app.studio.served.name}, 2 pairs."


def test_pause_close_and_open_again(app: Running, desk: Desk) -> None:
    made = campaign(app, desk, "stop and go")
    for act, status in (("pause", "paused"), ("open", "open"), ("close", "closed")):
        assert not desk.act("campaigns", act, made.id)["bad"]
        with app.studio.database.read() as session:
            assert get_campaign(session, made.id).status == status
    assert desk.act("campaigns", "choose", 10**9)["bad"]
    assert desk.act("campaigns", "pause", "x")["bad"]


def test_annotators_are_measured_and_paused(app: Running, desk: Desk) -> None:
    made = campaign(app, desk, "with <people>", dimensions=())
    label(app, made, "Ada", "A", "A")
    label(app, made, "Ben <i>", "A", "B")
    shown = desk.open("annotators")
    assert "Ben &lt;i&gt;" in shown
    assert "<b>50" in shown
    assert "of 2</small>" in shown
    ada = person(app, "Ada")
    assert "paused" in desk.act("annotators", "pause", ada.id)["html"]
    with app.studio.database.read() as session:
        found = member(session, made.id, ada.id)
        assert found is not None
        assert found.paused
    assert "did not fail" in desk.act("annotators", "readmit", ada.id)["status"]


def test_disputed_pair_is_decided_and_flagged_one_dropped(app: Running, desk: Desk) -> None:
    made = campaign(app, desk, "differing", dimensions=("subject", "camera"))
    label(app, made, "Ada", "A", None)
    label(app, made, "Ben", "B")
    shown = desk.open("adjudicate")
    assert "1 pair in disagreement" in shown
    assert "&lt;b&gt;torn" in shown
    assert "Ada" in shown
    with app.studio.database.read() as session:
        (one,) = disputed(session, made.id)
        (flagged,) = flagged_pairs(session, made.id)
    form: dict[str, Any] = {"choice": "B", "strength": "slightly", "note": "B is sharper", "submission": "form-1"}
    refused = desk.act("adjudicate", "decide", one.pair.id, **form)
    assert refused["bad"]
    assert "subject, camera" in refused["status"]
    form |= {f"score-{side}-{name}": "1" for side in ("A", "B") for name in ("subject", "camera")}
    for _ in range(2):
        assert desk.act("adjudicate", "decide", one.pair.id, **form)["status"] == "Decision saved."
    with app.studio.database.read() as session:
        assert disputed(session, made.id) == ()
        decision = labels_of_pair(session, made.id, one.pair.id)[-1]
    assert (decision.kind, decision.choice, decision.note) == ("adjudication", "B", "B is sharper")
    assert decision.annotator_id == person(app, "Mira", "lead").id
    assert desk.act("adjudicate", "drop", flagged.pair.id)["status"] == "Dropped."
    assert "somebody decided" in desk.act("adjudicate", "put-back", flagged.pair.id)["status"]


def test_unanimous_pair_becomes_gold_with_one_click(app: Running, desk: Desk) -> None:
    made = campaign(app, desk, "golden", dimensions=())
    label(app, made, "Ada", "A", "A")
    label(app, made, "Ben", "A", "B")
    assert "No gold pairs yet" in desk.open("gold")
    shown = desk.act("gold", "filter", kind="unanimous")["html"]
    with app.studio.database.read() as session:
        (one,) = gold_choices(session, made.id, "unanimous")
    assert one.pair.prompt in shown
    assert "2 A" in shown
    saved = desk.act("gold", "gold", one.pair.id, choice="A", explanation="all agreed", list="unanimous 0")
    assert saved["status"] == "Saved."
    assert one.pair.prompt not in saved["html"]
    assert one.pair.prompt in desk.act("gold", "filter", kind="gold")["html"]
    assert desk.act("gold", "filter", kind="../x")["bad"]


def test_guidelines_get_a_new_version(app: Running, desk: Desk) -> None:
    made = campaign(app, desk, "guided", dimensions=("camera",))
    assert "A steady zoom" in desk.open("guidelines") or "camera" in desk.open("guidelines")
    text = {"intro": "Look <twice>.", "definition-camera": "How it moves.", "example-camera": ""}
    saved = desk.act("guidelines", "revise", **text)
    assert saved["status"] == "Saved as version 2."
    assert "Look &lt;twice&gt;." in saved["html"]
    assert "Mira" in saved["html"]
    assert "no new version" in desk.act("guidelines", "revise", **text)["status"]
    assert "How it moves." not in desk.act("guidelines", "version", 1)["html"]
    with app.studio.database.read() as session:
        assert current_guidelines(session, made.id)[1].dimensions["camera"].definition == "How it moves."


def test_a_campaign_that_asks_for_gold_pairs_and_has_none_says_so(app: Running, desk: Desk) -> None:
    made = desk.act("new", "create", **(FORM | {"name": "No gold", "gold_share": "5"}))
    assert "gold pairs and has none" in made["status"]
    row = desk.act("campaigns", "choose", made_campaign(app, "No gold").id)["html"]
    assert row.count("gold pairs and has none") == 1
    assert "has none" not in desk.act("new", "create", **(FORM | {"name": "No checks"}))["status"]
    desk.act("campaigns", "close", made_campaign(app, "No gold").id)


def made_campaign(app: Running, name: str) -> Campaign:
    with app.studio.database.read() as session:
        return next(entry for entry in list_campaigns(session) if entry.config.name == name)


def test_votes_of_the_judge_page_count_once_a_lead_says_so(app: Running, desk: Desk) -> None:
    pair = pairs_of(app)[0]
    with app.studio.database.write() as session:
        save_vote(session, pair_id=pair.id, choice="A", voter="ab" * 16, token="lead page")
        votes = votes_summary(session)
        assert votes is not None
    listed = desk.act("campaigns", "leave-votes", votes.campaign.id)["html"]
    assert "1 vote on 1 pair, by 1 visitor." in listed
    assert "not counted" in listed
    assert "visitor " not in desk.open("accounts")
    assert f'value="campaign:{votes.campaign.id}"' in desk.open("export")
    assert "Leave them out" in desk.act("campaigns", "count-votes", votes.campaign.id)["html"]
    with app.studio.database.read() as session:
        assert get_campaign(session, votes.campaign.id).counted
    desk.act("campaigns", "leave-votes", votes.campaign.id)


def test_invitation_is_shown_once_and_works(app: Running, desk: Desk) -> None:
    desk.open("accounts")
    made = desk.act("accounts", "invite", role="annotator", days="30")["html"]
    path = made.split('data-path="')[1].split('"')[0]
    assert path.startswith("invite/")
    assert httpx.get(f"{app.url}/{path}").status_code == 200
    assert "invite/" not in desk.open("accounts")
    assert desk.act("accounts", "invite", role="owner", days="7")["bad"]
    assert desk.act("accounts", "invite", role="viewer", days="900")["bad"]
    listed = desk.open("accounts")
    assert "One-time links" in listed
    revoke = re.search(r'data-act="revoke" data-id="(\d+)"', listed)
    assert revoke is not None
    assert "revoked" in desk.act("accounts", "revoke", revoke.group(1))["status"]
    assert httpx.get(f"{app.url}/{path}").status_code == 410
    assert "ended already" in desk.act("accounts", "revoke", revoke.group(1))["status"]
    ada = person(app, "Ada")
    assert "new password" in desk.act("accounts", "password", ada.id)["html"]
    desk.act("accounts", "role", ada.id, role="viewer")
    desk.act("accounts", "deactivate", ada.id)
    with app.studio.database.read() as session:
        found = find_user(session, "Ada")
        assert found is not None
        assert not found.active
        assert found.role == "viewer"
    assert not desk.act("accounts", "activate", ada.id)["bad"]
    desk.act("accounts", "role", ada.id, role="annotator")
    me = person(app, "Mira", "lead")
    assert "Ask another lead" in desk.act("accounts", "deactivate", me.id)["status"]


def test_a_lead_sees_that_a_password_is_guessed_at_from_many_addresses(app: Running, desk: Desk) -> None:
    ada = person(app, "Ada")
    for number in range(1, 4):
        with pytest.raises(SignInRefusedError):
            sign_in(app.studio.database, ada.name, "a wrong guess", f"198.51.100.{number}")
    assert "3 failed sign-ins for <b>Ada</b> from 3 addresses in the last day" in desk.open("accounts")


# ---- files ----------------------------------------------------------------------------------------------------------


def test_export_is_for_leads_and_imports_again(app: Running, desk: Desk) -> None:
    made = campaign(app, desk, "to take away", dimensions=())
    label(app, made, "Ada", "A", "B")
    address = "/api/lead/export"
    chosen = {"what": f"campaign:{made.id}", "format": "csv", "labels": "raw", "videos": "yes"}
    for client in (httpx.Client(base_url=app.url), signed_in_client(app, "Ada"), signed_in_client(app, "Vic", "viewer")):
        answer = client.get(address, params=chosen)
        assert answer.status_code in (401, 403)
        assert "Traceback" not in answer.text
    answer = desk.client.get(address, params=chosen)
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/zip"
    assert answer.headers["cache-control"] == "no-store"
    names = zipfile.ZipFile(io.BytesIO(answer.content)).namelist()
    assert any(name.endswith(".csv") for name in names)
    assert sum(name.endswith(".mp4") for name in names) == 4
    outgoing = app.studio.database.home / "outgoing"
    wait_until(lambda: not any(outgoing.iterdir()), "the removal of the files, after the last byte was sent,")
    assert desk.client.get(address, params=chosen | {"format": "exe"}).status_code == 422
    assert desk.client.get(address, params=chosen | {"what": "source:no such"}).status_code == 422
    folder = app.studio.database.home / "imports" / "given back"
    folder.mkdir(parents=True)
    zipfile.ZipFile(io.BytesIO(answer.content)).extractall(folder)
    assert "imports/given back" in desk.open("import")
    form = {"place": "folder:given back", "source": "given back", "format": ""}
    plan = desk.act("import", "check", **form)
    assert "0 <small>new, 2 known" in plan["html"], plan
    assert desk.act("import", "check", **form | {"place": "folder:../.."})["bad"]


def test_columns_of_an_import_are_chosen_on_the_page(app: Running, desk: Desk) -> None:
    folder = app.studio.database.home / "imports" / "votes of others"
    folder.mkdir(parents=True)
    clips = sorted((app.studio.database.home / "videos").glob("*/*.mp4"))[:2]
    for name, clip in zip(("one.mp4", "two.mp4"), clips, strict=True):
        (folder / name).write_bytes(clip.read_bytes())
    (folder / "votes.csv").write_text("title,first,second,winner,seed\nChosen columns,one.mp4,two.mp4,1,7\n")
    form = {"place": "folder:votes of others", "source": "others", "format": ""}
    desk.open("import")
    shown = desk.act("import", "check", **form)["html"]
    assert "lacks the columns video_a, video_b, prompt" in shown
    assert 'data-act="import"' not in shown
    columns = fields_of(shown)
    assert columns["columns_of"] == form["place"]
    assert all(
        f'<select name="column_{role}"><option value="" selected' in shown for role in ("video_a", "video_b", "prompt")
    )
    assert '<option value="winner" selected>winner</option>' in shown
    columns |= {"column_video_a": "first", "column_video_b": "second", "column_prompt": "title", "column_label": "winner"}
    shown = desk.act("import", "check", **form, **columns)["html"]
    assert "winner is &#39;1&#39;" in shown
    assert fields_of(shown)["columns_found"] == columns["columns_found"]
    assert "as WORD=A, WORD=B" in desk.act("import", "check", **form, **columns | {"words": "1=first"})["status"]
    columns["words"] = "1=A, 2=B"
    for act in ("check", "import"):
        shown = desk.act("import", act, **form, **columns)["html"]
        assert "Columns: video A from first, video B from second, prompt from title, label from winner." in shown
        assert "Columns that are not used, and kept with the pairs: seed." in shown
    with app.studio.database.read() as session:
        (pair,) = (get_pair(session, number) for number in pair_ids_of(session, ["others"]))
    assert pair.prompt == "Chosen columns"
    # The choice belongs to its file alone.
    other = desk.act("import", "check", **form | {"place": "folder:nowhere"}, **columns)
    assert other["bad"]
    assert "nowhere" in other["status"]


def fields_of(html: str) -> dict[str, str]:
    """The hidden fields of a form, and its choices as they are selected."""
    hidden = re.findall(r'<input type="hidden" name="([^"]+)" value="([^"]*)">', html)
    selects = re.findall(r'<select name="(column_[^"]+)">.*?<option value="([^"]*)" selected>', html)
    return {name: unescape(value) for name, value in (*hidden, *selects)}


def test_import_shows_problems_by_line_then_takes_in_all(app: Running, desk: Desk) -> None:
    folder = app.studio.database.home / "imports" / "new pairs"
    folder.mkdir(parents=True)
    clips = sorted((app.studio.database.home / "videos").glob("*/*.mp4"))[:2]
    for name, clip in zip(("one.mp4", "two.mp4"), clips, strict=True):
        (folder / name).write_bytes(clip.read_bytes())
    (folder / "pairs.csv").write_text("video_a,video_b,prompt\none.mp4,two.mp4,A new prompt\none.mp4,gone.mp4,Another\n")
    form = {"place": "folder:new pairs", "source": "fresh", "format": ""}
    desk.open("import")
    plan = desk.act("import", "check", **form)
    assert "line 3" in plan["html"]
    assert "gone.mp4" in plan["html"]
    assert 'data-act="import"' not in plan["html"]
    refused = desk.act("import", "import", **form)
    assert refused["status"] == "Nothing was imported."
    assert "line 3" in refused["html"]
    (folder / "pairs.csv").write_text("video_a,video_b,prompt\none.mp4,two.mp4,A new prompt\n")
    assert 'data-act="import"' in desk.act("import", "check", **form)["html"]
    done = desk.act("import", "import", **form)
    assert done["status"] == "Imported."
    assert "1 pairs" in done["html"]
    assert "in the store already" in desk.act("import", "check", **form)["html"]
    with app.studio.database.read() as session:
        assert len(pair_ids_of(session, ["fresh"])) == 1
