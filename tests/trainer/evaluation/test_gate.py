"""The gate: verdicts on constructed cases, paired intervals against brute force, scales that no pair helped to fit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import comb
from pathlib import Path

import numpy as np
import pytest

from descore.answer import DIMENSIONS, render_answer
from trainer.data.pairs import LoadedPairs, TrainingPair
from trainer.evaluation.gate import LEAST_CHANGED, Benchmark, Candidate, Gate, compare, judge
from trainer.evaluation.held_out import JudgedPair, JudgedPairs
from trainer.evaluation.paired_tests import cross_fitted, paired_difference, sign_test, with_best_threshold
from trainer.runs.publish import familiar as known_videos

GOOD = dict.fromkeys(DIMENSIONS, "2")
THOUGHT = render_answer("I see what was asked.", GOOD, 5.0)


def contestant(rights: Sequence[bool], labels: Sequence[int], name: str = "one", thought: str = THOUGHT) -> Candidate:
    """Judged pairs whose margins are right or wrong as asked, of different sizes; ties get a small margin."""
    pairs = []
    for index, (right, label) in enumerate(zip(rights, labels, strict=True)):
        margin = (label if right else -label) * (1 + index % 3) if label else 0.1
        pairs.append(
            JudgedPair(f"{index:04d}", label, (margin, 0.0), (-margin, 0.0), (thought, thought), (GOOD, {"camera": "0"}))
        )
    return Candidate(name, JudgedPairs(tuple(pairs), "think-then-score"), 0.5)


def versus(before: Sequence[bool], after: Sequence[bool], benchmark: Benchmark | None = None) -> Gate:
    labels = [1 - 2 * (index % 2) for index in range(len(before))]
    return compare(contestant(after, labels, "new"), contestant(before, labels, "old"), benchmark)


def test_a_clear_rise_is_better_and_the_same_fall_is_worse() -> None:
    low, high = [index % 2 == 0 for index in range(60)], [index % 10 != 0 for index in range(60)]
    risen, fallen = versus(low, high), versus(high, low)
    assert (risen.verdict, fallen.verdict) == ("better", "worse")
    figures = risen.to_dict()
    assert figures["candidate"]["accuracy_without_ties"] == pytest.approx(0.9)
    assert figures["rival"]["accuracy_without_ties"] == pytest.approx(0.5)
    difference = figures["difference"]
    assert difference["difference"] == pytest.approx(0.4)
    assert difference["better"] - difference["worse"] == 24
    assert 0 < difference["interval"][0] < 0.4 < difference["interval"][1]
    assert "90.0 %" in risen.sentence
    assert "50.0 %" in risen.sentence
    assert "+40.0 points" in risen.sentence
    assert fallen.to_dict()["difference"]["interval"] == pytest.approx(
        [-high for high in difference["interval"]][::-1], abs=0.04
    )


def test_a_small_rise_is_not_shown_to_be_better() -> None:
    before = [index % 2 == 0 for index in range(60)]
    after = [right or index in (1, 3, 5) for index, right in enumerate(before)]
    after = [right and index not in (0, 2, 4, 6) for index, right in enumerate(after)]
    gate = versus(before, after)
    assert gate.verdict == "not shown to be better"
    assert "the interval holds 0" in gate.sentence


def test_few_changes_are_no_evidence_even_where_the_interval_says_so() -> None:
    before = [True] * 15 + [False] * 5
    gate = versus(before, [True] * 20)
    assert gate.figures["difference"]["interval"][0] > 0
    assert gate.verdict == "not shown to be better"
    assert "only 5" in gate.sentence
    assert sign_test(LEAST_CHANGED, 0) < 0.05 <= sign_test(LEAST_CHANGED - 1, 0)


@pytest.mark.parametrize("sign", [1, -1])
def test_an_interval_that_the_exact_test_does_not_confirm_is_no_evidence(sign: int) -> None:
    before, after = [False] * 7 + [True] * 53, [True] * 7 + [False] + [True] * 52
    gate = versus(before, after) if sign > 0 else versus(after, before)
    difference = gate.figures["difference"]
    assert min(sign * end for end in difference["interval"]) > 0
    assert difference["sign_test_p"] == pytest.approx(0.0703125)
    assert gate.verdict == "not shown to be better"
    assert "7 of the 8 that came out differently went one way, which can be chance (sign test p = 0.07)." in gate.sentence


def test_held_out_pairs_of_trained_videos_are_counted_and_told_where_they_are_most() -> None:
    one = contestant([True] * 20, [1] * 20)
    half, most = (compare(one, one, familiar={f"{index:04d}" for index in range(count)}) for count in (10, 11))
    assert (half.figures["pairs_of_trained_videos"], most.figures["pairs_of_trained_videos"]) == (10, 11)
    assert "trained on" not in half.sentence
    assert "Both videos of 11 of the 20 held-out pairs" in most.sentence

    def pair(name: str, a: str, b: str) -> TrainingPair:
        return TrainingPair(name, (Path(a), Path(b)), (a, b), "a prompt", 1)

    train, held_out = (pair("1", "a", "b"), pair("2", "b", "c")), (pair("3", "a", "c"), pair("4", "a", "d"))
    assert known_videos(LoadedPairs(train, held_out, ())) == {"3"}


def test_what_is_lost_on_the_benchmark_withholds_the_verdict() -> None:
    low, high = [index % 2 == 0 for index in range(60)], [True] * 60
    labels = np.array([1.0, -1.0, 0.0] * 30)
    lost = Benchmark("a benchmark", labels, rival=labels * 2, candidate=np.where(np.arange(90) < 30, -labels, labels))
    kept = Benchmark("a benchmark", labels, rival=labels * 2, candidate=labels * 3)
    gate = versus(low, high, lost)
    assert gate.verdict == "not shown to be better"
    assert "a benchmark fell from 100.0 % to 66.7 %" in gate.sentence
    assert versus(low, high, kept).verdict == "better"
    assert gate.figures["benchmark"]["difference"] == pytest.approx(-1 / 3)
    # A fall on the benchmark is told also where nothing was shown on the labels.
    assert "a benchmark fell" in versus(high, high, lost).sentence


def test_thoughts_that_lose_their_format_withhold_the_verdict() -> None:
    low, high = [index % 2 == 0 for index in range(60)], [True] * 60
    labels = [1] * 60
    broken = contestant(high, labels, thought="no answer at all")
    gate = compare(broken, contestant(low, labels))
    assert gate.verdict == "not shown to be better"
    assert "keep the format less often, 0.0 %" in gate.sentence
    assert gate.figures["candidate"]["strict_format"] == 0
    assert gate.figures["rival"]["strict_format"] == 1


def test_ties_only_and_no_common_pairs_give_no_verdict() -> None:
    ties = contestant([True] * 12, [0] * 12)
    gate = compare(ties, ties)
    assert gate.verdict == "not shown to be better"
    assert gate.figures["difference"] is None
    assert gate.figures["ties"] == 12
    assert gate.figures["candidate"]["accuracy_without_ties"] is None
    one, other = contestant([True] * 3, [1] * 3), contestant([True] * 3, [1] * 3)
    renamed = tuple(replace(pair, identity=f"x{pair.identity}") for pair in other.judged.pairs)
    nothing = compare(one, replace(other, judged=replace(other.judged, pairs=renamed)))
    assert nothing.figures["pairs"] == 0
    assert nothing.verdict == "not shown to be better"


def test_only_pairs_that_both_could_judge_count() -> None:
    labels = [1] * 20
    one, other = contestant([True] * 20, labels), contestant([False] * 20, labels)
    fewer = replace(other, judged=replace(other.judged, pairs=other.judged.pairs[5:], problems=("pair 1, A: damaged",)))
    figures = compare(one, fewer).to_dict()
    assert figures["pairs"] == 15
    assert figures["left_out"] == ["pair 1, A: damaged"]
    assert figures["difference"]["better"] == 15


def test_sub_scores_are_compared_where_people_gave_some() -> None:
    one = contestant([True] * 12, [1] * 12)
    dimensions = compare(one, one).figures["candidate"]["dimensions"]
    assert dimensions["subject"] == {"known": 12, "agreement": 1.0}
    assert dimensions["camera"] == {"known": 24, "agreement": 0.5}  # of B people said "0"


def test_paradigms_are_judged_by_their_own_score() -> None:
    labels = [1, -1] * 10
    one = contestant([True] * 20, labels)
    quick = replace(one, judged=replace(one.judged, paradigm="discriminative"))  # whose quick margins are the wrong way
    figures = compare(quick, one).to_dict()
    assert (figures["candidate"]["mode"], figures["rival"]["mode"]) == ("quick", "think")
    assert figures["difference"]["difference"] == -1
    assert figures["format"] is None
    assert figures["verdict"] == "worse"
    generative = replace(one, judged=replace(one.judged, paradigm="generative"))  # equal overall scores: all wrong
    assert compare(generative, one).figures["candidate"]["accuracy_without_ties"] == 0


@pytest.mark.parametrize("size", [12, 80])
def test_the_paired_interval_is_the_one_of_brute_force(size: int) -> None:
    rng = np.random.default_rng(size)
    before, after = rng.random(size) < 0.6, rng.random(size) < 0.75
    found = paired_difference(before, after)
    assert found is not None
    change = after.astype(float) - before
    means = change[np.random.default_rng(1).integers(0, size, (40_000, size))].mean(axis=1)
    assert found.interval == pytest.approx(tuple(np.quantile(means, [0.025, 0.975])), abs=1.01 / size)
    assert found.difference == pytest.approx(change.mean())


def test_the_pairing_counts() -> None:
    """Two checkpoints of the same accuracies: a steady gain on the same pairs is seen, one by chance is not."""
    before = [index < 40 for index in range(100)]
    steady, shuffled = [index < 50 for index in range(100)], [index >= 50 for index in range(100)]
    widths = [np.ptp(found.interval) for after in (steady, shuffled) if (found := paired_difference(before, after))]
    assert widths[0] < 0.5 * widths[1]


def test_candidates_that_differ_by_chance_rarely_pass() -> None:
    rng = np.random.default_rng(7)
    verdicts = []
    for _ in range(600):
        changed = rng.random(60) < 0.25
        up = changed & (rng.random(60) < 0.5)
        before, after = changed & ~up, up  # unchanged pairs are wrong for both
        verdicts.append(judge(paired_difference(before, after), None, None)[0])
    assert verdicts.count("better") <= 0.05 * 600
    assert verdicts.count("worse") <= 0.05 * 600


@pytest.mark.parametrize(("better", "worse"), [(0, 0), (3, 3), (9, 2), (1, 12)])
def test_the_sign_test_sums_the_binomial(better: int, worse: int) -> None:
    n, extreme = better + worse, abs(better - worse)
    expected = sum(comb(n, k) for k in range(n + 1) if abs(n - 2 * k) >= extreme) / 2**n
    assert sign_test(better, worse) == pytest.approx(expected)


def test_the_cross_fitted_scale_is_not_flattered_by_its_own_pairs() -> None:
    rng = np.random.default_rng(3)
    flattery = []
    for _ in range(40):
        labels, a, b = rng.integers(-1, 2, 20), rng.normal(size=20), rng.normal(size=20)
        fitted = cross_fitted(a, b, labels, [f"p{index}" for index in range(20)])
        assert fitted is not None
        flattery.append(with_best_threshold(a - b, labels)[1] - fitted.right.mean())
    # Chance is a third; the threshold fitted on the pairs themselves claims clearly more.
    assert np.mean(flattery) > 0.08
    assert cross_fitted(a[:9], b[:9], labels[:9], [str(index) for index in range(9)]) is None


def test_the_cross_fitted_scale_does_not_hang_on_which_video_is_called_a() -> None:
    rng = np.random.default_rng(5)
    labels = rng.integers(-1, 2, 50)
    a, b = labels + rng.normal(size=50), rng.normal(size=50)
    names = [f"p{index}" for index in range(50)]
    turned = rng.random(50) < 0.5
    swapped = np.where(turned, b, a), np.where(turned, a, b), np.where(turned, -labels, labels)
    one, other = cross_fitted(a, b, labels, names), cross_fitted(*swapped, names)
    assert one is not None
    assert other is not None
    assert (one.right == other.right).all()
    assert (one.brier, one.ece, one.eps) == pytest.approx((other.brier, other.ece, other.eps), rel=1e-6)
    assert one.brier < 0.25  # of saying one half always
