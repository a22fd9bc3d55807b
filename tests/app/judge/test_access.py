"""Who may judge, and the place in the queue of those who have to wait, against a real app."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import ExitStack

import pytest
from gradio_client import Client
from gradio_client.exceptions import AppError

from app.judge.access import default_access
from app.serving.answer import Answer
from app.serving.cached_judge import stream_answer
from app.serving.judging_queue import AT_ONCE, MOST_OF_NETWORK, Visitor
from app.ui.answer_panel import answer_view
from storage import Database
from storage.pairs import Pair, list_pairs
from tests.helpers.accounts import signed_in_program
from tests.helpers.studios import PROMPTS, Running, running_studio

VOTE = {"choice": "A", "token": "one", "voter": "0" * 32, "note": ""}


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """An app that answers people with an account only."""
    with running_studio(tmp_path_factory.mktemp("lab"), access="sign-in") as app:
        yield app


def pair_of(app: Running, bundled: str) -> Pair:
    """A bundled pair in the store."""
    with app.studio.database.read() as session:
        return next(pair for pair in list_pairs(session, "bundled") if pair.prompt == PROMPTS[bundled])


def test_without_an_account_nothing_is_judged_uploaded_or_voted_where_a_lab_asks_for_one(lab: Running) -> None:
    nobody = Client(lab.url, verbose=False)
    assert len(nobody.predict(api_name="/gallery")) == len(PROMPTS)
    for call in (
        lambda: nobody.predict("red", "quick", 8, api_name="/judge_bundled"),
        lambda: nobody.predict(None, None, "A square.", "quick", 8, api_name="/judge"),
        lambda: nobody.predict(1, *VOTE.values(), api_name="/vote"),
    ):
        with pytest.raises(AppError, match="people with an account only"):
            call()
    assert lab.studio.serving.queue.counts() == (0, 0)


def test_with_an_account_it_is(lab: Running) -> None:
    ada = signed_in_program(lab, "Ada")
    judged = ada.predict("red", "quick", 8, api_name="/judge_bundled")
    assert judged["verdict"] in ("A", "B", "tie")
    assert ada.predict(judged["pair"], *VOTE.values(), api_name="/vote")["is_new"]


def test_a_store_on_a_server_is_a_labs(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    lab = database.engine.dialect.name == "postgresql"
    assert default_access(database) == ("sign-in" if lab else "open")
    monkeypatch.setenv("SPACE_ID", "somebody/space")
    assert default_access(database) == "open"


def test_a_visitor_who_waits_reads_the_place_and_stored_answers_do_not_wait(running: Running) -> None:
    studio, cancel = running.studio, threading.Event()
    parts = studio.serving, studio.database, studio.clip_store
    pair = pair_of(running, "blue")
    with ExitStack() as others:
        places = [
            others.enter_context(studio.serving.queue.enter(Visitor(f"tab {n}", person=1000 + n)))
            for n in range(AT_ONCE + 1)
        ]
        stream = stream_answer(*parts, pair, "think", 0, cancel, Visitor("the last", "192.0.2.1"))
        assert answer_view(next(stream))["status"] == "2nd in the queue"
        studio.serving.queue.leave(places[0])
        shown: Answer = next(stream)
        assert answer_view(shown)["status"].startswith("1st in the queue, about ")
        cancel.set()
        assert [answer.phase for answer in stream] == ["cancelled"]
    assert studio.serving.queue.counts() == (0, 0)
    *_, judged = stream_answer(*parts, pair, "quick", 0, threading.Event(), Visitor("the last"))
    assert judged.phase == "done"
    with ExitStack() as others:
        for n in range(AT_ONCE):
            others.enter_context(studio.serving.queue.enter(Visitor(f"tab {n}", person=1000 + n)))
        (stored,) = stream_answer(*parts, pair, "quick", 0, threading.Event(), Visitor("the last"))
    assert stored.from_store


def test_a_page_that_is_left_while_it_waits_gives_its_place_back(running: Running) -> None:
    studio = running.studio
    with ExitStack() as others:
        for n in range(AT_ONCE):
            others.enter_context(studio.serving.queue.enter(Visitor(f"tab {n}", person=1000 + n)))
        parts = studio.serving, studio.database, studio.clip_store
        stream = stream_answer(*parts, pair_of(running, "blue"), "k", 3, threading.Event(), Visitor("leaves"))
        next(stream)
        assert studio.serving.queue.counts() == (AT_ONCE, 1)
        stream.close()  # type: ignore[attr-defined]
        assert studio.serving.queue.counts() == (AT_ONCE, 0)


def test_one_network_can_not_fill_the_queue(running: Running) -> None:
    queue = running.studio.serving.queue
    with ExitStack() as others:
        for n in range(MOST_OF_NETWORK):
            others.enter_context(queue.enter(Visitor(f"tab {n}", "127.0.0.1")))
        with pytest.raises(AppError, match="from your network wait already"):
            Client(running.url, verbose=False).predict("blue", "k", 3, api_name="/judge_bundled")
    said = json.dumps(Client(running.url, verbose=False).predict("blue", "quick", 3, api_name="/judge_bundled"))
    assert "verdict" in said
