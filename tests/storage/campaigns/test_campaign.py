"""Setting up campaigns, their pairs and guidelines, and what the lead decides later."""

from __future__ import annotations

from dataclasses import replace

import pytest

from descore.answer import DIMENSIONS
from storage import Database, NotInStoreError
from storage.campaigns.campaign import (
    CampaignConfig,
    Gold,
    create_campaign,
    get_campaign,
    list_campaigns,
    set_status,
)
from storage.campaigns.guidelines import (
    DEFAULT_GUIDELINES,
    DimensionGuide,
    Guidelines,
    current_guidelines,
    guidelines_of,
    revise_guidelines,
)
from storage.campaigns.progress import Progress, progress
from storage.errors import CampaignError, LeaseLostError
from storage.labelling.campaign_pairs import add_pairs, flagged_pairs, reorder, resolve_flag, set_overlap
from storage.labelling.totals import differences
from tests.helpers.labelling import answer, flag, label_next, later, make_team, save, take, waiting
from tests.helpers.stores import make_pair


def test_a_campaign_comes_back_as_it_was_set_up(database: Database) -> None:
    settings = {"overlap": 2, "dimensions": ("style", "subject"), "visible": ("rewards",), "lease_seconds": 60}
    team = make_team(database, gold={0: Gold("A"), 1: Gold("B")}, qualification_pairs=2, **settings)
    with database.read() as session:
        assert get_campaign(session, team.campaign.id) == team.campaign
        assert list_campaigns(session) == (team.campaign,)
        assert list_campaigns(session, "import") == ()
        with pytest.raises(NotInStoreError):
            get_campaign(session, 99)
        counts = progress(session, team.campaign.id)
    assert team.campaign.config.dimensions == ("subject", "style")
    assert team.campaign.guideline_version == 1
    nothing = dict.fromkeys(
        ("finished", "labels", "leased", "flagged", "dropped", "disputed", "given", "on_gold", "on_dropped", "checks"), 0
    )
    assert counts == Progress(pairs=4, wanted=8, gold=2, **nothing)


@pytest.mark.parametrize(
    "wrong",
    [
        {"name": " "},
        {"dimensions": ("beauty",)},
        {"overlap": 0},
        {"gold_share": 0.6},
        {"gold_share": 0.5, "repeat_share": 0.5},
        {"ordering": "best"},
        {"visible": ("names",)},
        {"lease_seconds": 0},
        {"qualification_pass": 1.1},
    ],
)
def test_a_setting_out_of_range_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(CampaignError):
        CampaignConfig(**({"name": "fine"} | wrong))  # type: ignore[arg-type]


def test_a_campaign_that_can_not_work_is_refused(database: Database) -> None:
    with database.write() as session:
        ids = [make_pair(session, f"{i}a", f"{i}b").id for i in range(3)]
        create_campaign(session, CampaignConfig("taken"), ids, DEFAULT_GUIDELINES, created_by=None)
    cases = [
        (CampaignConfig("taken"), ids, {}, "named taken already"),
        (CampaignConfig("new"), [], {}, "needs pairs"),
        (CampaignConfig("new"), ids[:1], {ids[0]: Gold("A")}, "besides the gold"),
        (CampaignConfig("new"), [*ids, 99], {}, "no pair 99"),
        (CampaignConfig("new"), ids[:2], {ids[2]: Gold("A")}, "not among those"),
        (CampaignConfig("new", qualification_pairs=1), ids, {}, "needs gold pairs"),
    ]
    for settings, pairs, gold, message in cases:
        with pytest.raises(CampaignError, match=message), database.write() as session:
            create_campaign(session, settings, pairs, DEFAULT_GUIDELINES, created_by=None, gold=gold)
    with database.read() as session:
        assert [campaign.config.name for campaign in list_campaigns(session)] == ["taken"]


def test_guidelines_are_versioned_and_name_every_asked_dimension(database: Database) -> None:
    assert set(DEFAULT_GUIDELINES.dimensions) == set(DIMENSIONS)
    team = make_team(database, dimensions=DIMENSIONS)
    other = replace(DEFAULT_GUIDELINES, intro="Look twice.")
    with database.write() as session:
        assert revise_guidelines(session, team.campaign.id, other, None) == 2
        assert revise_guidelines(session, team.campaign.id, other, None) == 2
        before, after = guidelines_of(session, team.campaign.id, 1), current_guidelines(session, team.campaign.id)
        assert take(session, team, team.people[0]).guideline_version == 2
    assert before == DEFAULT_GUIDELINES
    assert after == (2, other)
    for broken in (
        Guidelines("x", {"subject": DimensionGuide("who", "")}),
        Guidelines("x", {**DEFAULT_GUIDELINES.dimensions, "beauty": DimensionGuide("nice", "")}),
        replace(other, intro="x" * 20_001),
    ):
        with pytest.raises(CampaignError), database.write() as session:
            revise_guidelines(session, team.campaign.id, broken, None)


def test_lower_scores_come_first_and_pairs_without_one_last(database: Database) -> None:
    with database.write() as session:
        ids = [make_pair(session, f"{i}a", f"{i}b").id for i in range(4)]
    team = make_team(database, pairs=4)
    with database.write() as session:
        settings = CampaignConfig("sorted", dimensions=(), ordering="uncertain", gold_share=0, repeat_share=0)
        scores = {ids[3]: 0.1, ids[1]: 0.2, ids[0]: 0.9}
        campaign = create_campaign(session, settings, ids, DEFAULT_GUIDELINES, created_by=None, scores=scores)
        team = replace(team, campaign=campaign)
        assert label_next(session, team, team.people[0]).pair.id == ids[3]
        reorder(session, campaign.id, {ids[2]: -1.0, ids[0]: 0.0})
        order = [label_next(session, team, team.people[0]).pair.id for _ in range(3)]
        assert order[:2] == [ids[2], ids[0]]
        assert waiting(session, team, team.people[0]) == "finished"
        assert label_next(session, team, team.people[1]).pair.id == ids[2]
        assert differences(session, campaign.id) == []


def test_random_orders_differ_between_campaigns_and_not_between_people(database: Database) -> None:
    team = make_team(database, pairs=12, people=2)
    with database.write() as session:
        settings = replace(team.campaign.config, name="another")
        campaign = create_campaign(session, settings, team.pairs, DEFAULT_GUIDELINES, created_by=None)
        orders = [
            [label_next(session, one, person).pair.id for _ in team.pairs]
            for one in (team, replace(team, campaign=campaign))
            for person in team.people
        ]
    assert orders[0] == orders[1]
    assert orders[2] == orders[3]
    assert orders[0] != orders[2]
    assert sorted(orders[0]) == sorted(orders[2]) == sorted(team.pairs)


def test_pairs_added_later_reach_those_who_had_finished(database: Database) -> None:
    team = make_team(database, pairs=2, people=1)
    (person,) = team.people
    with database.write() as session:
        for _ in team.pairs:
            label_next(session, team, person)
        assert waiting(session, team, person) == "finished"
        new = make_pair(session, "new a", "new b").id
        assert add_pairs(session, team.campaign.id, [new, new, *team.pairs]) == 1
        assert add_pairs(session, team.campaign.id, [new]) == 0
        assert take(session, team, person).pair.id == new


def test_a_higher_overlap_opens_pairs_again_and_a_lower_one_keeps_labels(database: Database) -> None:
    team = make_team(database, pairs=3, people=3, overlap=1)
    first, second, third = team.people
    with database.write() as session:
        for _ in team.pairs:
            label_next(session, team, first)
        assert waiting(session, team, second) == "finished"
        set_overlap(session, team.campaign.id, 2)
        for _ in team.pairs:
            label_next(session, team, second, answer("B"))
        assert waiting(session, team, third) == "finished"
        assert progress(session, team.campaign.id).disputed == 3
        set_overlap(session, team.campaign.id, 3)
        assert progress(session, team.campaign.id).disputed == 0
        held = take(session, team, third)
        set_overlap(session, team.campaign.id, 1)
        save(session, held, answer("B"))
        counts = progress(session, team.campaign.id)
        assert (counts.labels, counts.wanted, counts.finished) == (7, 3, 3)
        assert waiting(session, team, third) == "finished"
        assert differences(session, team.campaign.id) == []
    with pytest.raises(CampaignError), database.write() as session:
        set_overlap(session, team.campaign.id, 0)


def test_a_flagged_pair_waits_for_the_lead(database: Database) -> None:
    team = make_team(database, pairs=1, people=3)
    first, second, third = team.people
    (pair,) = team.pairs
    with database.write() as session:
        save(session, take(session, team, first), flag())
        assert waiting(session, team, second) == "finished"
        assert [(one.pair.id, one.reasons) for one in flagged_pairs(session, team.campaign.id)] == [
            (pair, ("does not play",))
        ]
        resolve_flag(session, team.campaign.id, pair, put_back=True)
        assert flagged_pairs(session, team.campaign.id) == ()
        assert waiting(session, team, first) == "finished"
        held = take(session, team, second)
        save(session, take(session, team, third), flag("still not"))
        resolve_flag(session, team.campaign.id, pair, put_back=False)
        with pytest.raises(CampaignError, match="not flagged"):
            resolve_flag(session, team.campaign.id, pair, put_back=True)
    with pytest.raises(LeaseLostError, match="taken this pair out"), database.write() as session:
        save(session, held)
    with database.read() as session:
        counts = progress(session, team.campaign.id)
        assert (counts.pairs, counts.dropped, counts.flagged, counts.leased) == (0, 1, 0, 0)
        assert differences(session, team.campaign.id) == []


def test_paused_finishes_what_is_held_and_closed_saves_nothing(database: Database) -> None:
    team = make_team(database)
    first, second, _ = team.people
    with database.write() as session:
        held = take(session, team, first)
        set_status(session, team.campaign.id, "paused")
        assert take(session, team, first).token == held.token
        save(session, held)
        assert waiting(session, team, first) == "campaign paused"
        set_status(session, team.campaign.id, "open")
        held = take(session, team, first)
        set_status(session, team.campaign.id, "closed")
        assert waiting(session, team, second) == "campaign closed"
        assert progress(session, team.campaign.id).leased == 0
        with pytest.raises(CampaignError, match="closed"):
            save(session, held)
        set_status(session, team.campaign.id, "open")
        assert take(session, team, first, later(hours=9)).token == held.token


def test_nobody_is_assigned_in_imported_labels(database: Database) -> None:
    team = make_team(database)
    with database.write() as session:
        settings = CampaignConfig("imported", gold_share=0, repeat_share=0, overlap=1)
        imported = create_campaign(session, settings, team.pairs, DEFAULT_GUIDELINES, created_by=None, origin="import")
        assert waiting(session, replace(team, campaign=imported), team.people[0]) == "campaign closed"
        with pytest.raises(CampaignError, match="imported"):
            set_status(session, imported.id, "open")
        assert list_campaigns(session, "import") == (imported,)
