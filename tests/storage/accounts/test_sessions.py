"""Signing in: what is refused, for how long, and what ends a sign-in."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta, timezone

import pytest
from argon2 import PasswordHasher, Type, extract_parameters
from sqlalchemy import func, select, text, update

from storage import Database, StorageError
from storage.accounts import credentials as passwords
from storage.accounts.attempts import (
    BROWSER_FAILURES,
    BY_ACCOUNT_AND_ADDRESS,
    BY_ADDRESS,
    FIRST_WAIT,
    KEPT_FOR,
    LONGEST_WAIT,
    Attack,
    attacked_accounts,
    source_of,
)
from storage.accounts.invitations import list_invitations, revoke
from storage.accounts.sessions import (
    SIGNED_IN_FOR,
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
from storage.errors import InvitationError, NameTakenError, NotInStoreError, SignInRefusedError, WeakPasswordError
from storage.schema import InvitationRow, SignInAttemptRow, SignInRow, UserRow, utc_now

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


@pytest.mark.usefixtures("ann")
def test_a_password_from_the_time_of_a_shorter_limit_goes_on_working(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    with database.write() as session:
        session.execute(update(UserRow).values(password_hash=passwords.renew_hash("8 chars!")))
    monkeypatch.setattr(passwords, "hasher", PasswordHasher(time_cost=2, memory_cost=16, parallelism=1))
    for _ in range(2):  # at the first time the hash is renewed
        assert sign_in(database, "Ann", "8 chars!", HERE, NOON).token


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


def fail(database: Database, times: int, name: str = "Ann", address: str = HERE, now: datetime = NOON) -> None:
    """Wrong passwords, none of which has to wait."""
    for _ in range(times):
        assert refused(database, name, "wrong password", address, now).retry_seconds is None


def test_after_five_failures_each_further_one_doubles_the_wait(database: Database, ann: User) -> None:
    fail(database, BY_ACCOUNT_AND_ADDRESS.free)
    now, waits = NOON, []
    while len(waits) < 9:
        error = refused(database, "ANN", PASSWORD, now=now)
        assert error.retry_seconds
        waits.append(error.retry_seconds)
        almost = now + timedelta(seconds=error.retry_seconds - 1)
        assert refused(database, "Ann", PASSWORD, now=almost).retry_seconds == 1  # refused attempts lengthen nothing
        now += timedelta(seconds=error.retry_seconds)
        fail(database, 1, now=now)
    first, longest = int(FIRST_WAIT.total_seconds()), int(LONGEST_WAIT.total_seconds())
    assert waits == [min(first * 2**number, longest) for number in range(9)]
    assert waits[-1] == longest
    assert sign_in(database, "Ann", PASSWORD, HERE, now + LONGEST_WAIT).user == ann


def test_the_wait_is_told_in_words(database: Database, ann: User) -> None:
    fail(database, BY_ACCOUNT_AND_ADDRESS.free)
    assert "Try again in 15 seconds." in str(refused(database, ann.name, PASSWORD))
    fail(database, 1, now=NOON + FIRST_WAIT)
    fail(database, 1, now=NOON + 3 * FIRST_WAIT)
    assert "Try again in 1 minute." in str(refused(database, ann.name, PASSWORD, now=NOON + 3 * FIRST_WAIT))


def test_nobody_locks_another_person_out(database: Database, ann: User) -> None:
    for number in range(25):
        fail(database, BY_ACCOUNT_AND_ADDRESS.free, address=f"198.51.100.{number}")
        assert refused(database, "Ann", PASSWORD, f"198.51.100.{number}").retry_seconds
    assert sign_in(database, "Ann", PASSWORD, HERE, NOON).user == ann


def test_an_address_that_tries_many_names_is_held_off(database: Database, ann: User) -> None:
    for number in range(BY_ADDRESS.free):
        fail(database, 1, f"guess {number}")
    assert refused(database, "Ann", PASSWORD).retry_seconds == FIRST_WAIT.total_seconds()
    assert sign_in(database, "Ann", PASSWORD, THERE, NOON).user == ann
    assert sign_in(database, "Ann", PASSWORD, HERE, NOON + FIRST_WAIT).user == ann


def test_a_browser_that_was_signed_in_before_does_not_wait_for_others(database: Database, ann: User) -> None:
    first = sign_in(database, "Ann", PASSWORD, HERE, NOON)
    with database.write() as session:
        sign_out(session, first.token)
    fail(database, BY_ACCOUNT_AND_ADDRESS.free)
    assert refused(database, "Ann", PASSWORD).retry_seconds
    again = sign_in(database, "Ann", PASSWORD, HERE, NOON, marks=("of another", first.mark))
    assert (again.user, again.mark) == (ann, first.mark)
    assert refused(database, "Ann", PASSWORD).retry_seconds  # the others behind this address still wait


def test_a_mark_opens_nothing_and_is_good_for_one_account_only(database: Database, ann: User) -> None:
    mark = sign_in(database, "Ann", PASSWORD, HERE, NOON).mark
    with database.write() as session:
        add_user(session, "Bea", "annotator", PASSWORD)
    assert whose(database, mark) is None
    with pytest.raises(SignInRefusedError, match="Wrong name or password"):
        sign_in(database, "Ann", "wrong password", HERE, NOON, marks=(mark,))
    fail(database, BY_ACCOUNT_AND_ADDRESS.free, "Bea")
    nonce, _, signature = mark.partition(".")
    fail(database, BY_ACCOUNT_AND_ADDRESS.free)
    for name, forged in [
        ("Bea", mark),
        ("Ann", f"x{nonce}.{signature}"),
        ("Ann", nonce),
        ("Ann", "\ud800."),
        ("Ann", "é.é"),
    ]:
        with pytest.raises(SignInRefusedError, match="Too many"):
            sign_in(database, name, PASSWORD, HERE, NOON, marks=(forged,))
    assert sign_in(database, "Ann", PASSWORD, HERE, NOON, marks=(mark,)).user == ann


def test_marks_end_with_the_password(database: Database, ann: User) -> None:
    mark = sign_in(database, "Ann", PASSWORD, HERE, NOON).mark
    with database.write() as session:
        token = invite(session, "annotator", created_by=None, user_id=ann.id)
    accept_invitation(database, token, "", NEW_PASSWORD)
    fail(database, BY_ACCOUNT_AND_ADDRESS.free)
    with pytest.raises(SignInRefusedError, match="Too many"):
        sign_in(database, "Ann", NEW_PASSWORD, HERE, NOON, marks=(mark,))


def test_a_stolen_mark_is_not_worth_endless_guesses(database: Database, ann: User) -> None:
    mark = sign_in(database, "Ann", PASSWORD, THERE, NOON).mark
    for number in range(BROWSER_FAILURES + BY_ACCOUNT_AND_ADDRESS.free):
        with pytest.raises(SignInRefusedError) as caught:
            sign_in(database, "Ann", f"guess {number}", HERE, NOON, marks=(mark,))
        assert caught.value.retry_seconds is None
    with pytest.raises(SignInRefusedError, match="Too many"):
        sign_in(database, "Ann", PASSWORD, HERE, NOON, marks=(mark,))
    assert sign_in(database, "Ann", PASSWORD, HERE, NOON + KEPT_FOR, marks=(mark,)).user == ann


def test_an_ipv6_network_counts_as_one_address() -> None:
    assert source_of("2001:db8:1:2::1") == source_of("2001:db8:1:2:ffff::9") == "2001:db8:1:2::/64"
    assert source_of("2001:db8:1:3::1") != source_of("2001:db8:1:2::1")
    assert source_of("::ffff:192.0.2.1") == HERE == source_of(HERE)
    assert source_of("x" * 300) == "x" * 64


@pytest.mark.usefixtures("ann")
def test_a_lead_sees_which_accounts_are_attacked_from_many_addresses(database: Database) -> None:
    with database.write() as session:
        add_user(session, "Bea", "annotator", PASSWORD)
    for number in range(4):
        fail(database, 2, address=f"198.51.100.{number}")
        fail(database, 1, "nobody", address=f"198.51.100.{number}")
    fail(database, 3, "Bea", THERE)
    sign_in(database, "Ann", PASSWORD, HERE, NOON)
    with database.read() as session:
        assert attacked_accounts(session, NOON + timedelta(hours=23)) == (Attack("Ann", 8, 4),)
        assert attacked_accounts(session, NOON + KEPT_FOR) == ()


@pytest.mark.slow
@pytest.mark.usefixtures("ann")
def test_a_right_password_forgives_ones_own_slips_only(database: Database) -> None:
    fail(database, 2, address=THERE)
    fail(database, 2)
    sign_in(database, "Ann", PASSWORD, HERE, NOON)
    fail(database, BY_ACCOUNT_AND_ADDRESS.free)
    assert refused(database, "Ann", "wrong password", HERE).retry_seconds
    fail(database, BY_ACCOUNT_AND_ADDRESS.free - 2, address=THERE)
    assert refused(database, "Ann", "wrong password", THERE).retry_seconds


@pytest.mark.slow
@pytest.mark.usefixtures("ann")
def test_guesses_that_arrive_together_do_not_slip_through(database: Database) -> None:
    start = threading.Barrier(12)

    def guess(number: int) -> bool:
        start.wait()
        return refused(database, "Ann", f"wrong password {number}").retry_seconds is None

    with ThreadPoolExecutor(12) as pool:
        assert sum(pool.map(guess, range(12))) == BY_ACCOUNT_AND_ADDRESS.free


@pytest.mark.usefixtures("ann")
def test_old_attempts_are_forgotten(database: Database) -> None:
    for number in range(4):
        fail(database, 1, f"guess {number}")
    fail(database, 1, now=NOON + KEPT_FOR)
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


def test_a_revoked_link_opens_nothing_and_the_list_says_what_became_of_each(database: Database, ann: User) -> None:
    with database.write() as session:
        used, revoked = (invite(session, "viewer", created_by=ann.id, days=days) for days in (1, 30))
        invite(session, "annotator", created_by=None, user_id=ann.id)
        invite(session, "lead", created_by=None, now=NOON)  # long ago
    accept_invitation(database, used, "Vic", PASSWORD)
    with database.write() as session:
        late, password, open_one, accepted = list_invitations(session)
        assert [(one.person, one.created_by, one.for_password) for one in (password, open_one, accepted)] == [
            ("Ann", None, True),
            (None, "Ann", False),
            ("Vic", "Ann", False),
        ]
        now = utc_now()
        assert [one.is_open(now) for one in (late, password, open_one, accepted)] == [False, True, True, False]
        assert open_one.expires_at - open_one.created_at == timedelta(days=30)
        revoke(session, open_one.id)
        for ended in (late, open_one, accepted):
            with pytest.raises(InvitationError, match="ended already"):
                revoke(session, ended.id)
        with pytest.raises(NotInStoreError):
            revoke(session, 99)
        assert [one.id for one in list_invitations(session, past=1)] == [late.id, password.id]
    with database.read() as session, pytest.raises(InvitationError, match="was revoked"):
        read_invitation(session, revoked)
    with pytest.raises(InvitationError, match="was revoked"):
        accept_invitation(database, revoked, "Vera", PASSWORD)
    with database.write() as session, pytest.raises(StorageError, match="up to 90 days"):
        invite(session, "viewer", created_by=None, days=91)


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
