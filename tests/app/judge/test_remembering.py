"""What the Judge page comes back to after a reload, and videos of one's own as they come, are replaced and swapped."""

from __future__ import annotations

import secrets
from pathlib import Path

import pytest

from app.judge.page import JudgePage
from storage.pairs import list_pairs
from storage.votes import current_vote
from tests.helpers.judge_tab import Tab, event, request, uploaded
from tests.helpers.studios import PROMPTS, Running, make_clip


@pytest.fixture
def page(running: Running) -> JudgePage:
    return JudgePage(running.studio.endpoints._api)


@pytest.fixture
def clips(tmp_path: Path) -> tuple[Path, Path]:
    shade = secrets.randbelow(200)
    colours = {"a": (250, shade, 40), "b": (40, shade, 250)}
    a, b = (make_clip(tmp_path / f"{name}.mp4", colour, seconds=0.5) for name, colour in colours.items())
    return a, b


def test_a_reload_shows_the_verdict_again(page: JudgePage, clips: tuple[Path, Path]) -> None:
    tab = Tab(page)
    tab.bring(*clips)
    tab.judge("quick")
    again = Tab(page, tab.saved)
    assert (again.panel["phase"], again.panel["source"], again.panel["p"]) == ("done", "store", tab.panel["p"])
    assert (again.mode, again.text, again.own["open"]) == ("quick", tab.text, True)
    assert again.answered.mode == "quick"


def test_the_way_of_asking_is_kept_and_only_as_far_as_it_exists(page: JudgePage) -> None:
    tab = Tab(page)
    _, saved = page._keep_mode("k", 5, tab.saved)
    again = Tab(page, saved)
    assert (again.mode, again.shown["k"].value, again.shown["k"].visible) == ("k", 5, True)
    for mode, k in (("loud", 5), (None, 0), ("k", 10**9)):
        _, saved = page._keep_mode(mode, k, tab.saved)
        assert "k" not in saved or saved["k"] == 5
        assert saved.get("mode") in (None, "k")


def test_videos_come_one_after_the_other_and_never_with_another_pairs_prompt(
    page: JudgePage, clips: tuple[Path, Path]
) -> None:
    tab = Tab(page)
    assert tab.text == PROMPTS["red"]
    tab.show(page._begin_own(tab.saved, event(turn=1), request()))
    assert (tab.text, tab.strip["selected"], tab.strip["own"]) == ("", None, True)
    tab.take(a={"path": uploaded(clips[0])})
    assert tab.selection is None
    assert (tab.player["a"] is not None, tab.player["b"]) == (True, None)
    assert Tab(page, tab.saved).own["a"] == tab.own["a"], "a reload keeps the first one"
    tab.take(a={"id": tab.own["a"]["id"]}, b={"path": uploaded(clips[1])})
    assert tab.selection is not None
    assert tab.text == ""


def test_one_video_is_replaced_and_a_bad_file_leaves_the_old_one(
    page: JudgePage, clips: tuple[Path, Path], tmp_path: Path
) -> None:
    tab = Tab(page)
    tab.bring(*clips)
    tab.judge("quick")
    old = tab.selection
    bad = tmp_path / "bad.mp4"
    bad.write_bytes(clips[0].read_bytes()[:300])
    tab.take(a={"id": old.a}, b={"id": old.b, "path": uploaded(bad)})
    assert tab.selection == old
    assert "Video B can't be used" in tab.own["errors"]["b"]
    other = make_clip(tmp_path / "other.mp4", (9, secrets.randbelow(200), 99), seconds=0.5)
    tab.take(a={"id": old.a}, b={"id": old.b, "path": uploaded(other)})
    assert tab.selection.a == old.a
    assert tab.selection.b != old.b
    assert (tab.panel["phase"], tab.own["errors"]) == ("idle", {})


@pytest.mark.parametrize("side", [{"path": "/etc/passwd"}, {"path": 7}, {"id": "nowhere"}, {"id": None}, {}, None])
def test_what_is_no_upload_is_refused_and_the_browser_gets_an_answer(page: JudgePage, side: dict[str, str] | None) -> None:
    tab = Tab(page)
    tab.take(a=side, b=None)
    assert (tab.selection, tab.own["a"], tab.own["turn"]) == (None, None, 2)
    assert bool(tab.own["errors"]) == bool(side)


def test_swapped_sides_have_the_same_judgements_and_are_no_bundled_pair(running: Running, page: JudgePage) -> None:
    tab = Tab(page, query="pair=blue")
    tab.judge("quick")
    before = tab.selection
    tab.show(page._swap(before, tab.text, tab.saved, request()))
    assert (tab.selection.a, tab.selection.b) == (before.b, before.a)
    assert tab.panel["phase"] == "done"
    assert tab.share["state"] == "none", "the link opens the pair as it is in the gallery"
    assert Tab(page, tab.saved).selection == tab.selection
    with running.studio.database.read() as session:
        assert len(list_pairs(session, "bundled")) == len(PROMPTS)
    tab.show(page._swap(tab.selection, tab.text, tab.saved, request()))
    assert (tab.selection, tab.share["state"]) == (before, "link")


def test_history_opens_a_pair_with_the_answer_that_it_is_about(page: JudgePage, clips: tuple[Path, Path]) -> None:
    tab = Tab(page)
    tab.bring(*clips)
    tab.judge("quick")
    entry = tab.history["entry"]
    assert (entry["prompt"], entry["mode"], entry["verdict"]) == (tab.text, "quick", tab.panel["verdict"])
    other = Tab(page, query="pair=blue")
    other.show(page._reopen(other.saved, event(**entry), request()))
    assert (other.panel["p"], other.selection, other.mode) == (tab.panel["p"], tab.selection, "quick")


def test_the_answer_waits_for_the_vote_where_somebody_wants_to_vote_first(
    running: Running, page: JudgePage, clips: tuple[Path, Path]
) -> None:
    tab = Tab(page)
    tab.bring(*clips)
    asked = (True, tab.selection, tab.text, tab.answered, tab.saved, request())
    tab.show(page.voting.keep_vote_first(*asked))
    answers = page._judge(tab.selection, tab.text, "think", 8, tab.saved, request())
    *seen, (panel, _, _, _, answered) = answers
    assert all(side["thought"] == "" for view, *_ in seen for side in view["sides"]), "a thought was shown before the vote"
    assert (panel["phase"], panel["p"], panel["whole"], panel["verdict"]) == ("done", None, None, None)
    assert (answered.covered, answered.seen) == (True, "nothing")
    reloaded = Tab(page, tab.saved)
    assert (reloaded.panel["p"], reloaded.shown["vote_first"]) == (None, True)
    cast = event(choice="A", token=secrets.token_hex(16), note="")
    reloaded.show(
        page.voting.take_vote(reloaded.selection, reloaded.text, reloaded.answered, reloaded.saved, cast, request())
    )
    assert reloaded.panel["p"] is not None
    assert not reloaded.answered.covered
    with running.studio.database.read() as session:
        pair = page.api.pair_of(reloaded.selection, reloaded.text, request())
        vote = current_vote(session, pair.id, reloaded.saved["voter"])
    assert vote is not None
    assert vote.shown == "nothing"
    assert Tab(page, reloaded.saved).panel["p"] is not None, "there is a vote now"
