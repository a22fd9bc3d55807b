"""Accounts whose identity somebody else vouches for."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from storage.accounts.identities import Identity, sign_in_as
from storage.accounts.sessions import sign_in, user_of
from storage.accounts.users import add_user, has_lead, list_users, set_active, set_role
from storage.errors import LastLeadError, SignInRefusedError, StorageError, TextError

if TYPE_CHECKING:
    from storage import Database

ADA = Identity("https://sso.example.org", "17", "Ada")


def test_an_identity_gets_one_account_and_its_sign_ins(database: Database) -> None:
    first, second = sign_in_as(database, ADA), sign_in_as(database, Identity(ADA.issuer, ADA.subject, "Augusta"))
    assert first.user == second.user
    assert (first.user.name, first.user.role, first.user.can_sign_in) == ("Ada", "annotator", True)
    with database.read() as session:
        assert user_of(session, first.token) == user_of(session, second.token) == first.user


def test_a_subject_is_somebody_else_with_another_issuer(database: Database) -> None:
    first, second = sign_in_as(database, ADA), sign_in_as(database, Identity("https://other.example", "17", "Ada"))
    assert [first.user.name, second.user.name] == ["Ada", "Ada (other.example)"]


def test_many_who_come_at_once_under_one_name_each_get_an_account(database: Database) -> None:
    comers = [Identity(ADA.issuer, str(number // 2), "Ada") for number in range(12)]
    with ThreadPoolExecutor(6) as threads:
        users = [signed_in.user for signed_in in threads.map(lambda identity: sign_in_as(database, identity), comers)]
    assert [users[number].id for number in range(0, 12, 2)] == [users[number].id for number in range(1, 12, 2)]
    with database.read() as session:
        assert len(list_users(session)) == len({user.name for user in users}) == 6


def test_no_password_opens_the_account(database: Database) -> None:
    sign_in_as(database, ADA)
    with pytest.raises(SignInRefusedError):
        sign_in(database, "Ada", "", "192.0.2.1")


def test_a_lead_without_a_password_counts_as_a_lead(database: Database) -> None:
    lead = sign_in_as(database, ADA, "lead").user
    with database.read() as session:
        assert has_lead(session)
    with pytest.raises(LastLeadError), database.write() as session:
        set_role(session, lead.id, "annotator")
    with database.write() as session:
        add_user(session, "Grace", "lead", "a good password")
        set_active(session, lead.id, False)
    with pytest.raises(StorageError, match="switched off"):
        sign_in_as(database, ADA)


@pytest.mark.parametrize("identity", [Identity("", "17", "Ada"), Identity(ADA.issuer, "", "Ada")])
def test_half_an_identity_is_none(sqlite_database: Database, identity: Identity) -> None:
    with pytest.raises(StorageError, match="an issuer and a subject"):
        sign_in_as(sqlite_database, identity)


def test_an_endless_subject_is_refused(sqlite_database: Database) -> None:
    with pytest.raises(TextError, match="subject of users"):
        sign_in_as(sqlite_database, Identity(ADA.issuer, "7" * 256, "Ada"))
