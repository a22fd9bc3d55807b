"""Figures of health: their definitions on small cases, and that parts of a step add up to the whole."""

from __future__ import annotations

import math

import pytest

from storage.training.alarms import BOUNDS
from trainer.objectives.group_rewards import GroupRewards, rule_rewards
from trainer.objectives.health import health_figures, health_sums, repeated_ngrams
from trainer.objectives.rollout_reward import RolloutReward, RolloutRewardConfig
from trainer.rollouts.sampling import SampledThoughts


def rewards(*totals: tuple[float, ...], known: tuple[bool, ...]) -> GroupRewards:
    return GroupRewards(tuple(tuple(RolloutReward(x, 1.0, 1.0, x) for x in group) for group in totals), known)


# Two videos with two rollouts each; all tokens of the second rollout are the same one.
SAMPLED = SampledThoughts(
    ids=(((1, 2, 3, 4, 5), (7,) * 8), ((1, 2), (1, 2, 3, 4))),
    texts=(("a", "b"), ("c", "d")),
    ended=((True, False), (True, True)),
    ends=((9, None), (9, 9)),
    log_probs=(((-0.5,) * 6, (0.0,) * 8), ((-2.0,) * 3, (-1.0,) * 5)),
)
REWARDS = rewards((0.5, 0.5), (0.2, 0.9), known=(True, True))


@pytest.mark.parametrize(
    ("ids", "share"),
    [
        ([1, 2, 3, 4, 5], 0.0),
        ([1, 2, 3], 0.0),  # too short for one
        ([7] * 8, 4 / 5),  # five 4-grams, all the same
        ([1, 2, 3, 4, 1, 2, 3, 4], 1 / 5),  # 1234 stands there twice among five
    ],
)
def test_repetition_is_the_share_of_4_grams_that_stood_there_before(ids: list[int], share: float) -> None:
    assert repeated_ngrams(ids) == pytest.approx(share)


def test_figures_are_means_weighted_by_counts() -> None:
    figures = health_figures(health_sums(SAMPLED, REWARDS))
    assert figures["cut_off"] == 1 / 4
    assert figures["repetition"] == pytest.approx(4 / 5 / 4)
    assert figures["entropy"] == pytest.approx((6 * 0.5 + 3 * 2.0 + 5 * 1.0) / 22)  # of tokens, not of rollouts
    assert figures["no_spread"] == 1 / 2


def test_sums_of_two_processes_are_those_of_one() -> None:
    whole = health_sums(SAMPLED, REWARDS)
    parts = [
        health_sums(SAMPLED.of_videos([video]), rewards(totals, known=(True,)))
        for video, totals in enumerate(((0.5, 0.5), (0.2, 0.9)))
    ]
    assert {name: sum(part[name] for part in parts) for name in whole} == pytest.approx(whole)


def test_a_process_without_pairs_has_the_same_names_and_adds_nothing() -> None:
    nothing = health_sums(SampledThoughts.joined([]), GroupRewards((), ()))
    assert nothing.keys() == health_sums(SAMPLED, REWARDS).keys()
    assert not any(nothing.values())
    assert set(health_figures(nothing).values()) == {None}


def test_the_mean_surprise_of_samples_is_the_entropy_of_what_they_were_drawn_from() -> None:
    shares = (0.5, 0.25, 0.125, 0.125)  # each token as often as it is likely
    drawn = [math.log(p) for p in shares for _ in range(round(80 * p))]
    sampled = SampledThoughts((((0,) * 80,),), (("",),), ((True,),), ((None,),), ((tuple(drawn),),))
    entropy = -sum(p * math.log(p) for p in shares)
    assert health_figures(health_sums(sampled, rewards((1.0,), known=(False,))))["entropy"] == pytest.approx(entropy)


def test_a_group_without_truth_is_not_one_without_spread_and_has_no_advantage() -> None:
    groups = rewards((0.5, 0.5), (0.2, 0.9), (0.1, 0.7), known=(True, True, False))
    assert groups.without_spread == [0]
    assert groups.teaches == [False, True, False]
    assert groups.advantages().reshape(3, 2).ne(0).any(-1).tolist() == groups.teaches
    assert health_sums(SAMPLED, groups)["groups"] == 2


def test_the_rule_knows_nothing_of_a_video_without_sub_scores() -> None:
    found = rule_rewards(SAMPLED, [{"subject": "2"}, {}], RolloutRewardConfig(length_low=1, length_high=4))
    assert found.known == (True, False)
    assert [score.quality for score in found.flat] == [0.0, 0.0, None, None]
    assert found.scores[1][0].length == pytest.approx(1 / 3)


def test_bounds_of_shares_are_of_figures_that_are_measured_here() -> None:
    measured = health_figures(health_sums(SAMPLED, REWARDS)).keys()
    assert measured <= {bound.figure for bound in BOUNDS}
