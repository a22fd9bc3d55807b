"""The sandbox of a demo: always one that is open, never blind, and bounded for each guest."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from storage.accounts.guests import admit_guest
from storage.accounts.users import add_user
from storage.campaigns.campaign import list_campaigns, set_status
from storage.errors import GuestLimitError
from storage.labelling import sandbox
from storage.labelling.blind import blind_videos
from storage.labelling.sandbox import check_guest, is_sandbox, open_sandbox
from tests.helpers.labelling import FULL, Team, label_next, make_team, waiting
from tests.helpers.stores import make_pair

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from storage import Database

SAID = replace(FULL, sub_scores={side: {"subject": "2", "dynamics": "1"} for side in "AB"}, marks=())


def pair_ids(session: Session, number: int = 2) -> tuple[int, ...]:
    return tuple(make_pair(session, f"{index}a", f"{index}b").id for index in range(number))


def test_opening_it_again_finds_it_with_the_pairs_that_came_since(database: Database) -> None:
    with database.write() as session:
        first = open_sandbox(session, pair_ids(session))
        assert blind_videos(session, {1, 2, 3, 4}) == frozenset(), "the gallery stays on the Judge page"
        set_status(session, first.id, "paused")
        again = open_sandbox(session, pair_ids(session, 3))
        assert (again.id, again.status) == (first.id, "open")
        guest = add_user(session, "Gus", "annotator").id
        team = Team(again, (guest,), ())
        for _ in range(3):
            label_next(session, team, guest, SAID)
        assert waiting(session, team, guest) == "finished"


def test_when_all_pairs_have_their_labels_the_next_one_opens(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sandbox, "MOST_OVERLAP", 1)
    with database.write() as session:
        ids = pair_ids(session)
        first = open_sandbox(session, ids)
        guest = add_user(session, "Gus", "annotator").id
        for _ in ids:
            label_next(session, Team(first, (guest,), ids), guest, SAID)
        second = open_sandbox(session, ids)
        assert second.config.name == "Sandbox 2"
        assert {one.config.name: one.status for one in list_campaigns(session)} == {"Sandbox": "closed", "Sandbox 2": "open"}
        assert is_sandbox(first)
        assert is_sandbox(second)


def test_a_guest_labels_in_the_sandbox_alone_and_not_for_ever(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sandbox, "GUEST_ANSWERS", 1)
    guest = admit_guest(database, "here").user.id
    other = make_team(database, name="Sandbox castles").campaign
    with database.write() as session:
        campaign = open_sandbox(session, pair_ids(session))
        check_guest(session, guest, campaign)
        with pytest.raises(GuestLimitError, match="guests label in the sandbox only"):
            check_guest(session, guest, other)
        label_next(session, Team(campaign, (guest,), ()), guest, SAID)
        with pytest.raises(GuestLimitError, match="may save 1 answers, and you have"):
            check_guest(session, guest, campaign)
