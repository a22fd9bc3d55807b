"""Signing in: what is refused, for how long, and what ends a sign-in."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta, timezone

import pytest
from argon2 import PasswordHasher, Type, extract_parameters
from sqlalchemy import func, select, text

from storage import Database, StorageError
from storage.accounts import credentials as passwords
from storage.accounts.sessions import (
    FAILURES_BY_ADDRESS,
    FAILURES_BY_NAME,
    LIMIT_WINDOW,
    SIGNED_IN_FOR,
    SignedIn,
    accept_invitation,
    invite,
    invite_first_lead,
    open_sign_in,
    read_invitation,
    sign_in,
    sign_out,
    user_of,
)
from storage.accounts.users import User, add_user, get_user, has_lead, set_active, set_role
from storage.errors import InvitationError, NameTakenError, SignInRefusedError, WeakPasswordError
from storage.schema import InvitationRow, SignInAttemptRow, SignInRow, UserRow

PASSWORD, NEW_PASSWORD = "a good password", "another good one"
NOON = datetime(2026, 1, 2, 12, tzinfo=timezone.utc)
HERE, THERE = "192.0.2.1", "192.0.2.2"


pytestmark = pytest.mark.usefixtures("quick_hashes")


@pytest.fixture
def ann(database: Database) -> User:
    """An annotator with `PASSWORD`."""
    with database.write() as session:
        return add_user(session, "Ann", "annotator", PASSWORD)


def refused(database: Database, name: str, password: str, address: str = HERE, now: datetime = NOON) -> SignInRefusedError:
    with pytest.raises(SignInRefusedError) as caught:
        sign_in(database, name, password, address, now)
    return caught.value


def whose(database: Database, token: str, now: datetime = NOON) -> User | None:
    with database.read() as session:
        return user_of(session, token, now)


# ---- passwords ---------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_passwords_are_stored_as_argon2id_of_the_recommended_cost(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    stored = passwords.hash_password(PASSWORD)
    parameters = extract_parameters(stored)
    assert parameters.type is Type.ID
    assert parameters.memory_cost >= 64 * 1024
    assert parameters.time_cost >= 3
    assert PASSWORD not in stored
    assert passwords.hash_password(PASSWORD) != stored
    assert passwords.is_password(stored, PASSWORD)
    assert not passwords.is_password(stored, PASSWORD.upper())


def test_the_same_letters_typed_on_another_machine_are_the_same_password() -> None:
    assert passwords.is_password(passwords.hash_password("cafe\u0301 au lait"), "caf\u00e9 au lait")


@pytest.mark.usefixtures("ann")
@pytest.mark.parametrize("password", ["", "x" * 201, "y" * 1_000_000, "a\x00b", "\ud800 lone half"])
def test_odd_passwords_are_just_wrong(database: Database, password: str) -> None:
    assert str(refused(database, "Ann", password)) == "Wrong name or password."


def test_an_unknown_name_costs_as_much_hashing_as_a_known_one(
    database: Database, ann: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    verified: list[str] = []

    class Counting(PasswordHasher):
        def verify(self, hash: str | bytes, password: str | bytes) -> bool:
            verified.append(str(hash))
            return super().verify(hash, password)

    monkeypatch.setattr(passwords, "hasher", Counting(time_cost=1, memory_cost=8, parallelism=1))
    messages = {str(refused(database, name, "wrong password")) for name in ("Ann", "Nobody")}
    with database.write() as session:
        add_user(session, "Imported", "annotator")
        set_active(session, ann.id, False)
    messages |= {str(refused(database, name, PASSWORD)) for name in ("Imported", "Ann")}
    assert messages == {"Wrong name or password."}
    assert len(verified) == 4
    assert all(extract_parameters(one) == extract_parameters(verified[0]) for one in verified)


def test_a_hash_of_older_parameters_is_renewed_when_its_owner_signs_in(
    database: Database, ann: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(passwords, "hasher", PasswordHasher(time_cost=2, memory_cost=16, parallelism=1))
    refused(database, "Ann", "wrong password")
    for _ in range(2):
        assert sign_in(database, "Ann", PASSWORD, HERE, NOON).user == ann
        with database.read() as session:
            stored = session.scalars(select(UserRow.password_hash)).one()
        assert stored is not None
        assert extract_parameters(stored).time_cost == 2


def test_nobody_else_waits_while_a_password_is_hashed(
    database: Database, ann: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    reached, go_on = threading.Event(), threading.Event()

    class Slow(PasswordHasher):
        def verify(self, hash: str | bytes, password: str | bytes) -> bool:
            reached.set()
            assert go_on.wait(10)
            return super().verify(hash, password)

    monkeypatch.setattr(passwords, "hasher", Slow(time_cost=1, memory_cost=8, parallelism=1))
    with ThreadPoolExecutor(1) as pool:
        pending = pool.submit(sign_in, database, "Ann", PASSWORD, HERE, NOON)
        assert reached.wait(10)
        with database.write() as session:
            add_user(session, "Meanwhile", "annotator")
        go_on.set()
        assert pending.result().user == ann


# ---- the cookie --------------------------------------------------------------------------------------------------


def test_a_sign_in_lasts_thirty_days_or_until_sign_out(database: Database, ann: User) -> None:
    first, second = (sign_in(database, name, PASSWORD, HERE, NOON) for name in ("Ann", " ANN "))
    assert first.user == ann
    assert first.token != second.token
    assert first.expires_at == NOON + SIGNED_IN_FOR
    assert whose(database, first.token) == ann == whose(database, second.token)
    assert whose(database, first.token, NOON + timedelta(days=29.9)) == ann
    assert whose(database, first.token, NOON + SIGNED_IN_FOR) is None
    with database.write() as session:
        sign_out(session, first.token)
        sign_out(session, "never seen")
    assert whose(database, first.token) is None
    assert whose(database, second.token) == ann
    assert whose(database, "") is None
    assert whose(database, "\ud800") is None


def test_the_store_holds_no_token(database: Database, ann: User) -> None:
    with database.write() as session:
        tokens = [open_sign_in(session, ann.id).token, invite(session, "viewer", created_by=ann.id)]
        kept = [*session.scalars(select(SignInRow.token_hash)), *session.scalars(select(InvitationRow.token_hash))]
    assert all(len(token) >= 43 for token in tokens)
    assert not set(tokens) & set(kept)
    assert all(len(one) == 64 for one in kept)


def test_a_changed_role_counts_at_once(database: Database, ann: User) -> None:
    token = sign_in(database, "Ann", PASSWORD, HERE, NOON).token
    with database.write() as session:
        set_role(session, ann.id, "viewer")
    user = whose(database, token)
    assert user is not None
    assert user.role == "viewer"


# ---- the limit ---------------------------------------------------------------------------------------------------


def test_after_five_failures_even_the_right_password_waits(database: Database, ann: User) -> None:
    for second in range(FAILURES_BY_NAME):
        now = NOON + timedelta(seconds=second)
        assert (
            refused(database, ("Ann", "ANN")[second % 2], "wrong password", f"192.0.2.{second}", now).retry_seconds is None
        )
    now = NOON + timedelta(seconds=60)
    error = refused(database, "Ann", PASSWORD, THERE, now)
    assert error.retry_seconds == LIMIT_WINDOW.total_seconds() - 60
    assert "14 minutes" in str(error)
    assert sign_in_of_another(database, now)
    assert sign_in(database, "Ann", PASSWORD, THERE, now + timedelta(seconds=error.retry_seconds)).user == ann


def sign_in_of_another(database: Database, now: datetime) -> SignedIn:
    with database.write() as session:
        add_user(session, "Bea", "annotator", PASSWORD)
    return sign_in(database, "Bea", PASSWORD, HERE, now)


def test_waiting_attempts_do_not_lengthen_the_wait(database: Database, ann: User) -> None:
    for _ in range(FAILURES_BY_NAME):
        refused(database, "Ann", "wrong password")
    for minute in range(14):
        assert refused(database, "Ann", "wrong password", now=NOON + timedelta(minutes=minute)).retry_seconds
    assert sign_in(database, "Ann", PASSWORD, HERE, NOON + LIMIT_WINDOW).user == ann


def test_an_address_that_tries_many_names_is_held_off(database: Database, ann: User) -> None:
    for number in range(FAILURES_BY_ADDRESS):
        assert refused(database, f"guess {number}", "wrong password").retry_seconds is None
    assert refused(database, "Ann", PASSWORD).retry_seconds == LIMIT_WINDOW.total_seconds()
    assert sign_in(database, "Ann", PASSWORD, THERE, NOON).user == ann


@pytest.mark.slow
@pytest.mark.usefixtures("ann")
def test_a_right_password_forgives_ones_own_slips_only(database: Database) -> None:
    for _ in range(2):
        refused(database, "Ann", "wrong password", THERE)
    for _ in range(2):
        refused(database, "Ann", "wrong password", HERE)
    sign_in(database, "Ann", PASSWORD, HERE, NOON)
    for _ in range(3):
        assert refused(database, "Ann", "wrong password", HERE).retry_seconds is None
    assert refused(database, "Ann", "wrong password", HERE).retry_seconds


@pytest.mark.slow
@pytest.mark.usefixtures("ann")
def test_guesses_that_arrive_together_do_not_slip_through(database: Database) -> None:
    start = threading.Barrier(12)

    def guess(number: int) -> bool:
        start.wait()
        return refused(database, "Ann", f"wrong password {number}").retry_seconds is None

    with ThreadPoolExecutor(12) as pool:
        assert sum(pool.map(guess, range(12))) == FAILURES_BY_NAME


@pytest.mark.usefixtures("ann")
def test_old_attempts_are_forgotten(database: Database) -> None:
    for number in range(4):
        refused(database, f"guess {number}", "wrong password")
    refused(database, "Ann", "wrong password", now=NOON + LIMIT_WINDOW)
    with database.read() as session:
        assert session.scalar(select(func.count()).select_from(SignInAttemptRow)) == 1


@pytest.mark.usefixtures("ann")
def test_a_name_that_no_column_holds_is_just_wrong(database: Database) -> None:
    for name in ("x" * 5000, "ﷺ" * 80, "a\x00b", "\ud800", "' OR 1=1 --"):
        assert refused(database, name, "wrong password", "a" * 300).retry_seconds is None


# ---- invitations -------------------------------------------------------------------------------------------------


def test_an_invitation_makes_one_account_of_its_role(database: Database) -> None:
    with database.write() as session:
        token = invite(session, "viewer", created_by=None, now=NOON)
    with database.read() as session:
        seen = read_invitation(session, token, NOON)
    assert (seen.role, seen.user, seen.expires_at) == ("viewer", None, NOON + timedelta(days=7))
    user = accept_invitation(database, token, "Vic", PASSWORD, NOON)
    assert user.role == "viewer"
    assert sign_in(database, "vic", PASSWORD, HERE, NOON).user == user
    with pytest.raises(InvitationError, match="used already"):
        accept_invitation(database, token, "Vera", PASSWORD, NOON)
    with database.read() as session, pytest.raises(InvitationError, match="used already"):
        read_invitation(session, token, NOON)


def test_a_refused_name_or_password_leaves_the_invitation_good(database: Database, ann: User) -> None:
    with database.write() as session:
        token = invite(session, "annotator", created_by=ann.id)
    for name, password, error in [
        ("ann", PASSWORD, NameTakenError),
        ("Bea", "short", WeakPasswordError),
        (" ", PASSWORD, StorageError),
    ]:
        with pytest.raises(error):
            accept_invitation(database, token, name, password)
    assert accept_invitation(database, token, "Bea", PASSWORD).name == "Bea"


def test_two_browsers_with_one_link_make_one_account(database: Database) -> None:
    with database.write() as session:
        token = invite(session, "annotator", created_by=None)
    start = threading.Barrier(6)

    def accept(number: int) -> bool:
        start.wait()
        try:
            accept_invitation(database, token, f"Person {number}", PASSWORD)
        except InvitationError:
            return False
        return True

    with ThreadPoolExecutor(6) as pool:
        assert sum(pool.map(accept, range(6))) == 1
    with database.read() as session:
        assert session.scalar(select(func.count()).select_from(UserRow)) == 1


def test_unknown_and_expired_links_say_so(database: Database) -> None:
    with database.write() as session:
        token = invite(session, "annotator", created_by=None, days=1, now=NOON)
    with database.read() as session:
        assert read_invitation(session, token, NOON + timedelta(hours=23)).role == "annotator"
        with pytest.raises(InvitationError, match="expired"):
            read_invitation(session, token, NOON + timedelta(days=1))
        with pytest.raises(InvitationError, match="unknown"):
            read_invitation(session, token[:-1], NOON)
    with pytest.raises(InvitationError, match="expired"):
        accept_invitation(database, token, "Ann", PASSWORD, NOON + timedelta(days=2))


def test_a_new_password_replaces_the_old_one_and_signs_out_everywhere(database: Database, ann: User) -> None:
    before = sign_in(database, "Ann", PASSWORD, HERE, NOON).token
    with database.write() as session:
        tokens = [invite(session, "lead", created_by=ann.id, user_id=ann.id) for _ in range(2)]
    assert accept_invitation(database, tokens[0], "ignored", NEW_PASSWORD) == ann  # the role stays, too
    assert whose(database, before) is None
    refused(database, "Ann", PASSWORD)
    assert sign_in(database, "Ann", NEW_PASSWORD, HERE, NOON).user == ann
    with pytest.raises(InvitationError, match="used already"):
        accept_invitation(database, tokens[1], "", PASSWORD)


def test_an_imported_person_gets_in_by_a_link_but_not_when_switched_off(database: Database, ann: User) -> None:
    with database.write() as session:
        imported = add_user(session, "annotator_17", "annotator")
        token = invite(session, "annotator", created_by=ann.id, user_id=imported.id)
        set_active(session, imported.id, False)
    with pytest.raises(InvitationError, match="switched off"):
        accept_invitation(database, token, "", PASSWORD)
    with database.write() as session:
        with pytest.raises(StorageError, match="switched off"):
            invite(session, "annotator", created_by=ann.id, user_id=imported.id)
        set_active(session, imported.id, True)
    assert accept_invitation(database, token, "", PASSWORD).can_sign_in
    assert sign_in(database, "annotator_17", PASSWORD, HERE).user.id == imported.id


def test_the_console_invites_the_first_lead_and_only_its_newest_link_works(database: Database) -> None:
    links = []
    for _ in range(2):
        with database.write() as session:
            links.append(invite_first_lead(session))
    assert None not in links
    with pytest.raises(InvitationError):
        accept_invitation(database, str(links[0]), "Lea", PASSWORD)
    lea = accept_invitation(database, str(links[1]), "Lea", PASSWORD)
    with database.write() as session:
        assert lea.role == "lead"
        assert has_lead(session)
        assert invite_first_lead(session) is None
        assert get_user(session, lea.id) == lea


@pytest.mark.usefixtures("ann")
def test_a_password_changed_in_mid_sign_in_wins(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    class Overtaken(PasswordHasher):
        def verify(self, hash: str | bytes, password: str | bytes) -> bool:
            with database.write() as session:
                session.execute(text("UPDATE users SET password_hash = 'changed'"))
            return super().verify(hash, password)

    monkeypatch.setattr(passwords, "hasher", Overtaken(time_cost=1, memory_cost=8, parallelism=1))
    refused(database, "Ann", PASSWORD)
