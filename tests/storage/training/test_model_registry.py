"""Checkpoints by content, which one serves, and what may be deleted."""

from __future__ import annotations

from pathlib import Path

import pytest
from sqlalchemy import text

from storage import Database, NotInStoreError, StorageError
from storage.accounts.users import add_user
from storage.maintenance.integrity import check_store
from storage.training.model_registry import (
    FOLDER,
    get_checkpoint,
    kept_location,
    lineage,
    list_checkpoints,
    mark_deleted,
    promote,
    promotions,
    register_checkpoint,
    remove_files,
    serving,
    set_gate,
    usable_location,
)
from storage.training.runs import request_cancel
from tests.helpers.labelling import make_team
from tests.helpers.retraining import add_run, let_say, make_checkpoint, serve_base, snapshot_of


def test_a_checkpoint_is_known_by_its_content(database: Database) -> None:
    with database.write() as session:
        first = make_checkpoint(session, settings={"lr": 1e-4}, metrics={"held_out": {"accuracy": 0.7}}, disk_bytes=9)
        again = make_checkpoint(session, "another name", fingerprint=first.fingerprint)
        namesake = make_checkpoint(session, "winter", fingerprint="f" * 64, parent_id=first.id)
        third = make_checkpoint(session, "  winter ", fingerprint="e" * 64, parent_id=namesake.id)
    assert again == first
    assert [one.name for one in (first, namesake, third)] == ["winter", "winter 2", "winter 3"]
    with database.read() as session:
        assert get_checkpoint(session, first.id) == first
        assert [one.id for one in lineage(session, third.id)] == [third.id, namesake.id, first.id]
        with pytest.raises(NotInStoreError):
            get_checkpoint(session, 99)
    with pytest.raises(StorageError, match="needs a name"), database.write() as session:
        register_checkpoint(session, name=" ", location="x", fingerprint="y")


def test_folders_inside_the_data_folder_may_move_with_it(database: Database, tmp_path: Path) -> None:
    inside, outside = database.home / FOLDER / "winter", tmp_path / "elsewhere"
    for folder in (inside, outside):
        folder.mkdir(parents=True)
    kept = [kept_location(one, database.home) for one in ("bundled", "org/name", str(inside), inside, str(outside))]
    assert kept == ["bundled", "org/name", "./checkpoints/winter", "./checkpoints/winter", str(outside)]
    with database.write() as session:
        winter = make_checkpoint(session, location=kept[2])
        remote = make_checkpoint(session, "remote", location="org/name")
    assert usable_location(winter, database.home) == str(inside)
    assert usable_location(winter, tmp_path / "moved") == str(tmp_path / "moved" / FOLDER / "winter")
    assert usable_location(remote, database.home) == "org/name"


@pytest.mark.slow
def test_the_last_promotion_says_what_serves(database: Database) -> None:
    with database.write() as session:
        assert serving(session) is None
        lead = add_user(session, "lead", "lead").id
        base, better = serve_base(session), make_checkpoint(session)
        assert promote(session, base.id, "start") == promote(session, base.id, "promote", lead)
        promote(session, better.id, "promote", lead)
        assert serving(session) == better
        promote(session, base.id, "roll_back", lead)
    with database.read() as session:
        assert serving(session) == base
        told = [(one.checkpoint_id, one.action, one.by) for one in promotions(session)]
        assert told == [(base.id, "roll_back", lead), (better.id, "promote", lead), (base.id, "start", None)]
        assert [one.action for one in promotions(session, limit=1)] == ["roll_back"]


@pytest.mark.parametrize("change", ["UPDATE promotions SET action = 'start'", "DELETE FROM promotions"])
def test_the_database_refuses_to_change_what_served(database: Database, change: str) -> None:
    with database.write() as session:
        promote(session, serve_base(session).id, "start")
    with pytest.raises(StorageError, match="append-only"), database.write() as session:
        session.execute(text(change))


def test_what_is_in_use_is_not_deleted(database: Database) -> None:
    team = make_team(database, pairs=12, people=1, overlap=1)
    let_say(database, team, 0, "AB" * 6)
    snapshot = snapshot_of(database)
    with database.write() as session:
        base, parent, rival, idle = serve_base(session), *(make_checkpoint(session, name) for name in "abc")
        run = add_run(session, base, snapshot, parent_id=parent.id, rival_id=rival.id)
        for checkpoint, reason in ((base, "serves now"), (parent, f"run {run.id} needs a"), (rival, "needs b")):
            with pytest.raises(StorageError, match=reason):
                mark_deleted(session, checkpoint.id)
        promote(session, idle.id, "promote")
        with pytest.raises(StorageError, match="the base"):
            mark_deleted(session, base.id)
        request_cancel(session, run.id)
        assert mark_deleted(session, rival.id).deleted_at is not None
        with pytest.raises(StorageError, match="was deleted"):
            promote(session, rival.id, "promote")
        assert [one.name for one in list_checkpoints(session)] == ["base", "a", "c"]
        assert [one.name for one in list_checkpoints(session, deleted=True)] == ["base", "a", "b", "c"]
        back = make_checkpoint(session, "b", location="./checkpoints/b again")
        assert (back.id, back.deleted_at, back.location) == (rival.id, None, "./checkpoints/b again")


def test_only_folders_of_ours_are_removed(database: Database, tmp_path: Path) -> None:
    places = {"ours": f"./{FOLDER}/ours", "run": "./runs/3", "all": f"./{FOLDER}", "out": str(tmp_path / "out")}
    places |= {"up": f"./{FOLDER}/../videos"}
    for place in places.values():
        folder = database.home / place
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "weights").write_bytes(b"w" * 10)
    with database.write() as session:
        made = {name: make_checkpoint(session, name, location=place, disk_bytes=10) for name, place in places.items()}
        with pytest.raises(StorageError, match="in use"):
            remove_files(made["ours"], database.home)
        gone = {name: mark_deleted(session, one.id) for name, one in made.items()}
    assert {name: remove_files(one, database.home) for name, one in gone.items()} == dict.fromkeys(places, 0) | {"ours": 10}
    left = {name for name, place in places.items() if (database.home / place / "weights").is_file()}
    assert left == set(places) - {"ours"}
    assert remove_files(gone["ours"], database.home) == 0


def test_a_gate_is_kept_as_it_was_found(database: Database) -> None:
    gate = {"verdict": "better", "n": 120, "difference": {"value": 0.11, "low": 0.03, "high": 0.19}}
    with database.write() as session:
        made = make_checkpoint(session)
        assert made.gate is None
        set_gate(session, made.id, gate)
    with database.read() as session:
        assert get_checkpoint(session, made.id).gate == gate


def test_check_names_a_serving_checkpoint_that_is_gone(database: Database) -> None:
    folder = database.home / FOLDER / "winter"
    folder.mkdir(parents=True)
    with database.write() as session:
        promote(session, make_checkpoint(session).id, "promote")
    assert check_store(database) == ()
    folder.rmdir()
    assert ["its folder" in str(one) for one in check_store(database)] == [True]
    with database.write() as session:
        session.execute(text("UPDATE checkpoints SET location = 'bundled', deleted_at = created_at"))
    assert [str(one) for one in check_store(database)] == ["checkpoints: the checkpoint winter serves, and was deleted"]
