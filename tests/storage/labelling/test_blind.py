"""What a blind campaign hides, from whom, and for how long."""

from __future__ import annotations

from typing import TYPE_CHECKING

from storage.accounts.users import add_user
from storage.campaigns.campaign import CampaignConfig, create_campaign, set_status
from storage.campaigns.guidelines import DEFAULT_GUIDELINES
from storage.campaigns.label_schema import Answer
from storage.labelling.assignments import Assignment
from storage.labelling.blind import blind_videos, may_fetch
from storage.labelling.next_assignment import next_assignment
from storage.labelling.submit import submit
from storage.pairs import get_pair
from tests.helpers.labelling import NOW, make_team
from tests.helpers.stores import make_pair

if TYPE_CHECKING:
    from storage import Database


def test_clips_of_a_blind_campaign_are_for_those_who_got_them(database: Database) -> None:
    team = make_team(database, pairs=2, people=2)
    ann, ben = team.people
    with database.write() as session:
        elsewhere = make_pair(session, "x", "y")
        given = next_assignment(session, team.campaign.id, ann, NOW)
        assert isinstance(given, Assignment)
        (other,) = (get_pair(session, pair) for pair in team.pairs if pair != given.pair.id)
        for video in (given.pair.video_a, given.pair.video_b):
            assert [may_fetch(session, video.id, person) for person in (ann, ben, None)] == [True, False, False]
        assert not may_fetch(session, other.video_a.id, ann)
        assert may_fetch(session, elsewhere.video_a.id, None)
        everything = {video.id for pair in (given.pair, other, elsewhere) for video in (pair.video_a, pair.video_b)}
        hidden = {video.id for pair in (given.pair, other) for video in (pair.video_a, pair.video_b)}
        assert blind_videos(session, everything) == hidden
        submit(session, given.token, ann, "s", Answer(choice="A", strength="clearly"), NOW)
        assert may_fetch(session, given.pair.video_b.id, ann), "what they labelled they may look at again"
        assert not may_fetch(session, given.pair.video_b.id, ben)


def test_a_paused_campaign_hides_and_a_closed_one_does_not(database: Database) -> None:
    team = make_team(database, pairs=1, people=1)
    with database.write() as session:
        video = get_pair(session, team.pairs[0]).video_b.id
        for status, hidden in (("paused", True), ("open", True), ("closed", False)):
            set_status(session, team.campaign.id, status)  # type: ignore[arg-type]
            assert (blind_videos(session, {video}) == {video}) == hidden
            assert may_fetch(session, video, None) != hidden


def test_a_campaign_that_shows_rewards_hides_nothing(database: Database) -> None:
    team = make_team(database, pairs=1, people=1, visible=("rewards",))
    with database.read() as session:
        video = get_pair(session, team.pairs[0]).video_a.id
        assert blind_videos(session, {video}) == frozenset()
        assert may_fetch(session, video, None)


def test_who_gets_the_video_in_another_campaign_sees_it(database: Database) -> None:
    team = make_team(database, pairs=1, people=1)
    with database.write() as session:
        config = CampaignConfig(name="assisted", gold_share=0, repeat_share=0, visible=("thoughts", "rewards"))
        assisted = create_campaign(session, config, team.pairs, DEFAULT_GUIDELINES, created_by=None)
        eve = add_user(session, "Eve", "annotator").id
        video = get_pair(session, team.pairs[0]).video_a.id
        assert not may_fetch(session, video, eve)
        assert isinstance(next_assignment(session, assisted.id, eve, NOW), Assignment)
        assert may_fetch(session, video, eve)
