"""Texts that nobody should send, through the page's handlers and the endpoints: refused at once, with the limit."""

from __future__ import annotations

import re
import secrets
from pathlib import Path
from typing import Any

import gradio as gr
import pytest
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError
from sqlalchemy import func, select
from starlette.requests import Request

from app.judge.access import JudgingAccess
from app.judge.api import JudgeApi, Selection
from app.judge.gallery import BundledPair, load_gallery
from app.judge.page import JudgePage
from descore.prompt import PROMPT_CHARACTERS
from storage.schema import PairRow, VideoRow, VoteRow
from tests.helpers.studios import PROMPTS, Running, make_clip, make_gallery

BAD_PROMPTS = [
    ("x" * 20_000, "20,000 characters; at most 4,000"),
    ("x" * 1_000_000, "1,000,000 characters; at most 4,000"),
    ("a\0b", r"U\+0000 at position 2"),
    ("a\x1bb", r"U\+001B at position 2"),
    ("", "empty"),
]
SURROGATE = ("a\ud800", r"U\+D800 at position 2")  # no JSON in UTF-8 carries it, so only handlers can meet it
LIMIT = "characters; at most"
REQUEST = gr.Request(
    Request({"type": "http", "headers": [], "query_string": b"", "client": ("127.0.0.1", 1)}), session_hash="tab"
)


def counts(running: Running) -> tuple[int, ...]:
    with running.studio.database.read() as session:
        return tuple(session.scalar(select(func.count()).select_from(row)) or 0 for row in (VideoRow, PairRow, VoteRow))


@pytest.fixture(scope="module")
def bundled(running: Running, tmp_path_factory: pytest.TempPathFactory) -> tuple[BundledPair, ...]:
    return load_gallery(running.studio.clip_store, make_gallery(tmp_path_factory.mktemp("texts") / "gallery"))


@pytest.fixture
def page(running: Running, bundled: tuple[BundledPair, ...]) -> JudgePage:
    studio = running.studio
    access = JudgingAccess(studio.auth, "open")
    return JudgePage(JudgeApi(studio.serving, studio.database, studio.clip_store, bundled, access))


@pytest.fixture
def api(page: JudgePage) -> JudgeApi:
    return page.api


@pytest.mark.parametrize(("prompt", "message"), BAD_PROMPTS)
def test_the_endpoint_refuses_a_prompt_before_it_looks_at_the_videos(
    client: Client, running: Running, tmp_path: Path, prompt: str, message: str
) -> None:
    clip = make_clip(tmp_path / "new.mp4", (17, len(prompt) % 200, 99))
    before = counts(running)
    with pytest.raises(AppError, match=message):
        client.predict(handle_file(clip), handle_file(clip), prompt, "quick", 8, api_name="/judge")
    assert counts(running) == before


@pytest.mark.parametrize(("prompt", "message"), [*BAD_PROMPTS, SURROGATE])
def test_the_functions_behind_the_endpoints_refuse_it_too(
    api: JudgeApi, running: Running, tmp_path: Path, prompt: str, message: str
) -> None:
    before = counts(running)
    with pytest.raises(gr.Error, match=message):  # no such file: it is never opened
        endpoints = running.studio.endpoints
        endpoints.judge(str(tmp_path / "a.mp4"), str(tmp_path / "b.mp4"), prompt, REQUEST, "quick", 8)
    with pytest.raises(ValueError, match=message):
        api.pair_of(selection(api), prompt, REQUEST)
    assert counts(running) == before


@pytest.mark.parametrize(("prompt", "message"), [*BAD_PROMPTS, SURROGATE])
def test_the_handlers_of_the_page_say_so_and_keep_nothing(
    page: JudgePage, running: Running, prompt: str, message: str
) -> None:
    before, chosen, saved = counts(running), selection(page.api), {"voter": secrets.token_hex(16), "prompt": "old"}
    *_, (view, *_) = page._judge(chosen, prompt, "quick", 8, saved, REQUEST)
    assert re.search(message, view["status"])
    votes, state = page._reword(chosen, prompt, saved, REQUEST)
    assert votes["pair"] is None
    assert "prompt" not in state
    event = gr.EventData(None, {"choice": "A", "token": secrets.token_hex(16), "note": ""})
    assert "not saved" in page.voting.take_vote(chosen, prompt, None, saved, event, REQUEST)["votes"]["status"]
    assert counts(running) == before


@pytest.mark.parametrize(
    ("field", "value"),
    [("token", "x" * 20_000_000), ("note", "x" * 20_000_000), ("note", "x" * 1001), ("token", "\ud800"), ("note", "\0")],
)
def test_a_vote_with_an_endless_text_is_refused(api: JudgeApi, running: Running, field: str, value: str) -> None:
    pair = api.pair_of(selection(api), PROMPTS["red"], REQUEST)
    before = counts(running)
    vote = {"token": secrets.token_hex(16), "voter": secrets.token_hex(16), "note": ""} | {field: value}
    with pytest.raises(gr.Error, match=LIMIT if len(value) > 1 else "position 1"):
        running.studio.endpoints.vote(pair.id, "A", **vote, request=REQUEST)
    assert counts(running) == before


def test_a_long_note_is_refused_through_the_endpoint_with_its_limit(client: Client, api: JudgeApi) -> None:
    pair = api.pair_of(selection(api), PROMPTS["red"], REQUEST)
    with pytest.raises(AppError, match="note of votes has 1,000,000 characters; at most 1,000 are allowed"):
        client.predict(pair.id, "A", secrets.token_hex(16), secrets.token_hex(16), "x" * 1_000_000, api_name="/vote")


@pytest.mark.parametrize(
    "sent",
    [
        None,
        ["no object"],
        {"prompt": "x" * 1_000_000, "a": "x" * 1_000_000, "junk": "x" * 1_000_000, "voter": "me"},
        {"prompt": "a\0", "a": "\ud800", "b": {"no": "text"}, "bundled": ["no text"]},
    ],
)
def test_of_a_browsers_state_only_what_belongs_there_is_kept(page: JudgePage, sent: Any) -> None:
    state = page._restore(sent, REQUEST)["saved"]
    assert set(state) <= {"voter", "a", "b", "prompt", "bundled"}
    assert all(isinstance(value, str) and len(value) <= PROMPT_CHARACTERS for value in state.values())
    assert state["prompt"] == PROMPTS["red"]
    assert len(state["voter"]) == 32


def test_the_box_takes_no_more_than_a_prompt_may_have(running: Running) -> None:
    boxes = [block for block in running.studio.blocks.blocks.values() if getattr(block, "elem_id", None) == "prompt"]
    assert [box.max_length for box in boxes] == [PROMPT_CHARACTERS]


def selection(api: JudgeApi) -> Selection:
    pair = api.bundled["red"]
    return Selection(pair.a.public_id, pair.b.public_id, "red")
