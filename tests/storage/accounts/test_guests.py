"""Guests of a demo: so many a day, of everybody and of one origin, each for a day."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from storage.accounts.guests import GuestLimits, admit_guest, end_guests
from storage.accounts.sessions import sign_in, user_of
from storage.accounts.users import list_users
from storage.errors import GuestLimitError, SignInRefusedError
from tests.helpers.labelling import NOW, later

if TYPE_CHECKING:
    from storage import Database

FEW = GuestLimits(each_origin=2, all=3, lasts=timedelta(days=1))


def test_a_guest_is_an_annotator_for_a_day(database: Database) -> None:
    signed_in = admit_guest(database, "here", now=NOW)
    assert (signed_in.user.role, signed_in.user.is_guest) == ("annotator", True)
    with database.read() as session:
        assert user_of(session, signed_in.token, later(hours=23)) == signed_in.user
    assert end_guests(database, now=later(hours=23)) == 0
    assert end_guests(database, now=later(hours=24)) == 1
    with database.read() as session:
        assert user_of(session, signed_in.token, later(hours=24)) is None
        assert [user.active for user in list_users(session)] == [False]


def test_nobody_signs_in_as_a_guest_with_a_password(database: Database) -> None:
    name = admit_guest(database, "here").user.name
    with pytest.raises(SignInRefusedError):
        sign_in(database, name, "", "127.0.0.1")


def test_an_origin_and_everybody_have_so_many_guests_a_day(database: Database) -> None:
    for _ in range(2):
        admit_guest(database, "here", FEW, NOW)
    with pytest.raises(GuestLimitError, match="your address has had its 2 guests of today"):
        admit_guest(database, "here", FEW, later(hours=1))
    admit_guest(database, "her", FEW, NOW)  # the beginning of another origin's name
    with pytest.raises(GuestLimitError, match="as many guests as it takes in a day"):
        admit_guest(database, "there", FEW, NOW)
    end_guests(database, FEW, later(hours=24))
    admit_guest(database, "here", FEW, later(hours=25))
