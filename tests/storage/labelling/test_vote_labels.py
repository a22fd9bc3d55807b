"""Votes of the Judge page as labels: whose they are, what replaces what, when they count."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import select

from storage import Database, StorageError
from storage.accounts.users import add_user, list_users
from storage.analysis.judged_pairs import analysed_pairs
from storage.campaigns.campaign import Campaign, list_campaigns
from storage.campaigns.counted import counted_campaigns
from storage.errors import CampaignError
from storage.labelling.consensus import consensus
from storage.labelling.labels import Label, labels_of_pair, revisions
from storage.labelling.totals import agreement_patterns
from storage.labelling.vote_labels import NAME, VotesSummary, label_votes, set_counted, votes_summary
from storage.maintenance.integrity import check_store
from storage.schema import UserRow
from storage.training.new_labels import count_new_labels
from storage.training.snapshot_config import SnapshotConfig
from storage.training.snapshots import make_snapshot
from storage.votes import ShownAnswer, current_vote, save_vote
from tests.helpers.labelling import label_next, make_team
from tests.helpers.stores import make_pair

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

SEEN = ShownAnswer("k", 4, "f1", "B", 0.25)


def vote(session: Session, pair_id: int, token: str, **fields: Any) -> None:
    save_vote(session, **{"pair_id": pair_id, "choice": "A", "voter": "home", "token": token, **fields})


def summary(session: Session) -> VotesSummary:
    counts = votes_summary(session)
    assert counts is not None
    return counts


def campaign(session: Session) -> Campaign:
    return summary(session).campaign


def labels(session: Session, pair_id: int) -> tuple[Label, ...]:
    return labels_of_pair(session, campaign(session).id, pair_id)


def names(session: Session) -> dict[int, str]:
    return {user.id: user.name for user in list_users(session)}


def test_a_vote_is_a_label_with_author_note_sides_and_what_was_seen(database: Database) -> None:
    with database.write() as session:
        pair, ada = make_pair(session), add_user(session, "Ada", "annotator")
        assert votes_summary(session) is None
        vote(session, pair.id, "1", user_id=ada.id, note="sharper", shown="nothing")
        vote(session, pair.id, "2", choice="both_bad", left_video="B", shown=SEEN)
        vote(session, pair.id, "3", choice="B", voter="phone", shown=ShownAnswer("quick"))
        vote(session, pair.id, "4", choice="tie", voter="program")
        mine, both_bad, quick, unknown = labels(session, pair.id)
        assert (mine.choice, mine.note, mine.annotator_id, mine.visible) == ("A", "sharper", ada.id, ())
        assert (both_bad.choice, both_bad.left_video, both_bad.visible) == ("both_bad", "B", ("thoughts", "rewards"))
        assert (quick.visible, unknown.visible) == (("rewards",), ("thoughts", "rewards"))
        kept = current_vote(session, pair.id, "home")
        assert kept is not None
        assert (kept.shown, kept.created_at) == (SEEN, both_bad.created_at)
        counts = summary(session)
        assert (counts.votes, counts.pairs, counts.people, counts.visitors) == (4, 1, 1, 3)
        assert (counts.campaign.config.name, counts.campaign.counted) == (NAME, False)
        assert list_campaigns(session) == ()
    assert check_store(database) == ()


def test_a_visitor_is_one_person_a_browser_and_never_an_account(database: Database) -> None:
    with database.write() as session:
        first, second = make_pair(session), make_pair(session, "c", "d")
        vote(session, first.id, "1")
        vote(session, second.id, "2")
        ((label,), (other,)) = labels(session, first.id), labels(session, second.id)
        assert label.annotator_id == other.annotator_id
        (visitor,) = list_users(session)
        assert (visitor.is_visitor, visitor.can_sign_in, "home" in visitor.name) == (True, False, False)
        taken = f"visitor {session.scalars(select(UserRow.subject)).one()[:10]}"  # type: ignore[index]
        assert visitor.name == taken
    with database.write() as session:
        session.execute(UserRow.__table__.update().values(name="moved", name_key="moved", subject="of another"))  # type: ignore[attr-defined]
        add_user(session, taken, "lead")
        vote(session, first.id, "3")
        named = [user for user in list_users(session) if user.is_visitor and user.name != "moved"]
        assert [len(user.name) for user in named] == [len(taken) + 1]


def test_a_changed_vote_is_a_new_revision(database: Database) -> None:
    with database.write() as session:
        pair = make_pair(session)
        for token, choice in (("1", "A"), ("2", "B"), ("2", "B"), ("3", "tie")):
            vote(session, pair.id, token, choice=choice)
        chain = revisions(session, pair.id)
        assert [(label.choice, label.replaces_id) for label in chain] == [
            ("A", None),
            ("B", chain[0].id),
            ("tie", chain[1].id),
        ]
        assert labels(session, pair.id) == chain[2:]
    assert check_store(database) == ()


def test_a_vote_with_exchanged_sides_takes_the_former_label_back(database: Database) -> None:
    with database.write() as session:
        pair = make_pair(session)
        for token, left in (("1", "A"), ("2", "B"), ("3", "A")):
            vote(session, pair.id, token, left_video=left)
        actions = [(label.action, label.left_video) for label in revisions(session, pair.id)]
        assert actions == [("label", "A"), ("withdraw", "A"), ("label", "B"), ("withdraw", "B"), ("label", "A")]
        assert [label.left_video for label in labels(session, pair.id)] == ["A"]
        assert summary(session).votes == 1
    assert check_store(database) == ()


def test_who_signs_in_takes_their_browsers_vote_along(database: Database) -> None:
    with database.write() as session:
        pair, ada = make_pair(session), add_user(session, "Ada", "annotator")
        vote(session, pair.id, "1")
        vote(session, pair.id, "2", choice="B", user_id=ada.id)
        assert [(label.choice, label.annotator_id) for label in labels(session, pair.id)] == [("B", ada.id)]
        assert (summary(session).people, summary(session).visitors) == (1, 0)
        vote(session, pair.id, "3", voter="home")  # signed out again: a visitor of their own
        assert len(labels(session, pair.id)) == 2
    assert check_store(database) == ()


def test_votes_count_once_a_lead_says_so(database: Database) -> None:
    team = make_team(database, pairs=2, people=1, overlap=1)
    with database.write() as session:
        label_next(session, team, team.people[0])
        (answered,) = consensus(session)
        (open_pair,) = set(team.pairs) - {answered.pair_id}
        vote(session, open_pair, "1", choice="B")
        vote(session, answered.pair_id, "2", choice="B")
        votes = campaign(session)

        def answers() -> dict[int, Any]:
            return {one.pair_id: one.choice for one in consensus(session)}

        assert answers() == {answered.pair_id: answered.choice}
        assert count_new_labels(session, SnapshotConfig(), 0).labels == 1
        assert [pair.choice for pair in analysed_pairs(session, None) if pair.pair_id == open_pair] == [None]
        assert len(make_snapshot(session, SnapshotConfig(), 0, incremental=False).pairs) == 1
        with pytest.raises(StorageError, match="don't count: a lead switches them on"):
            count_new_labels(session, SnapshotConfig(campaigns=(NAME,)), 0)
        set_counted(session, votes.id, True)
        assert counted_campaigns(session) is None
        assert answers() == {open_pair: "B", answered.pair_id: None if answered.choice != "B" else "B"}
        assert count_new_labels(session, SnapshotConfig(), 0).labels == 3
        assert [pair.choice for pair in analysed_pairs(session, None) if pair.pair_id == open_pair] == ["B"]
        assert count_new_labels(session, SnapshotConfig(campaigns=(NAME,)), 0).labels == 2
        set_counted(session, votes.id, False)
        assert answers() == {answered.pair_id: answered.choice}
        assert agreement_patterns(session, team.campaign.id) == {}
        with pytest.raises(CampaignError, match="only the votes"):
            set_counted(session, team.campaign.id, False)
    assert check_store(database) == ()


def test_votes_that_have_their_labels_get_no_further_ones(database: Database) -> None:
    with database.write() as session:
        pair = make_pair(session)
        vote(session, pair.id, "1")
        vote(session, pair.id, "2", choice="B")
        assert label_votes(session) == 0
        assert len(revisions(session, pair.id)) == 2
