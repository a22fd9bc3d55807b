"""A store that the version before wrote opens, is sound, is labelled further and exported."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from alembic import command
from sqlalchemy import create_engine, select, text

from storage import Database, open_database
from storage.accounts.sessions import sign_in
from storage.accounts.users import find_user
from storage.analysis.judged_pairs import analysed_pairs
from storage.campaigns.campaign import list_campaigns
from storage.campaigns.members import members
from storage.campaigns.progress import progress
from storage.exchange.exporting.export import export
from storage.labelling.assignments import Assignment, history
from storage.labelling.consensus import consensus
from storage.labelling.labels import current_labels
from storage.labelling.next_assignment import next_assignment
from storage.labelling.submit import submit
from storage.labelling.vote_labels import label_votes, votes_summary
from storage.maintenance.integrity import check_store
from storage.migrations.upgrade import _config, _exclusive
from storage.schema import AssignmentRow, LabelRow, UserRow, VoteRow, utc_now
from storage.training.model_registry import list_checkpoints, serving
from storage.training.new_labels import count_new_labels
from storage.training.runs import list_runs, newest_trained_label, snapshot_pairs
from storage.training.snapshot_config import SnapshotConfig
from storage.training.snapshots import held_out_by_in_use, make_snapshot, snapshot_hash
from storage.votes import current_votes
from tests.helpers.labelling import answer
from tests.helpers.store_world import SCORES

DUMP = Path(__file__).parents[2] / "fixtures" / "earlier_store" / "store.sql"


# Columns of a vote: pair, choice, note, voter, left video, token, the vote that it replaces, who was signed in.
VOTES: tuple[tuple[Any, ...], ...] = (
    (1, "A", "", "home", "A", "v1", None, None),
    (1, "B", "after all", "home", "A", "v2", 1, None),
    (2, "A", "", "home", "A", "v3", None, None),
    (1, "tie", "", "phone", "B", "v4", None, None),
    (2, "both_bad", "", "home", "A", "v5", 3, 2),  # Anna signed in
    (1, "A", "", "phone", "A", "v6", 4, None),  # with the sides exchanged
    (3, "B", "", "work", "A", "v7", None, 3),
    (1, "B", "", "work", "A", "v8", None, 3),
)


def write_dump(home: Path, votes: bool = True) -> Path:
    """The store as the version before wrote it."""
    home.mkdir()
    lines = DUMP.read_text("utf-8").splitlines(keepends=True)
    kept = [line for line in lines if votes or not line.startswith('INSERT INTO "votes"')]
    with closing(sqlite3.connect(home / "descore.db")) as connection:
        connection.executescript("".join(kept))
    return home / "descore.db"


@pytest.fixture
def earlier(tmp_path: Path) -> Database:
    file = write_dump(tmp_path / "home")
    return open_database(url=f"sqlite:///{file}", home=file.parent)


def test_it_is_sound_and_reads_as_it_was_written(earlier: Database) -> None:
    assert check_store(earlier) == ()
    with earlier.read() as session:
        (campaign,) = list_campaigns(session)
        counts = progress(session, campaign.id)
        anna, ben = members(session, campaign.id)
        labels = list(current_labels(session, campaign.id))
        recent = history(session, campaign.id, anna.annotator.id)
        assert (campaign.config.name, campaign.config.overlap, campaign.guideline_version) == ("first campaign", 2, 1)
        assert (counts.pairs, counts.gold, counts.wanted) == (10, 2, 20)
        assert (anna.annotator.name, ben.annotator.name) == ("Anna", "Ben")
        assert (anna.labels, anna.skips) == (7, 1)
        assert len([label for label in labels if label.annotator_id == anna.annotator.id]) == 7
        assert any(label.kind == "adjudication" and label.choice == "B" for label in labels)
        assert all(one.label is not None and one.pair.extra_columns["VQ"] == "A" for one in recent)
        assert [vote.choice for vote in current_votes(session, 1)] == ["tie"]
        (judged,) = [pair for pair in analysed_pairs(session, _fingerprint(earlier)) if pair.think is not None]
        assert judged.think is not None
        assert judged.think.rewards == (0.25, 0.5)
        assert judged.video_stats[0] is not None
        assert judged.video_stats[0].sharpness == 501.0


def test_its_people_sign_in_and_go_on_where_they_stopped(earlier: Database) -> None:
    person = sign_in(earlier, "anna", "a good password", "here").user
    with earlier.write() as session:
        (campaign,) = list_campaigns(session)
        before = consensus(session)
        assignment = next_assignment(session, campaign.id, person.id)
        assert isinstance(assignment, Assignment)
        assert assignment.draft == {"choice": "left", "note": "half done"}
        submit(session, assignment.token, person.id, "further", answer("A", sub_scores=SCORES), utc_now())
        following = next_assignment(session, campaign.id, person.id)
        assert not isinstance(following, Assignment) or following.token != assignment.token
        lasting = [one for one in consensus(session) if one.pair_id != assignment.pair.id]
        assert lasting == [one for one in before if one.pair_id != assignment.pair.id]
    assert check_store(earlier) == ()


def test_its_runs_and_checkpoints_stay_what_they_were(earlier: Database) -> None:
    with earlier.read() as session:
        waiting, finished = list_runs(session)
        base, made = list_checkpoints(session)
        assert (waiting.state, finished.state, finished.candidate_id) == ("queued", "finished", made.id)
        assert finished.snapshot_hash == snapshot_hash(snapshot_pairs(session, finished.id))
        assert serving(session) == base
        since = newest_trained_label(session, made.id)
        assert since == finished.last_label_id > 0
        assert count_new_labels(session, SnapshotConfig(held_out_share=0.3), since).labels == 0
        again = make_snapshot(session, SnapshotConfig(held_out_share=0.3), 0, incremental=True)
        assert again.sha256 == finished.snapshot_hash
        # An earlier version held out pairs, and did not say so.
        assert finished.snapshot is not None
        assert again.chosen_by == {**finished.snapshot, "held_out_by": "pairs"}
        assert held_out_by_in_use(session) == "pairs"


@pytest.mark.parametrize("format", ["studio-jsonl", "csv"])
def test_it_is_exported(earlier: Database, tmp_path: Path, format: str) -> None:
    report = export(earlier, tmp_path / "out", format)
    assert report.pairs == 12
    if format == "studio-jsonl":
        records = [json.loads(line) for line in (tmp_path / "out" / "labels.jsonl").read_text("utf-8").splitlines()]
        assert {record["facts"]["VQ"] for record in records} == {"A"}
        people = {record.get("annotator") for record in records if "action" in record}
        assert {name for name in people if not name.startswith("visitor ")} == {"Anna", "Ben", "Lena"}
        votes = [record for record in records if record.get("campaign") == "votes on the Judge page"]
        assert [record["choice"] for record in votes] == ["A", "tie"]
        assert {"label", "skip", "withdraw"} <= {record["action"] for record in records if "action" in record}


def _fingerprint(database: Database) -> str:
    with database.read() as session:
        now = serving(session)
        assert now is not None
        assert find_user(session, "Lena") is not None
        return now.fingerprint


def test_its_votes_become_labels_as_those_that_follow_do(tmp_path: Path) -> None:
    moment = utc_now()
    taken_over = write_dump(tmp_path / "taken over", votes=False)
    engine = create_engine(f"sqlite:///{taken_over}")
    with _exclusive(engine) as connection:
        config = _config()
        config.attributes["connection"] = connection
        command.upgrade(config, "0012")
        columns = ("pair_id", "choice", "note", "voter", "left_video", "token", "replaces_id", "user_id")
        names = f"({', '.join(columns)}, created_at) VALUES ({', '.join(f':{name}' for name in columns)}, :at)"
        for number, vote in enumerate(VOTES):
            at = f"{moment + timedelta(seconds=number):%Y-%m-%d %H:%M:%S.%f}"
            connection.execute(text(f"INSERT INTO votes {names}"), {**dict(zip(columns, vote, strict=True)), "at": at})
    engine.dispose()
    migrated = open_database(url=f"sqlite:///{taken_over}", home=taken_over.parent)
    file = write_dump(tmp_path / "given here", votes=False)
    given = open_database(url=f"sqlite:///{file}", home=file.parent)
    with given.write() as session:
        for number, vote in enumerate(VOTES):
            values = dict(zip(columns, vote, strict=True))
            session.add(VoteRow(**values, created_at=moment + timedelta(seconds=number)))
            session.flush()
        assert label_votes(session) == len(VOTES)
    assert _labels_of_votes(migrated) == _labels_of_votes(given)
    for database in (migrated, given):
        assert check_store(database) == ()
        with database.read() as session:
            counts = votes_summary(session)
            assert counts is not None
            assert (counts.votes, counts.pairs, counts.people, counts.visitors) == (5, 3, 2, 2)
            assert not counts.campaign.counted
    with migrated.write() as session:  # and those that follow join them
        session.add(VoteRow(pair_id=1, choice="A", note="", voter="home", left_video="A", token="v9", replaces_id=2))
        session.flush()
        assert label_votes(session) == 1
    assert check_store(migrated) == ()


def _labels_of_votes(database: Database) -> list[tuple[Any, ...]]:
    with database.read() as session:
        counts = votes_summary(session)
        assert counts is not None
        columns = (
            UserRow.name,
            UserRow.issuer,
            UserRow.subject,
            AssignmentRow.state,
            AssignmentRow.round,
            AssignmentRow.kind,
        )
        own = (LabelRow.action, LabelRow.choice, LabelRow.note, LabelRow.left_video, LabelRow.visible, LabelRow.token)
        rows = (
            select(*columns, *own, LabelRow.created_at, LabelRow.replaces_id - LabelRow.id, AssignmentRow.finished_at)
            .join(AssignmentRow, AssignmentRow.id == LabelRow.assignment_id)
            .join(UserRow, UserRow.id == LabelRow.annotator_id)
            .where(LabelRow.campaign_id == counts.campaign.id)
        )
        return [tuple(map(str, row)) for row in session.execute(rows.order_by(LabelRow.id))]
