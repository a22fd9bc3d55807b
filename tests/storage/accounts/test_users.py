"""Accounts: names that can't be confused, and a team that never loses its last lead."""

from __future__ import annotations

import threading

import pytest

from storage import Database, NotInStoreError, StorageError
from storage.accounts.sessions import open_sign_in, user_of
from storage.accounts.users import User, add_user, find_user, get_user, has_lead, list_users, set_active, set_role
from storage.errors import LastLeadError, NameTakenError, WeakPasswordError

PASSWORD = "a good password"
pytestmark = pytest.mark.usefixtures("quick_hashes")


def add(database: Database, name: str, role: str = "annotator", password: str | None = PASSWORD) -> User:
    with database.write() as session:
        return add_user(session, name, role, password)  # type: ignore[arg-type]


def test_a_person_is_found_again_by_any_spelling_of_the_name(database: Database) -> None:
    added = add(database, "  Zoë   Ångström ", "viewer")
    assert (added.name, added.role, added.active, added.can_sign_in) == ("Zoë Ångström", "viewer", True, True)
    with database.read() as session:
        for spelling in ("zoë ångström", "ZOE\u0308 ANGSTRO\u0308M".replace("ANG", "A\u030aNG"), "Ｚoë Ångström"):
            assert find_user(session, spelling) == added
        assert get_user(session, added.id) == added
        assert find_user(session, "Zoe") is None
        with pytest.raises(NotInStoreError):
            get_user(session, added.id + 1)


@pytest.mark.parametrize("twin", ["ann", "ANN", " Ann ", "Ａｎｎ"])
def test_a_name_that_reads_like_another_is_taken(database: Database, twin: str) -> None:
    first = add(database, "Ann")
    with pytest.raises(NameTakenError, match="taken"):
        add(database, twin)
    with database.read() as session:
        assert list_users(session) == (first,)


@pytest.mark.parametrize("name", ["", "   ", "x" * 81, "a\u200bb", "a\x00b", "a\u202eb"])
def test_what_is_no_name_is_refused(database: Database, name: str) -> None:
    with pytest.raises(StorageError, match="name"):
        add(database, name)


@pytest.mark.parametrize(
    "password", ["", "short1234", "x" * 201, "aaaaaaaaaa", "password123", "1qaz2wsx3edc", "2001-09-11-", "Marguerite 1"]
)
def test_short_long_and_common_passwords_are_refused(database: Database, password: str) -> None:
    with pytest.raises(WeakPasswordError):
        add(database, "Marguerite", password=password)
    with database.read() as session:
        assert list_users(session) == ()


def test_an_unknown_role_is_refused(database: Database) -> None:
    with pytest.raises(StorageError, match="lead, annotator, viewer"):
        add(database, "Ann", "owner")
    ann = add(database, "Ann")
    with database.write() as session, pytest.raises(StorageError, match="role"):
        set_role(session, ann.id, "owner")  # type: ignore[arg-type]


def test_an_imported_name_is_no_lead_who_can_sign_in(database: Database) -> None:
    imported = add(database, "From a file", "lead", password=None)
    with database.read() as session:
        assert not imported.can_sign_in
        assert not has_lead(session)
    add(database, "Lea", "lead")
    with database.read() as session:
        assert has_lead(session)


def test_switching_off_ends_sign_ins_and_switching_on_does_not_revive_them(database: Database) -> None:
    ann = add(database, "Ann")
    with database.write() as session:
        token = open_sign_in(session, ann.id).token
        assert user_of(session, token) == ann
        assert not set_active(session, ann.id, False).can_sign_in
        assert user_of(session, token) is None
        with pytest.raises(StorageError, match="switched off"):
            open_sign_in(session, ann.id)
        assert set_active(session, ann.id, True) == ann
        assert user_of(session, token) is None


def test_the_last_active_lead_stays(database: Database) -> None:
    lea, leo, off = add(database, "Lea", "lead"), add(database, "Leo", "lead"), add(database, "Off", "lead")
    with database.write() as session:
        set_active(session, off.id, False)
        assert set_role(session, leo.id, "annotator").role == "annotator"
        with pytest.raises(LastLeadError, match="Lea is the last lead"):
            set_active(session, lea.id, False)
        with pytest.raises(LastLeadError):
            set_role(session, lea.id, "viewer")
        set_role(session, leo.id, "lead")
        assert not set_active(session, lea.id, False).active


def test_two_leads_who_remove_each_other_at_once_leave_one(database: Database) -> None:
    leads = [add(database, name, "lead") for name in ("Lea", "Leo")]
    start, outcomes = threading.Barrier(2), []

    def remove(user: User) -> None:
        start.wait()
        try:
            with database.write() as session:
                set_active(session, user.id, False)
            outcomes.append("removed")
        except LastLeadError:
            outcomes.append("refused")

    threads = [threading.Thread(target=remove, args=(lead,)) for lead in leads]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == ["refused", "removed"]
    with database.read() as session:
        assert has_lead(session)
