"""Videos, pairs, judgements and votes, as callers use them."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
from sqlalchemy import text

from descore.answer import DIMENSIONS
from storage import Database, NotInStoreError, StorageError
from storage.accounts.users import add_user
from storage.judgements import Question, find_judgement, save_judgement
from storage.maintenance.integrity import check_store
from storage.pairs import add_pair, find_video, get_pair, list_pairs, video_by_public_id
from storage.schema import VideoRow
from storage.video_files import playable_path, store_video, video_path
from storage.votes import all_votes, current_vote, current_votes, save_vote
from tests.helpers.stores import PROMPT, RECORD, make_pair, make_video


def test_a_video_is_stored_once_by_its_content(database: Database) -> None:
    with database.write() as session:
        first = make_video(session, "a")
        again = make_video(session, "a")
        other = make_video(session, "b")
    assert again == first
    assert other.id != first.id
    with database.read() as session:
        assert find_video(session, first.sha256) == first
        assert find_video(session, "0" * 64) is None


def test_the_browser_name_of_a_video_is_opaque_and_leads_back(database: Database) -> None:
    with database.write() as session:
        videos = [make_video(session, f"generator-x-{i}") for i in range(20)]
    ids = {video.public_id for video in videos}
    assert len(ids) == 20
    for video in videos:
        assert re.fullmatch(r"[A-Za-z0-9_-]{20,32}", video.public_id)
        assert video.sha256[:8] not in video.public_id
        with database.read() as session:
            assert video_by_public_id(session, video.public_id) == video
    with database.read() as session, pytest.raises(NotInStoreError):
        video_by_public_id(session, str(videos[0].id))


def test_a_pair_is_stored_once_for_its_videos_order_and_prompt(database: Database) -> None:
    with database.write() as session:
        pair = make_pair(session)
        assert make_pair(session, prompt=f"  {PROMPT}\n") == pair
        swapped = make_pair(session, "b", "a")
        reworded = make_pair(session, prompt="another prompt")
    assert len({pair.id, swapped.id, reworded.id}) == 3
    with database.read() as session:
        assert get_pair(session, pair.id) == pair
        assert list_pairs(session, "test") == (pair, swapped, reworded)
        assert list_pairs(session, "elsewhere") == ()
        with pytest.raises(NotInStoreError, match="no pair 99"):
            get_pair(session, 99)


def test_a_pair_needs_a_prompt(database: Database) -> None:
    with pytest.raises(StorageError, match="prompt"), database.write() as session:
        make_pair(session, prompt="  ")


def test_a_pair_needs_videos_that_are_stored(database: Database) -> None:
    with database.write() as session:
        video = make_video(session, "a")
    with pytest.raises(StorageError, match=r"(?i)foreign key"), database.write() as session:
        add_pair(session, video, replace(video, id=77), PROMPT, "test")


def test_times_are_utc_and_come_back_with_their_zone(database: Database) -> None:
    before = datetime.now(timezone.utc)
    with database.write() as session:
        public_id = make_video(session, "a").public_id
    with database.read() as session:
        created = video_by_public_id(session, public_id).created_at
        in_utc = "AT TIME ZONE 'UTC'" if database.engine.dialect.name == "postgresql" else ""
        raw = session.scalar(text(f"SELECT created_at {in_utc} FROM videos"))
    assert created.tzinfo is timezone.utc
    assert before <= created <= datetime.now(timezone.utc)
    assert str(raw) == created.strftime("%Y-%m-%d %H:%M:%S.%f")


def test_a_moment_of_another_zone_is_kept_and_a_naive_one_refused(database: Database) -> None:
    tokyo = datetime(2026, 1, 1, 8, 0, tzinfo=timezone(timedelta(hours=9)))
    fields = {"file": "f", "original_name": "o", "width": 1, "height": 1, "fps": 1.0, "duration": 1.0}
    with database.write() as session:
        row = VideoRow(public_id="p", sha256="s", created_at=tokyo, **fields)
        session.add(row)
    with database.read() as session:
        stored = session.get(VideoRow, row.id)
        assert stored is not None
        assert stored.created_at == tokyo
        assert stored.created_at.isoformat() == "2025-12-31T23:00:00+00:00"
    with pytest.raises(StorageError, match="time zone"), database.write() as session:
        session.add(VideoRow(public_id="q", sha256="t", created_at=datetime(2026, 1, 1), **fields))


def test_the_same_question_is_answered_from_the_store(database: Database) -> None:
    with database.write() as session:
        question = Question(make_video(session, "a").id, PROMPT, "f1", "think")
        saved = save_judgement(session, question, RECORD)
    with database.read() as session:
        assert find_judgement(session, question) == saved
        assert find_judgement(session, replace(question, prompt=f" {PROMPT} ")) == saved
    assert saved.record == RECORD


def test_another_question_is_not(database: Database) -> None:
    with database.write() as session:
        question = Question(make_video(session, "a").id, PROMPT, "f1", "think")
        other_video = make_video(session, "b").id
        save_judgement(session, question, RECORD)
        sampled = Question(question.video_id, PROMPT, "f1", "k", k=8, seed=0)
        save_judgement(session, sampled, RECORD)
    with database.read() as session:
        for other in (
            replace(question, video_id=other_video),
            replace(question, prompt=PROMPT + "!"),
            replace(question, fingerprint="f2"),
            replace(question, mode="quick"),
            replace(sampled, k=4),
            replace(sampled, seed=1),
        ):
            assert find_judgement(session, other) is None


def test_modes_that_do_not_sample_ignore_k_and_seed() -> None:
    assert Question(1, PROMPT, "f", "think", k=8, seed=3) == Question(1, PROMPT, "f", "think")
    with pytest.raises(StorageError, match="number of its thoughts"):
        Question(1, PROMPT, "f", "k")


def test_a_judged_video_is_known_on_either_side(database: Database) -> None:
    with database.write() as session:
        pair, swapped = make_pair(session, "a", "b"), make_pair(session, "b", "a")
        saved = save_judgement(session, Question(pair.video_a.id, PROMPT, "f1", "think"), RECORD)
    with database.read() as session:
        assert find_judgement(session, Question(swapped.video_b.id, PROMPT, "f1", "think")) == saved


def test_the_first_answer_stays(database: Database) -> None:
    with database.write() as session:
        question = Question(make_video(session, "a").id, PROMPT, "f1", "think")
        first = save_judgement(session, question, RECORD)
        assert save_judgement(session, question, replace(RECORD, reward=3.0)) == first
    with database.read() as session:
        assert find_judgement(session, question) == first


def test_a_judgement_of_k_thoughts_and_one_without_scores_come_back_whole(database: Database) -> None:
    votes_of_k = {name: {"2": 5, "N/A": 3} for name in DIMENSIONS}
    thoughts = [{"text": f"thought {n}", "reward": n / 8, "truncated": False} for n in range(8)]
    sampled = replace(RECORD, reward_spread=0.2, sub_score_votes=votes_of_k, thoughts=thoughts)
    unread = replace(RECORD, sub_scores=None, overall_score=None, parse_note="no JSON")
    unscored = replace(unread, reward=None, standardised_reward=None)
    with database.write() as session:
        video = make_video(session, "a").id
        questions = (Question(video, PROMPT, "f", "k", k=8), Question(video, PROMPT, "f", "think"))
        for question, record in zip(questions, (sampled, unscored), strict=True):
            save_judgement(session, question, record)
    with database.read() as session:
        found = [find_judgement(session, question) for question in questions]
    assert [one.record for one in found if one] == [sampled, unscored]


@pytest.mark.parametrize(
    "change",
    [
        {"reward": float("nan")},
        {"seconds": float("inf")},
        {"sub_scores": {"subject": "2"}},
        {"sub_scores": dict.fromkeys(DIMENSIONS, "3")},
        {"sub_score_votes": {name: {"good": 1} for name in DIMENSIONS}},
        {"thoughts": [{"text": "", "reward": float("nan"), "truncated": False}]},
    ],
)
def test_a_judgement_that_means_nothing_is_refused(change: dict[str, object]) -> None:
    with pytest.raises(StorageError):
        replace(RECORD, **change)  # type: ignore[arg-type]


def test_a_double_submit_saves_once(database: Database) -> None:
    with database.write() as session:
        pair = make_pair(session)
    saved = []
    for _ in range(3):
        with database.write() as session:
            saved.append(save_vote(session, pair_id=pair.id, choice="A", voter="v", token="t", note="sharp"))
    assert [one.is_new for one in saved] == [True, False, False]
    assert len({one.vote.id for one in saved}) == 1
    with database.read() as session:
        assert len(all_votes(session, pair.id)) == 1


def test_a_token_does_not_hide_another_vote(database: Database) -> None:
    with database.write() as session:
        pair, other = make_pair(session), make_pair(session, "c", "d")
        save_vote(session, pair_id=pair.id, choice="A", voter="v", token="t")
    for change in ({"choice": "B"}, {"pair_id": other.id}, {"voter": "w"}, {"note": "but"}):
        with pytest.raises(StorageError, match="sent before, as A"), database.write() as session:
            save_vote(session, **{"pair_id": pair.id, "choice": "A", "voter": "v", "token": "t", **change})


def test_a_changed_mind_replaces_and_keeps_the_former_vote(database: Database) -> None:
    with database.write() as session:
        pair = make_pair(session)
        first = save_vote(session, pair_id=pair.id, choice="A", voter="v", token="1").vote
        second = save_vote(session, pair_id=pair.id, choice="both_bad", voter="v", token="2", note="n").vote
        third = save_vote(session, pair_id=pair.id, choice="tie", voter="v", token="3", left_video="B").vote
        other = save_vote(session, pair_id=pair.id, choice="B", voter="w", token="4").vote
    assert (first.replaces_id, second.replaces_id, third.replaces_id) == (None, first.id, second.id)
    assert other.replaces_id is None
    with database.read() as session:
        assert all_votes(session, pair.id) == (first, second, third, other)
        assert current_votes(session, pair.id) == (third, other)
        assert current_vote(session, pair.id, "v") == third
        assert current_vote(session, pair.id, "nobody") is None
    assert (third.left_video, second.note) == ("B", "n")


def test_an_accounts_vote_replaces_its_earlier_one_from_another_browser(database: Database) -> None:
    with database.write() as session:
        pair, ada = make_pair(session), add_user(session, "Ada", "annotator")
        ben = add_user(session, "Ben", "annotator")
        votes = [
            save_vote(session, pair_id=pair.id, choice=choice, voter=voter, token=token, user_id=user).vote
            for token, choice, voter, user in [
                ("1", "A", "home", None),
                ("2", "B", "home", ada.id),  # she signed in, and changed her mind
                ("3", "tie", "work", ada.id),
                ("4", "A", "work", ben.id),  # at the same machine
                ("5", "B", "work", None),  # a visitor there
                ("6", "A", "home", None),
            ]
        ]
        assert [vote.replaces_id for vote in votes] == [None, votes[0].id, votes[1].id, None, None, None]
        assert [vote.user_name for vote in votes] == [None, "Ada", "Ada", "Ben", None, None]
        assert current_votes(session, pair.id) == tuple(votes[2:])
        assert current_vote(session, pair.id, "elsewhere", ada.id) == votes[2]
        assert current_vote(session, pair.id, "work", ben.id) == votes[3]
        assert current_vote(session, pair.id, "work") == votes[4]
        assert current_vote(session, pair.id, "elsewhere") is None
    assert check_store(database) == ()


@pytest.mark.parametrize("change", [{"choice": "C"}, {"choice": ""}, {"left_video": "left"}, {"voter": ""}, {"token": ""}])
def test_a_vote_that_is_none_is_refused(database: Database, change: dict[str, str]) -> None:
    with database.write() as session:
        pair = make_pair(session)
    with pytest.raises(StorageError), database.write() as session:
        save_vote(session, **{"pair_id": pair.id, "choice": "A", "voter": "v", "token": "t", **change})
    with pytest.raises(NotInStoreError), database.write() as session:
        save_vote(session, pair_id=99, choice="A", voter="v", token="t")


def test_a_video_file_is_copied_once_under_its_hash(database: Database, tmp_path: Path) -> None:
    source = tmp_path / "Generator X.MP4"
    source.write_bytes(b"not really a video" * 1000)
    renamed = tmp_path / "copy.webm"
    renamed.write_bytes(source.read_bytes())
    stored = store_video(source, database.home)
    assert store_video(renamed, database.home) == stored
    assert stored.path.read_bytes() == source.read_bytes()
    assert stored.file == f"{stored.sha256[:2]}/{stored.sha256}.mp4"
    assert video_path(stored.file, database.home) == stored.path.resolve()
    files = [path for path in (database.home / "videos").rglob("*") if path.is_file()]
    assert files == [stored.path]


def test_a_source_that_can_not_be_read_leaves_nothing_behind(database: Database, tmp_path: Path) -> None:
    for source in (tmp_path / "missing.mp4", tmp_path):
        with pytest.raises(StorageError, match="can't store the video"):
            store_video(source, database.home)
    assert not any((database.home / "videos").rglob("*"))


@pytest.mark.parametrize("file", ["../descore.db", "/etc/hostname", "ab/nothing.mp4", ""])
def test_no_name_leads_out_of_the_folder(database: Database, file: str) -> None:
    with pytest.raises(NotInStoreError):
        video_path(file, database.home)


def test_the_browser_copy_has_a_place_of_its_own(database: Database) -> None:
    path = playable_path("ab" * 32, database.home)
    assert path == database.home / "playable" / "ab" / f"{'ab' * 32}.mp4"
    assert path.parent.is_dir()
    with pytest.raises(StorageError):
        playable_path("../../x", database.home)
