"""Krippendorff's alpha from patterns, against the `krippendorff` package, which takes the answers themselves."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import krippendorff
import numpy as np
import pytest

from storage.labelling import krippendorff as agreement
from storage.labelling.krippendorff import ALL_THE_SAME, NOTHING_ORDERED, NOTHING_YET, TOO_FEW, Level, krippendorff_alpha

VALUES = 4
Counts = Sequence[Sequence[Sequence[int]]]  # pairs, units, values


def patterns_of(counts: Counts) -> dict[str, int]:
    """Counts as the store keeps them."""
    return dict(Counter("|".join(",".join(map(str, unit)) for unit in pair) for pair in counts))


def reference(counts: Counts, level: Level) -> float:
    """The same by the package."""
    units = np.array([unit for pair in counts for unit in pair])
    if level == "ordinal":
        units = units[:, :-1]
    return float(krippendorff.alpha(value_counts=units, level_of_measurement=level))


def random_counts(rng: np.random.Generator, pairs: int, units: int, agreeing: float) -> list[list[list[int]]]:
    """Two to five people on each pair; each says the pair's own value with a probability, else any."""
    counts = np.zeros((pairs, units, VALUES), dtype=int)
    for pair in range(pairs):
        truth = rng.integers(VALUES, size=units)
        for _ in range(rng.integers(2, 6)):
            said = np.where(rng.random(units) < agreeing, truth, rng.integers(VALUES, size=units))
            counts[pair, np.arange(units), said] += 1
    return [[list(map(int, unit)) for unit in pair] for pair in counts]


@pytest.mark.parametrize("level", ["nominal", "ordinal"])
@pytest.mark.parametrize("units", [1, 2])
@pytest.mark.parametrize("agreeing", [0.0, 0.5, 0.95])
def test_value_is_the_one_of_the_package(level: Level, units: int, agreeing: float) -> None:
    rng = np.random.default_rng(units)
    for pairs in (3, 40, 300):
        counts = random_counts(rng, pairs, units, agreeing)
        alpha = krippendorff_alpha(patterns_of(counts), level, resamples=10)
        assert alpha.value == pytest.approx(reference(counts, level), abs=1e-12)
        assert alpha.pairs <= pairs
        assert level == "ordinal" or alpha.answers == sum(np.ravel(counts))


def test_published_example_with_missing_answers() -> None:
    """Krippendorff (2011), data of four observers on twelve units: 0.743 nominal, 0.815 ordinal."""
    answers = [
        [1, 2, 3, 3, 2, 1, 4, 1, 2, 0, 0, 0],
        [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, 0, 3],
        [0, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, 0],
        [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, 0],
    ]
    units = [[[column.count(value) for value in range(1, 7)]] for column in map(list, zip(*answers, strict=True))]
    patterns = patterns_of(units)  # a sixth value, never given, takes the place of N/A
    assert krippendorff_alpha(patterns, "nominal").value == pytest.approx(0.743, abs=5e-4)
    assert krippendorff_alpha(patterns, "ordinal").value == pytest.approx(0.815, abs=5e-4)
    assert krippendorff_alpha(patterns, "nominal").pairs == 11  # the last unit has one answer only


@pytest.mark.parametrize(
    ("patterns", "level", "reason"),
    [
        ({}, "nominal", NOTHING_YET),
        ({}, "ordinal", NOTHING_YET),
        ({"1,0,0,0": 7}, "nominal", NOTHING_YET),
        ({"3,0,0,0": 7}, "nominal", ALL_THE_SAME),
        ({"0,0,0,3|0,0,0,3": 7}, "nominal", ALL_THE_SAME),
        ({"0,0,0,3|0,0,1,2": 7}, "ordinal", NOTHING_ORDERED),
        ({"0,2,0,1|0,3,0,0": 7}, "ordinal", ALL_THE_SAME),
    ],
)
def test_undefined_values_say_why(patterns: dict[str, int], level: Level, reason: str) -> None:
    alpha = krippendorff_alpha(patterns, level)
    assert (alpha.value, alpha.low, alpha.high, alpha.reason) == (None, None, None, reason)


def test_missing_values_are_a_class_of_their_own_only_on_the_nominal_level() -> None:
    patterns = {"2,0,0,1|0,0,3,0": 10, "0,0,2,1|3,0,0,0": 10}
    assert krippendorff_alpha(patterns, "ordinal").value == 1.0
    nominal = krippendorff_alpha(patterns, "nominal").value
    assert nominal is not None
    assert nominal < 0.8


def test_perfect_agreement_contradiction_and_chance() -> None:
    assert krippendorff_alpha({"3,0,0,0": 5, "0,3,0,0": 5}, "nominal").value == 1.0
    contradiction = krippendorff_alpha({"1,1,0,0": 50}, "nominal").value
    assert contradiction is not None
    assert contradiction < 0
    chance = krippendorff_alpha(patterns_of(random_counts(np.random.default_rng(3), 2000, 1, 0.0)), "nominal")
    assert chance.value == pytest.approx(0, abs=0.03)
    assert chance.low is not None
    assert chance.high is not None
    assert chance.low < 0 < chance.high


def test_one_pair_has_a_value_and_no_interval() -> None:
    alpha = krippendorff_alpha({"1,1,0,0": 1}, "nominal")
    assert alpha.value is not None
    assert (alpha.low, alpha.high, alpha.reason) == (None, None, TOO_FEW)
    rarely_varied = krippendorff_alpha({"3,0,0,0": 4, "2,1,0,0": 1}, "nominal")
    assert rarely_varied.value is not None
    assert rarely_varied.low is None
    assert rarely_varied.reason == TOO_FEW


def test_interval_repeats_itself_narrows_with_pairs_and_holds_the_value() -> None:
    rng = np.random.default_rng(5)
    widths = []
    for pairs in (30, 3000):
        patterns = patterns_of(random_counts(rng, pairs, 2, 0.7))
        first, second = (krippendorff_alpha(patterns, "ordinal", seed=1) for _ in range(2))
        assert first == second
        assert first.value is not None
        assert first.low is not None
        assert first.high is not None
        assert first.low < first.value < first.high
        widths.append(first.high - first.low)
    assert widths[1] < widths[0] / 5


@pytest.mark.slow
def test_interval_covers_the_value_of_the_population_about_as_often_as_it_says() -> None:
    rng = np.random.default_rng(11)
    population = random_counts(rng, 4000, 2, 0.7)
    truth = krippendorff_alpha(patterns_of(population), "nominal").value
    assert truth is not None
    hits = 0
    for _ in range(100):
        sample = [population[index] for index in rng.integers(len(population), size=60)]
        alpha = krippendorff_alpha(patterns_of(sample), "nominal", resamples=300)
        assert alpha.low is not None
        assert alpha.high is not None
        hits += alpha.low <= truth <= alpha.high
    assert 86 <= hits <= 100


def test_videos_of_a_pair_stay_together_in_the_bootstrap() -> None:
    """Where both videos of a pair always get the same answers, they are one observation and not two."""
    rng = np.random.default_rng(7)
    single = random_counts(rng, 200, 1, 0.7)
    doubled = [[pair[0], pair[0]] for pair in single]
    one, two = (krippendorff_alpha(patterns_of(counts), "nominal") for counts in (single, doubled))
    assert one.low is not None
    assert one.high is not None
    assert two.low is not None
    assert two.high is not None
    assert two.high - two.low == pytest.approx(one.high - one.low, rel=0.1)


@pytest.mark.slow
@pytest.mark.parametrize("level", ["nominal", "ordinal"])
def test_many_patterns_get_the_interval_that_resampling_gives(level: Level, monkeypatch: pytest.MonkeyPatch) -> None:
    counts = random_counts(np.random.default_rng(2), 4000, 2, 0.6)
    limit = krippendorff_alpha(patterns_of(counts), level, resamples=4000)
    monkeypatch.setattr(agreement, "_MANY_PATTERNS", 10**9)
    resampled = krippendorff_alpha(patterns_of(counts), level, resamples=4000)
    assert len(patterns_of(counts)) > 1000
    assert limit.value == resampled.value
    assert limit.low is not None
    assert limit.high is not None
    assert resampled.low is not None
    assert resampled.high is not None
    assert limit.low == pytest.approx(resampled.low, abs=2e-3)
    assert limit.high == pytest.approx(resampled.high, abs=2e-3)


@pytest.mark.slow
def test_tens_of_thousands_of_different_pairs_are_not_resampled_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    batches: list[int] = []
    alphas = agreement._alpha

    def counted(matrices: agreement.Floats, level: Level) -> agreement.Floats:
        batches.append(len(matrices))
        return alphas(matrices, level)

    monkeypatch.setattr(agreement, "_alpha", counted)
    rng = np.random.default_rng(2)
    drawn = rng.multinomial(14, [0.25] * 4, size=(100_000, 2))
    patterns = {"|".join(",".join(map(str, unit)) for unit in pair): 1 for pair in drawn.tolist()}
    alpha = krippendorff_alpha(patterns, "ordinal")
    assert alpha.value is not None
    assert alpha.pairs > 20_000
    assert batches == [1, agreement.RESAMPLES]  # the alpha itself, and all resamples at once


def test_a_broken_pattern_is_refused() -> None:
    with pytest.raises(ValueError, match="counts of answers"):
        krippendorff_alpha({"2,0,x,0": 1}, "nominal")
