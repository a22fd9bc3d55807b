"""Files into the store: all or nothing, never twice, and whatever is there stays."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import func, select

from descore.answer import DIMENSIONS, render_answer
from storage.accounts.users import add_user, list_users
from storage.campaigns.campaign import list_campaigns
from storage.exchange.exporting.export import export
from storage.exchange.formats.detect import read_file
from storage.exchange.importing.insert import imports, insert_import
from storage.exchange.parsed import ExchangeError, ImportRefusedError, Problem
from storage.labelling.consensus import consensus
from storage.labelling.labels import current_labels, revisions
from storage.labelling.totals import agreement_patterns
from storage.maintenance.integrity import check_store
from storage.pairs import Pair, list_pairs
from storage.schema import AssignmentRow, CampaignRow, ImportRow, JudgementRow, LabelRow, PairRow, UserRow, VideoRow
from tests.helpers.exchange_world import VIDEOALIGN, arrive, bring, lively_store, make_files, videoalign_file, write_csv

if TYPE_CHECKING:
    from storage import Database

TABLES = (AssignmentRow, CampaignRow, ImportRow, JudgementRow, LabelRow, PairRow, UserRow, VideoRow)


def rows(database: Database) -> dict[str, int]:
    """How many rows each table has."""
    with database.read() as session:
        return {table.__tablename__: session.scalar(select(func.count()).select_from(table)) or 0 for table in TABLES}


def pairs(database: Database, source: str = "test") -> tuple[Pair, ...]:
    """The pairs of a source."""
    with database.read() as session:
        return list_pairs(session, source)


def table(folder: Path, *labels: tuple[str, str], name: str = "pairs.csv") -> Path:
    """A plain table about one pair: labels by annotators."""
    make_files(folder, ["a.mp4", "b.mp4"])
    found = [("a.mp4", "b.mp4", "p", label, annotator) for label, annotator in labels]
    return write_csv(folder / name, ("video_a", "video_b", "prompt", "label", "annotator"), found)


def test_pairs_labels_and_all_that_a_file_says_come_in(database: Database, tmp_path: Path) -> None:
    taken = bring(database, videoalign_file(tmp_path, pairs=6), source="winter models")
    assert (taken.pairs, taken.labels, taken.videos, taken.notes) == (6, 6, 12, ())
    first = pairs(database, "winter models")[0]
    assert (first.generator_a, first.generator_b, dict(first.extra_columns)) == ("sora", "kling", {"VQ": "A", "MQ": "same"})
    assert first.video_a.original_name == "0a.mp4"
    with database.read() as session:
        (campaign,) = list_campaigns(session, "import")
        labels = list(current_labels(session, campaign.id))
        (person,) = list_users(session)
        (record,) = imports(session)
        choices = [one.choice for one in consensus(session)]
    assert (campaign.config.name, campaign.status, campaign.config.dimensions) == (
        "imported: winter models",
        "closed",
        (),
    )
    assert [label.choice for label in labels] == ["A", "B", "tie"] * 2 == choices
    assert {(label.kind, label.left_video, label.visible) for label in labels} == {("import", "A", ())}
    assert (person.name, person.role, person.can_sign_in) == ("imported: winter models", "annotator", False)
    assert (record.format, record.pairs_added, record.labels_added) == ("videoalign", 6, 6)
    assert check_store(database) == ()


def test_a_second_time_adds_nothing_and_what_is_new_is_added(database: Database, tmp_path: Path) -> None:
    bring(database, videoalign_file(tmp_path, pairs=3))
    before = rows(database)
    again = bring(database, tmp_path / "pairs.csv")
    assert (again.pairs, again.labels, again.videos, again.notes) == (0, 0, 0, ())
    assert rows(database) == before
    more = bring(database, videoalign_file(tmp_path, pairs=5))
    assert (more.pairs, more.labels, more.videos) == (2, 2, 4)
    assert rows(database)["campaigns"] == 1
    assert check_store(database) == ()


def test_an_import_that_is_stopped_leaves_nothing(database: Database, tmp_path: Path) -> None:
    path = videoalign_file(tmp_path)
    resolved, videos = arrive(database, read_file(path)[1], "videoalign", "test")
    empty = rows(database)

    def stopped() -> None:
        with database.write() as session:
            assert insert_import(session, resolved, videos, created_by=None).labels == 3
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stopped()
    assert rows(database) == empty
    assert bring(database, path).labels == 3


def test_one_bad_row_keeps_everything_out(database: Database, tmp_path: Path) -> None:
    path = videoalign_file(tmp_path)
    path.write_text(path.read_text("utf-8") + "0a.mp4,1b.mp4,,,p,,,better\n", "utf-8")
    with pytest.raises(ImportRefusedError) as refused:
        bring(database, path)
    assert refused.value.problems == (Problem("pairs.csv", 8, "TA is 'better'; expected A, B, same"),)
    assert set(rows(database).values()) == {0}


def test_two_imports_of_one_file_at_once_add_it_once(database: Database, tmp_path: Path) -> None:
    path = videoalign_file(tmp_path, pairs=30)
    start, taken, errors = threading.Barrier(4), [], []

    def run() -> None:
        try:
            start.wait()
            taken.append(bring(database, path))
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=run) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert sorted(one.labels for one in taken) == [0, 0, 0, 30]
    assert sum(one.pairs for one in taken) == 30
    assert rows(database) == rows(database) | {"pairs": 30, "videos": 60, "labels": 30, "campaigns": 1, "imports": 1}
    assert check_store(database) == ()


@pytest.mark.slow
def test_everybody_named_gets_an_account_that_nobody_can_use_yet(database: Database, tmp_path: Path) -> None:
    with database.write() as session:
        add_user(session, "Anna", "lead")
    bring(database, table(tmp_path, ("A", "anna"), ("A", "Björn"), ("both_bad", "")))
    with database.read() as session:
        people = {user.name: (user.role, user.can_sign_in) for user in list_users(session)}
        (one,) = consensus(session)
        (campaign,) = list_campaigns(session, "import")
        patterns = agreement_patterns(session, campaign.id)
    assert people == {"Anna": ("lead", False), "Björn": ("annotator", False), "imported: test": ("annotator", False)}
    assert (one.choice, one.labels) == ("A", 3)
    assert patterns["overall"] == {"2,0,0,1": 1}
    assert check_store(database) == ()


def test_one_person_says_one_thing_of_a_pair(database: Database, tmp_path: Path) -> None:
    with pytest.raises(ImportRefusedError) as refused:
        bring(database, table(tmp_path, ("A", "Anna"), ("B", "anna "), ("tie", ""), ("tie", "")))
    (problem,) = refused.value.problems
    assert str(problem) == "pairs.csv:3: another label of the same pair by the same annotator (anna) than in line 2"
    taken = bring(database, table(tmp_path, ("A", "Anna"), ("tie", ""), ("tie", "")))
    assert taken.labels == 2
    assert [str(note) for note in taken.notes] == ["pairs.csv:4: repeats line 3 and was left out"]


def test_a_label_that_differs_from_the_stored_one_is_noted_and_left(database: Database, tmp_path: Path) -> None:
    bring(database, table(tmp_path, ("A", "Anna")))
    taken = bring(database, table(tmp_path, ("B", "Anna"), ("B", "Björn")))
    assert taken.labels == 1
    assert [str(note) for note in taken.notes] == [
        "pairs.csv:2: the store has another label of this pair by Anna from this source, which stays"
    ]
    assert bring(database, table(tmp_path, ("B", "Anna")), source="corrected").labels == 1


def test_what_was_said_first_of_a_pair_stays_and_gaps_are_filled(database: Database, tmp_path: Path) -> None:
    make_files(tmp_path, ["a.mp4", "b.mp4"])

    def one(generator: str, quality: str) -> Path:
        return write_csv(tmp_path / "p.csv", VIDEOALIGN, [("a.mp4", "b.mp4", generator, "", "p", quality, "", "A")])

    bring(database, one("", "A"))
    filled = bring(database, one("sora", "A"), source="second")
    assert (filled.pairs, filled.notes) == (0, ())
    kept = bring(database, one("kling", "B"), source="third")
    assert [note.message for note in kept.notes] == [
        "generator_a is 'kling', the store has 'sora', which stays",
        "the store has other values of VQ for this pair, which stay",
    ]
    (pair,) = pairs(database)
    assert (pair.generator_a, dict(pair.extra_columns), pair.source) == ("sora", {"VQ": "A"}, "test")


def test_a_preference_without_an_order_finds_the_stored_pair(database: Database, tmp_path: Path) -> None:
    make_files(tmp_path, [f"{n}.mp4" for n in range(20)])
    lines = [{"prompt": "p", "chosen": f"{n}.mp4", "rejected": f"{n + 1}.mp4"} for n in range(0, 20, 2)]
    (tmp_path / "p.jsonl").write_text("\n".join(map(json.dumps, lines)))
    bring(database, tmp_path / "p.jsonl")
    with database.read() as session:
        choices = [one.choice for one in consensus(session)]
    assert {"A", "B"} == set(choices)
    assert all((pair.video_a.sha256 < pair.video_b.sha256) for pair in pairs(database))

    stored = pairs(database)[0]
    contrary = {"prompt": "p", "chosen": stored.video_b.original_name, "rejected": stored.video_a.original_name}
    (tmp_path / "q.jsonl").write_text(json.dumps(contrary))
    taken = bring(database, tmp_path / "q.jsonl", source="another")
    assert (taken.pairs, taken.labels) == (0, 1)
    with database.read() as session:
        assert [label.choice for label in revisions(session, stored.id)][-1] == "B"


def test_thoughts_become_judgements_of_their_source(database: Database, tmp_path: Path) -> None:
    make_files(tmp_path, ["a.mp4", "b.mp4", "c.mp4"])
    whole = render_answer("I see a circle.", dict.fromkeys(DIMENSIONS, "2"), 4.5)
    lines = [
        ("['a.mp4', 'b.mp4']", "p", "p", whole, "I see nothing", "A"),
        ("['a.mp4', 'c.mp4']", "p", "p", "something else", "", "invalid"),
    ]
    path = write_csv(tmp_path / "cold.csv", ("videos", "problem", "prompt", "CoT_A", "CoT_B", "GSB"), lines)
    taken = bring(database, path)
    assert (taken.pairs, taken.labels, taken.thoughts) == (2, 1, 2)
    assert [note.line for note in taken.notes] == [3, 3]
    with database.read() as session:
        stored = session.scalars(select(JudgementRow).order_by(JudgementRow.id)).all()
    assert [(row.thought, row.strict_format, row.reward) for row in stored] == [
        (whole, True, None),
        ("I see nothing", False, None),
    ]
    assert {row.checkpoint for row in stored} == {"imported: test"}
    assert stored[0].sub_scores == dict.fromkeys(DIMENSIONS, "2")
    assert stored[1].sub_scores is None
    assert bring(database, path).thoughts == 0


@pytest.mark.slow
def test_labels_of_the_store_itself_are_known_again(database: Database, tmp_path: Path) -> None:
    lively_store(database, tmp_path)
    report = export(database, tmp_path / "out", "studio-jsonl", copy_videos=True)
    before = rows(database)
    taken = bring(database, tmp_path / "out" / report.files[0], source="myself")
    assert (taken.pairs, taken.labels, taken.videos) == (0, 0, 0)
    assert [note.message for note in taken.notes] == [
        f"{report.rows} labels are in the store already, in other campaigns: they keep their place there"
    ]
    assert rows(database) == before


def test_later_revisions_follow_on_those_that_came_before(other: Database, tmp_path: Path) -> None:
    make_files(tmp_path, ["a.mp4", "b.mp4"])
    common = {"video_a": "a.mp4", "video_b": "b.mp4", "prompt": "p", "annotator": "anna", "kind": "work", "left_video": "B"}
    lines = [
        common | {"choice": "A", "token": "one", "created_at": "2026-01-31T12:00:00+00:00", "seconds": 4.5},
        common | {"choice": "B", "token": "two", "revision": 1, "created_at": "2026-01-31T13:00:00Z", "seconds": 5.5},
        common | {"action": "withdraw", "token": "three", "revision": 2},
    ]
    path = tmp_path / "labels.jsonl"
    path.write_text("\n".join(map(json.dumps, lines[:1])))
    bring(other, path)
    path.write_text("\n".join(map(json.dumps, lines)))
    assert bring(other, path).labels == 2
    (pair,) = pairs(other)
    with other.read() as session:
        found = revisions(session, pair.id)
        (assignment,) = session.scalars(select(AssignmentRow)).all()
    assert [(label.action, label.choice, label.left_video) for label in found] == [
        ("label", "A", "B"),
        ("label", "B", "B"),
        ("withdraw", None, "B"),
    ]
    assert found[1].replaces_id == found[0].id
    assert found[1].created_at.hour == 13
    assert assignment.state == "returned"
    assert assignment.seconds is None
    assert check_store(other) == ()

    path.write_text("\n".join(map(json.dumps, [lines[0], common | {"choice": "tie", "token": "other", "revision": 1}])))
    taken = bring(other, path)
    assert taken.labels == 0
    assert "the store has another label of this pair by anna" in taken.notes[0].message


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"kind": "repeat", "round": 1}, "a planned repeat by anna without their first label of the pair"),
        ({"kind": "gold"}, "a label of the kind gold needs the known answer in gold"),
        ({"kind": "adjudication"}, "a label of the kind adjudication stands in round 2, not 0"),
        ({"annotator": "a\u200bb"}, "annotator: A name has only visible characters"),
        ({"note": "a\u0000b"}, "note holds the character U+0000 at position 2, which can't be stored"),
        ({"prompt": "\ud800"}, "prompt holds the character U+D800 at position 1, which can't be stored"),
        ({"generator_a": "g" * 201}, "generator_a has 201 characters; at most 200 are allowed"),
        ({"facts": {"score": float("nan")}}, "score is no finite number"),
    ],
)
def test_what_the_store_can_not_hold_is_a_problem(other: Database, tmp_path: Path, fields: dict, message: str) -> None:
    make_files(tmp_path, ["a.mp4", "b.mp4"])
    common = {"video_a": "a.mp4", "video_b": "b.mp4", "prompt": "p", "annotator": "anna", "choice": "A"}
    (tmp_path / "labels.jsonl").write_text(json.dumps(common | fields))
    with pytest.raises(ImportRefusedError) as refused:
        bring(other, tmp_path / "labels.jsonl")
    assert [problem.line for problem in refused.value.problems] == [1]
    assert refused.value.problems[0].message.startswith(message)


@pytest.mark.slow
def test_a_campaign_of_people_is_not_written_into(other: Database, tmp_path: Path) -> None:
    campaign_id = lively_store(other, tmp_path / "lively")
    with other.write() as session:
        row = session.get(CampaignRow, campaign_id)
        assert row is not None
        row.name = "imported: test"
    with pytest.raises(ImportRefusedError, match="a campaign of people is named 'imported: test'"):
        bring(other, table(tmp_path, ("A", "")))


@pytest.mark.parametrize("source", ["", "  ", "a" * 61, "winter / spring", "tab\tand\x07bell"])
def test_a_source_needs_a_name(other: Database, tmp_path: Path, source: str) -> None:
    with pytest.raises(ExchangeError, match="the source of an import"):
        bring(other, table(tmp_path, ("A", "")), source=source)


@pytest.mark.slow
def test_a_large_import_keeps_its_order(other: Database, tmp_path: Path) -> None:
    make_files(tmp_path, ["0.mp4", "1.mp4"])
    lines = [("0.mp4", "1.mp4", f"prompt {n // 3}", ("A", "B", "tie")[n % 3], f"annotator {n % 3}") for n in range(3000)]
    path = write_csv(tmp_path / "p.csv", ("video_a", "video_b", "prompt", "label", "annotator"), lines)
    taken = bring(other, path)
    assert (taken.pairs, taken.labels, taken.videos) == (1000, 3000, 2)
    with other.read() as session:
        (campaign,) = list_campaigns(session, "import")
        names = {user.id: user.name for user in list_users(session)}
        said = {(names[label.annotator_id], label.choice) for label in current_labels(session, campaign.id)}
    assert said == {("annotator 0", "A"), ("annotator 1", "B"), ("annotator 2", "tie")}
    assert check_store(other) == ()
