"""Accounts whose identity somebody else vouches for."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from storage.accounts.identities import Identity, sign_in_as
from storage.accounts.invitations import invite, read_invitation
from storage.accounts.sessions import sign_in, user_of
from storage.accounts.users import add_user, has_lead, list_users, set_active, set_role
from storage.errors import InvitationError, LastLeadError, SignInRefusedError, StorageError, TextError

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


def test_an_invitation_gives_its_role_once(database: Database) -> None:
    with database.write() as session:
        first, second = (invite(session, "lead", created_by=None) for _ in range(2))
    assert sign_in_as(database, ADA, invitation=first).user.role == "lead"
    with pytest.raises(InvitationError, match="used already"):
        sign_in_as(database, Identity(ADA.issuer, "18", "Grace"), invitation=first)
    with pytest.raises(InvitationError, match="unknown"):
        sign_in_as(database, ADA, invitation="made up")
    grace = Identity(ADA.issuer, "18", "Grace")
    assert sign_in_as(database, grace).user.role == "annotator"
    assert sign_in_as(database, grace, invitation=second).user.role == "lead", "a known account gets it, too"
    with database.write() as session:
        third = invite(session, "annotator", created_by=None)
    assert sign_in_as(database, grace, invitation=third).user.role == "lead", "a lead is not made less by a link"


def test_an_invitation_for_a_person_makes_the_account_theirs(database: Database) -> None:
    with database.write() as session:
        imported = add_user(session, "A. Lovelace", "annotator")
        token = invite(session, "annotator", created_by=None, user_id=imported.id)
        again, for_another = (
            invite(session, "annotator", created_by=None, user_id=imported.id),
            invite(session, "annotator", created_by=None, user_id=add_user(session, "Grace", "annotator").id),
        )
    assert sign_in_as(database, ADA, invitation=token).user.id == imported.id
    assert sign_in_as(database, ADA).user.id == imported.id
    with pytest.raises(InvitationError, match="another account already"):
        sign_in_as(database, Identity(ADA.issuer, "18", "Eve"), invitation=again)
    with pytest.raises(InvitationError, match=r"for Grace; the account that you came with is A\. Lovelace's"):
        sign_in_as(database, ADA, invitation=for_another)
    with database.read() as session:
        assert read_invitation(session, for_another).user is not None, "a refused link stays good"
        assert [user.name for user in list_users(session)] == ["A. Lovelace", "Grace"]


def test_one_invitation_of_two_who_race_is_used_once(database: Database) -> None:
    with database.write() as session:
        token = invite(session, "lead", created_by=None)

    def accept(number: int) -> str | None:
        try:
            return sign_in_as(database, Identity(ADA.issuer, str(number), "Ada"), invitation=token).user.role
        except InvitationError:
            return None

    with ThreadPoolExecutor(6) as threads:
        assert sorted(threads.map(accept, range(6)), key=str) == [None] * 5 + ["lead"]
    with database.read() as session:
        assert len(list_users(session)) == 1


@pytest.mark.parametrize("identity", [Identity("", "17", "Ada"), Identity(ADA.issuer, "", "Ada")])
def test_half_an_identity_is_none(sqlite_database: Database, identity: Identity) -> None:
    with pytest.raises(StorageError, match="an issuer and a subject"):
        sign_in_as(sqlite_database, identity)


def test_an_endless_subject_is_refused(sqlite_database: Database) -> None:
    with pytest.raises(TextError, match="subject of users"):
        sign_in_as(sqlite_database, Identity(ADA.issuer, "7" * 256, "Ada"))
