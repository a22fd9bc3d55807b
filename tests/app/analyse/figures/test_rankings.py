"""What rewards follow, and who made the better videos."""

from __future__ import annotations

import math
import random

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.stats import spearmanr
from sklearn.linear_model import LogisticRegression

from app.analyse.figures.bradley_terry import comparable, strengths, win_matrix
from app.analyse.figures.finding import Estimate
from app.analyse.figures.judged_pairs import judged_pairs
from app.analyse.figures.leaderboard import comparisons_of, fit_strengths, leaderboard, rank_agreement
from app.analyse.figures.rank_correlation import MANY, spearman
from app.analyse.figures.reward_hacking import ALIKE, ALIKE_WITHIN, CALM, HEAD, WATCH, reward_hacking
from storage.analysis.judged_pairs import AnalysedPair, PairScore
from storage.analysis.video_stats import VideoStats
from tests.helpers.analysed import checkpoint, pair, pair_score


def test_spearman_is_scipys_and_its_interval_holds_it() -> None:
    rng = np.random.default_rng(1)
    x = rng.integers(0, 5, 120).astype(float)
    y = x + rng.normal(0, 2, 120)
    result = spearman(x, y)
    assert result.value == pytest.approx(spearmanr(x, y).statistic)
    assert result.n == 120
    assert result.value is not None
    assert result.low is not None
    assert result.high is not None
    assert result.low < result.value < result.high


def test_fisher_and_bootstrap_intervals_agree_where_one_hands_over_to_the_other() -> None:
    rng = np.random.default_rng(2)
    x = rng.normal(size=MANY)
    y = 0.5 * x + rng.normal(size=MANY)
    drawn, computed = spearman(x[:-1], y[:-1]), spearman(x, y)
    for first, second in ((drawn.low, computed.low), (drawn.high, computed.high)):
        assert first is not None
        assert first == pytest.approx(second, abs=0.012)


def test_both_videos_of_a_pair_are_one_case() -> None:
    """200 values of 100 pairs that say the same twice must not give the interval of 200 cases."""
    rng = np.random.default_rng(3)
    x, y = rng.normal(size=100), rng.normal(size=100)
    once, twice = spearman(x, y), spearman(np.tile(x, 2), np.tile(y, 2), cases=100)
    widths = [one.high - one.low for one in (once, twice) if one.high is not None and one.low is not None]
    assert twice.n == 100
    assert widths[1] == pytest.approx(widths[0], rel=0.1)


@pytest.mark.parametrize(("x", "why"), [([1.0, 2.0, 3.0], "too few pairs"), ([5.0] * 6, "all values are the same")])
def test_a_correlation_of_nothing_says_why(x: list[float], why: str) -> None:
    result = spearman(x, list(range(len(x))))
    assert result.value is None
    assert result.why == why


def biased(bias: float, number: int = 250) -> list[AnalysedPair]:
    """Pairs whose better video is what people choose, and whose rewards also count the clip's length with this weight."""
    rng, pairs = random.Random(5), []
    for i in range(number):
        quality, seconds = (rng.gauss(0, 1), rng.gauss(0, 1)), (rng.choice([2.0, 4.0]), rng.choice([2.0, 4.0]))
        rewards = tuple(q + bias * s + rng.gauss(0, 0.3) for q, s in zip(quality, seconds, strict=True))
        facts = tuple(
            VideoStats(2 * i + k, rng.gauss(500, 50), rng.random(), rng.random(), 16, rng.randint(1, 9)) for k in (0, 1)
        )
        scores = PairScore(
            (rewards[0], rewards[1]), (None, None), (True, True), (rng.randint(90, 110), rng.randint(90, 110))
        )
        choice = "A" if quality[0] > quality[1] else "B"
        pairs.append(pair(i, choice, think=scores, seconds=seconds, video_stats=facts))  # type: ignore[arg-type]
    return pairs


@pytest.mark.slow
def test_a_reward_that_counts_seconds_is_noticed_and_a_fair_one_is_not() -> None:
    hacked, _ = reward_hacking(checkpoint(biased(0.5)))
    fair, clouds = reward_hacking(checkpoint(biased(0.0)))
    assert {row[0]: row[-1] for row in hacked.rows}["clip length"] == WATCH
    assert [row[-1] for row in fair.rows if row[0] != "frame rate"] == [CALM] * 6
    assert len(clouds.charts) == 7
    frame_rate = next(row for row in fair.rows if row[0] == "frame rate")[HEAD.index("within pairs")]
    assert isinstance(frame_rate, Estimate)
    assert frame_rate.why == "all values are the same"


def test_a_fact_that_never_varies_is_not_open() -> None:
    """More pairs would not tell more of a frame rate that all videos have, or that both of each pair have."""
    pairs = [
        pair(i, "A" if i % 3 else "B", think=pair_score(float(i % 7)), seconds=(2.0, 2.0), fps=(12.0 + i % 2, 12.0 + i % 2))
        for i in range(40)
    ]
    rows = {row[0]: row[-1] for row in reward_hacking(checkpoint(pairs))[0].rows}
    assert rows["clip length"] == ALIKE == "all videos alike"
    assert rows["frame rate"] == ALIKE_WITHIN


def test_watching_without_judgements_labels_or_facts() -> None:
    assert not reward_hacking(checkpoint([pair(1, "A")]))[0].rows
    unlabelled = [pair(i, None, think=pair_score(float(i % 7)), seconds=(float(i % 5), 2.0)) for i in range(40)]
    rows = {row[0]: row for row in reward_hacking(checkpoint(unlabelled))[0].rows}
    assert "sharpness" not in rows
    people = rows["clip length"][HEAD.index("people")]
    assert isinstance(people, Estimate)
    assert people.value is None


def test_strengths_are_the_closed_form_of_two_generators() -> None:
    """With 30 wins against 10 the log-odds are ln 3; the ridge takes less than a percent of it."""
    first, second = np.zeros(40, dtype=np.int64), np.ones(40, dtype=np.int64)
    wins = win_matrix(first, second, np.array([1.0] * 30 + [0.0] * 10), 2)
    assert wins.tolist() == [[0, 30], [10, 0]]
    result = strengths(wins)
    assert result[0] - result[1] == pytest.approx(math.log(3), rel=0.01)
    assert result.sum() == pytest.approx(0)


def test_ties_pull_together_and_a_winner_of_all_stays_finite() -> None:
    first, second = np.zeros(20, dtype=np.int64), np.ones(20, dtype=np.int64)
    tied = strengths(win_matrix(first, second, np.full(20, 0.5), 2))
    assert tied == pytest.approx(np.zeros(2), abs=1e-9)
    won = strengths(win_matrix(first, second, np.ones(20), 2))
    assert 3 < won[0] - won[1] < 20
    assert strengths(np.zeros((3, 3))).tolist() == [0, 0, 0]


def test_strengths_are_the_maximum_of_the_likelihood() -> None:
    """As a general optimiser finds it, from duels of known strengths that come back."""
    rng = np.random.default_rng(4)
    true = np.array([-1.0, -0.2, 0.3, 0.9])
    first, second = (rng.integers(0, 4, 6000) for _ in range(2))
    first, second = first[first != second], second[first != second]
    outcomes = (rng.random(len(first)) < 1 / (1 + np.exp(true[second] - true[first]))).astype(float)
    signed = 2 * outcomes - 1

    def loss(s: np.ndarray) -> float:
        return float(np.log1p(np.exp(-signed * (s[first] - s[second]))).sum())

    best = minimize(loss, np.zeros(4)).x
    result = strengths(win_matrix(first, second, outcomes, 4))
    assert result == pytest.approx(best - best.mean(), abs=0.005)
    assert result == pytest.approx(true, abs=0.2)


def test_strengths_are_those_of_a_logistic_regression() -> None:
    """Of scikit-learn's, with the same ridge: few and many generators, met rarely and often, one that wins or loses all."""
    rng = np.random.default_rng(7)
    for generators, most in ((2, 3), (5, 40), (12, 6), (8, 1000)):
        for unbeaten in (False, True):
            wins = np.floor(rng.random((generators, generators)) ** 3 * most) / 2  # a tie counts half for each
            np.fill_diagonal(wins, 0)
            wins[0, 1] += 1
            if unbeaten:
                wins[:, 0] = 0
            winners, losers = np.nonzero(wins)
            sides = np.eye(generators)[winners] - np.eye(generators)[losers]
            features, classes = np.concatenate([sides, -sides]), np.repeat([1, 0], len(winners))
            # Each win stands there from either side, since there have to be two classes.
            model = LogisticRegression(C=50.0, fit_intercept=False, solver="newton-cholesky", tol=1e-10)
            model.fit(features, classes, sample_weight=np.tile(wins[winners, losers], 2))
            assert strengths(wins) == pytest.approx(model.coef_[0] - model.coef_[0].mean(), abs=1e-3)


def test_only_generators_that_are_linked_are_ranked() -> None:
    assert comparable(np.array([[0, 1, 0, 0], [0, 0, 0, 0], [0, 0, 0, 3], [0, 0, 0, 0.0]])).sum() == 2
    pairs = [pair(i, "A", 1.0, generators=names) for i, names in enumerate([("x", "y"), ("y", "z"), ("p", "q")])]
    result = comparisons_of(
        judged_pairs([*pairs, pair(8, "A", 1.0, generators=("x", "x")), pair(9, "A", 1.0)], "think"), 0.5
    )
    assert result is not None
    assert result.names == ("x", "y", "z")
    assert len(result.first) == 2


def arena(model_is_right: bool, number: int = 240) -> list[AnalysedPair]:
    """Five generators of rising quality; the model follows people, or says the opposite."""
    rng, names, pairs = random.Random(6), "abcde", []
    for i in range(number):
        x, y = rng.sample(names, 2)
        margin = names.index(x) - names.index(y) + rng.gauss(0, 1.5)
        choice = "A" if margin > 0 else "B"
        pairs.append(pair(i, choice, margin if model_is_right else -margin, generators=(x, y)))  # type: ignore[arg-type]
    return pairs


@pytest.mark.slow
@pytest.mark.parametrize(("right", "rho"), [(True, 1.0), (False, -1.0)])
def test_leaderboards_side_by_side(right: bool, rho: float) -> None:
    result = leaderboard(checkpoint(arena(right)))
    assert [row[0] for row in result.rows] == list("edcba")
    assert [row[2] for row in result.rows] == [1, 2, 3, 4, 5]
    assert [row[4] for row in result.rows] == ([1, 2, 3, 4, 5] if right else [5, 4, 3, 2, 1])
    both = comparisons_of(judged_pairs(arena(right), "think"), 0.5)
    assert both is not None
    agreement = rank_agreement(fit_strengths(both))
    assert agreement.value == pytest.approx(rho)
    assert agreement.low is not None
    assert agreement.n == 5
    assert f"{abs(rho):.2f}" in result.notes[0]
    assert "240 pairs" in result.notes[0]


def rare_arena() -> list[AnalysedPair]:
    """The five generators, one with three pairs of its own, of which it loses each, and one with a single pair."""
    weak = [pair(1000 + i, "A", 3.0, generators=("e", "weak")) for i in range(3)]
    return [*arena(True), *weak, pair(2000, "B", -1.0, generators=("once", "a"))]


@pytest.mark.slow
def test_a_generator_counts_its_own_pairs_and_the_draws_that_have_it() -> None:
    result = leaderboard(checkpoint(rare_arena()))
    rows = {row[0]: row for row in result.rows}
    for place in (3, 5):
        assert all(isinstance(row[place], Estimate) and row[place].n == row[1] for row in result.rows)  # type: ignore[union-attr]
        weak, once = rows["weak"][place], rows["once"][place]
        assert isinstance(weak, Estimate)
        assert isinstance(once, Estimate)
        # It lost all three, so no draw that has it puts it near 0, where a draw without it did.
        assert weak.value is not None
        assert weak.high is not None
        assert weak.high < -0.4
        assert once.n == 1
        assert once.low is None
    assert "95 % interval" in result.notes[0]


@pytest.mark.slow
def test_a_draw_that_misses_a_generator_leaves_the_others_where_they_were() -> None:
    """Strengths have mean 0, so without the weakest one all others would sink."""
    both = comparisons_of(judged_pairs(rare_arena(), "think"), 0.5)
    assert both is not None
    strengths, weak = fit_strengths(both), both.names.index("weak")
    gone = np.isnan(strengths.people_drawn[:, weak])
    assert (gone == np.isnan(strengths.model_drawn[:, weak])).all()
    assert 3 <= gone.sum() <= 30
    common = [both.names.index(name) for name in "abcde"]
    means = [strengths.people_drawn[rows][:, common].mean() for rows in (gone, ~gone)]
    assert means[0] == pytest.approx(means[1], abs=0.15)  # 0.4 apart where an absent one counts as 0


@pytest.mark.slow
def test_without_generators_the_leaderboard_says_so() -> None:
    assert "names two different generators" in leaderboard(checkpoint([pair(1, "A", 1.0)])).notes[0]
    two = leaderboard(checkpoint([pair(i, "A", 1.0, generators=("x", "y")) for i in range(5)]))
    assert len(two.rows) == 2
    assert "fewer than 3 generators" in two.notes[0]
