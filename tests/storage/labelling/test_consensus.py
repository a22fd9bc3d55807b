"""What labels say together, by majority and weighted by reliability."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from descore.answer import DIMENSIONS
from storage import Database, StorageError
from storage.accounts.users import add_user
from storage.campaigns.campaign import CampaignConfig, Gold, create_campaign
from storage.campaigns.guidelines import DEFAULT_GUIDELINES
from storage.campaigns.label_schema import Answer
from storage.labelling.adjudication import adjudicate
from storage.labelling.campaign_pairs import resolve_flag
from storage.labelling.consensus import Consensus, consensus
from storage.labelling.dawid_skene import CHOICES, KnownLabels, annotator_accuracies, annotator_weights, posterior
from tests.helpers.labelling import Team, make_team, new_submission
from tests.helpers.opinions import opine
from tests.helpers.stores import make_pair

if TYPE_CHECKING:
    from storage.schema import Choice


def by_pair(database: Database, *args: object, **options: object) -> dict[int, Consensus]:
    with database.read() as session:
        return {one.pair_id: one for one in consensus(session, *args, **options)}  # type: ignore[arg-type]


def scored(choice: Choice, strength: str | None, camera: str) -> Answer:
    """An answer in which only the camera of video A varies."""
    a = dict.fromkeys(DIMENSIONS, "2") | {"camera": camera}
    scores = {"A": a, "B": dict.fromkeys(DIMENSIONS, "0")}
    return Answer(choice=choice, strength=strength, sub_scores=scores)  # type: ignore[arg-type]


def test_more_than_half_of_the_labels_make_a_choice(database: Database) -> None:
    team = make_team(database, pairs=5)
    opine(database, team, ["AA=xA", "ABB=.", "ABBxB"])
    found = by_pair(database)
    assert [found[pair].choice for pair in team.pairs] == ["A", "B", "B", "both_bad", None]
    assert [found[pair].support for pair in team.pairs] == pytest.approx([1, 2 / 3, 2 / 3, 2 / 3, 0])
    assert [found[pair].labels for pair in team.pairs] == [3, 3, 3, 3, 2]
    assert not any(one.adjudicated for one in found.values())


def test_strength_and_sub_scores_are_common_ones(database: Database) -> None:
    team = make_team(database, pairs=2, dimensions=DIMENSIONS)
    first = [scored("A", "clearly", "2"), scored("A", "slightly", "1"), scored("B", "slightly", "1")]
    second = [scored("tie", None, "2"), scored("A", "clearly", "1"), scored("both_bad", None, "0")]
    opine(database, team, [[one, other] for one, other in zip(first, second, strict=True)])
    found = by_pair(database)
    one, other = (found[pair] for pair in team.pairs)
    assert one.choice == "A"
    assert one.strength == pytest.approx(2 / 3)
    assert one.sub_scores["A"] == dict.fromkeys(DIMENSIONS, "2") | {"camera": "1"}
    assert one.sub_scores["B"] == dict.fromkeys(DIMENSIONS, "0")
    assert other.choice is None
    assert other.strength == pytest.approx(2 / 3)
    assert "camera" not in other.sub_scores["A"]
    assert other.sub_scores["A"]["style"] == "2"


@pytest.mark.slow
def test_a_lead_overrules_everybody_and_dropped_pairs_are_left_out(database: Database) -> None:
    team = make_team(database, pairs=3)
    opine(database, team, ["ABA", "ABA", "ABB"])
    with database.write() as session:
        lead = add_user(session, "lead", "lead").id
        adjudicate(session, team.campaign.id, team.pairs[0], lead, new_submission(), Answer(choice="tie"))
    found = by_pair(database)
    decided = found[team.pairs[0]]
    assert (decided.choice, decided.adjudicated, decided.labels, decided.support) == ("tie", True, 3, 0)
    assert decided.strength == 0
    flagged = flagged_team(database)
    with database.write() as session:
        resolve_flag(session, flagged.campaign.id, flagged.pairs[0], put_back=False)
    assert flagged.pairs[0] not in by_pair(database, [flagged.campaign.id])


def flagged_team(database: Database) -> Team:
    """A second campaign, with one label and one flag on its first pair."""
    with database.write() as session:
        pairs = tuple(make_pair(session, f"x{i}", f"y{i}").id for i in range(2))
        people = tuple(add_user(session, f"second {i}", "annotator").id for i in range(2))
        settings = CampaignConfig("second", dimensions=(), gold_share=0, repeat_share=0)
        campaign = create_campaign(session, settings, pairs, DEFAULT_GUIDELINES, created_by=None)
    team = Team(campaign, people, pairs)
    flag = Answer(action="flag", reason="broken")
    opine(database, team, ["AA", [flag, Answer(choice="tie")]])
    return team


def test_a_pair_of_two_campaigns_counts_each_person_once(database: Database) -> None:
    team = make_team(database, pairs=2)
    opine(database, team, ["AA", "AB", "BB"])
    only = by_pair(database, [team.campaign.id])
    assert only == by_pair(database)
    assert by_pair(database, []) == {}


def test_unknown_method_is_refused(database: Database) -> None:
    with database.read() as session, pytest.raises(StorageError, match="majority or weighted"):
        consensus(session, method="loudest")  # type: ignore[arg-type]


@pytest.mark.slow
def test_weighted_follows_the_reliable_and_leaves_equal_voices_undecided(database: Database) -> None:
    """Two people who agree with each other everywhere outweigh two who scatter, on the pair where it is two to two."""
    truth = "ABABABABAB"
    team = make_team(database, pairs=11, people=4, overlap=4)
    opine(database, team, [truth + "A", truth + "A", "BB=xAABB=x" + "B", "x=BABBAxA=" + "B"])
    contested = team.pairs[10]
    assert by_pair(database)[contested].choice is None
    weighted = by_pair(database, method="weighted")
    assert weighted[contested].choice == "A"
    assert weighted[contested].support > 0.9
    assert all(weighted[pair].choice == letter for pair, letter in zip(team.pairs, truth, strict=False))


def test_two_equally_reliable_people_who_contradict_each_other_stay_undecided(database: Database) -> None:
    team = make_team(database, pairs=4, people=2, overlap=2)
    opine(database, team, ["AAAA", "BAAA"])
    assert by_pair(database, method="weighted")[team.pairs[0]].choice is None


def test_gold_answers_anchor_the_weights(database: Database) -> None:
    """Without gold nothing tells who of two is right; with it the one who knows the gold pairs is."""
    gold = {place: Gold("A") for place in range(4)}
    team = make_team(database, pairs=5, people=2, overlap=2, gold=gold, qualification_pairs=4, qualification_pass=0.0)
    opine(database, team, ["AAAAA", "BBBBB"])
    found = by_pair(database, method="weighted")
    assert set(found) == {team.pairs[4]}
    assert found[team.pairs[4]].choice == "A"
    assert by_pair(database)[team.pairs[4]].choice is None


def simulated(seed: int, accuracies: list[float], questions: int, gold: int = 0) -> tuple[KnownLabels, list[Choice]]:
    """Labels of the one-coin model itself, with the true answers."""
    rng = np.random.default_rng(seed)
    known, truth = KnownLabels(), [CHOICES[i] for i in rng.integers(4, size=questions)]
    for question, true in enumerate(truth):
        for annotator, accuracy in enumerate(accuracies):
            others = [choice for choice in CHOICES if choice != true]
            known.add(question, annotator, true if rng.random() < accuracy else others[rng.integers(3)])
    known.answers.update({question: truth[question] for question in range(gold)})
    return known, truth


def test_accuracies_of_a_simulated_team_are_found_again() -> None:
    accuracies = [0.95, 0.8, 0.6, 0.3]
    known, truth = simulated(1, accuracies, 2000)
    found = annotator_accuracies(known)
    assert [found[i] for i in range(4)] == pytest.approx(accuracies, abs=0.04)
    weights = annotator_weights(known)
    right = {"weighted": 0, "majority": 0}
    for question, true in enumerate(truth):
        labels = known.choices[4 * question : 4 * question + 4]
        sums = [sum(weights[who] for who, said in enumerate(labels) if said == code) for code in range(4)]
        counts = [list(labels).count(code) for code in range(4)]
        right["weighted"] += posterior(sums)[CHOICES.index(true)] > 0.5
        right["majority"] += counts[CHOICES.index(true)] > 2
    assert right["weighted"] / 2000 > 0.93
    assert right["weighted"] > right["majority"] * 1.1


def test_a_few_lucky_labels_make_nobody_infallible() -> None:
    known = KnownLabels()
    for question in range(3):
        for annotator in range(2):
            known.add(question, annotator, "A")
    assert all(0.7 < accuracy < 0.9 for accuracy in annotator_accuracies(known).values())
    assert annotator_accuracies(KnownLabels()) == {}
