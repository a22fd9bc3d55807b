"""Agreement of model and people, against cases that were worked out by hand and against other libraries."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from app.analyse.figures.accuracy import HEAD, UNEQUAL, accuracy_by_checkpoint
from app.analyse.figures.calibration import bin_indices, calibration, calibration_error, chance_calibration_error
from app.analyse.figures.disagreements import disagreements
from app.analyse.figures.error_tolerance import error_tolerance, wrong_sub_scores
from app.analyse.figures.familiarity import unfamiliar_videos
from app.analyse.figures.finding import Estimate, Finding, csv_text, share
from app.analyse.figures.judged_pairs import FITTED_HERE, judged_pairs
from app.analyse.figures.margin_distribution import margin_distribution
from app.analyse.figures.slices import accuracy_by_slice, ranges
from app.analyse.figures.sub_scores import cohen_kappa, confusion, overall_contradictions, sub_score_agreement
from app.analyse.figures.think_vs_quick import think_vs_quick
from tests.helpers.analysed import GOOD, checkpoint, pair, pair_score

# Margins with people's choices: right, right, wrong, a tie within eps 0.5, a tie outside of it, a preference within it.
SIX = [
    pair(1, "A", 2.0),
    pair(2, "B", -1.0),
    pair(3, "A", -0.7),
    pair(4, "tie", 0.1),
    pair(5, "tie", 3.0),
    pair(6, "B", -0.4),
]


def cell(finding: Finding, row: int, column: str) -> Estimate:
    """An estimate of a table."""
    finding = finding.rows[row][finding.head.index(column)]
    assert isinstance(finding, Estimate)
    return finding


def test_accuracy_by_hand() -> None:
    finding = accuracy_by_checkpoint([checkpoint([*SIX, pair(7, None, 1.0), pair(8, "A")])])
    assert finding.head == HEAD
    assert finding.rows[0][:4] == ("one", "think", 6, 2)
    assert cell(finding, 0, "accuracy without ties").value == 3 / 4
    # With eps 0.5 pairs 1, 2 and 4 are right; with the best eps, which is 0.1, pair 6 is right too.
    assert cell(finding, 0, "with ties, eps from validation").value == 3 / 6
    assert cell(finding, 0, "with ties, best eps").value == pytest.approx(4 / 6)
    assert finding.rows[0][-1] == 0.1


def test_thoughts_that_contradict_themselves_are_counted() -> None:
    odd = {**GOOD, "dynamics": "0"}
    two = replace(pair_score(1.0, GOOD, odd), overall=(5.0, 4.17))
    unread = replace(pair_score(1.0, None, GOOD), overall=(None, None))
    finding = overall_contradictions(checkpoint([pair(1, "A", think=two), pair(2, None, think=unread), pair(3, "B", 1.0)]))
    assert finding.rows == ((2, 1, share(1, 2)),)
    assert not overall_contradictions(checkpoint([pair(1, "A", think=unread)])).rows


def test_a_checkpoint_without_calibration_gives_no_probability_of_a_disagreement() -> None:
    calibrated, plain = (disagreements(checkpoint(SIX, calibrated=known)) for known in (True, False))
    assert all(row.p_people is not None for row in calibrated)
    assert [row.p_people for row in plain] == [None] * len(plain)
    assert [row.pair.pair_id for row in plain][:2] == [5, 3], "the surest come first all the same"


def test_unfamiliar_videos_are_counted_among_those_that_are_known() -> None:
    two = replace(pair_score(1.0), distance=(0.4, 1.7))
    half = replace(pair_score(1.0), distance=(None, 1.0))
    finding = unfamiliar_videos(checkpoint([pair(1, "A", think=two), pair(2, None, think=half), pair(3, "B", 1.0)]))
    assert finding.rows == (("think", 6, 3, 1, share(1, 3)),)
    assert not unfamiliar_videos(checkpoint(SIX)).rows


def test_a_checkpoint_without_calibration_has_no_honest_eps() -> None:
    finding = accuracy_by_checkpoint([checkpoint(SIX, calibrated=False)])
    assert cell(finding, 0, "with ties, eps from validation").value is None
    assert cell(finding, 0, "with ties, eps from validation").why == "no calibration"


def test_a_scale_that_was_fitted_on_these_pairs_is_not_called_honest() -> None:
    """Figures that hang on a checkpoint's eps or temperature name it where held-out pairs of this store gave them."""
    base, here = checkpoint(SIX), replace(checkpoint(SIX, "retrained"), fitted_here=True)
    for makes in (accuracy_by_checkpoint, lambda some: calibration(some[-1])[0], lambda some: accuracy_by_slice(some[-1])):
        assert f"Trained here: retrained. {FITTED_HERE}" in makes([base, here]).notes
        assert not any(FITTED_HERE in note or "before it saw" in note for note in makes([base]).notes)


def test_lines_of_different_pairs_are_said_to_be() -> None:
    think_only, both = checkpoint(SIX), [pair(1, "A", 1.0, quick=1.0), pair(2, "B", 1.0, quick=1.0), pair(3, "A")]
    assert not set(UNEQUAL) & set(accuracy_by_checkpoint([think_only, checkpoint(SIX, "two")]).notes)
    assert not set(UNEQUAL) & set(accuracy_by_checkpoint([checkpoint(both)]).notes)
    assert set(UNEQUAL) <= set(accuracy_by_checkpoint([think_only, checkpoint(SIX[1:], "two")]).notes)
    assert set(UNEQUAL) <= set(accuracy_by_checkpoint([checkpoint([*both, pair(4, "A", 1.0)])]).notes)


def test_only_ties_leave_accuracy_without_ties_undefined() -> None:
    finding = accuracy_by_checkpoint([checkpoint([pair(1, "tie", 0.1), pair(2, "tie", 2.0)])])
    assert cell(finding, 0, "accuracy without ties") == Estimate(None, None, None, 0, True, "people prefer no video")
    assert cell(finding, 0, "with ties, best eps").value == 1.0


def test_cohen_kappa_by_hand_and_as_scikit_learn_has_it() -> None:
    # 20 + 15 of 50 agree, chance gives half of them (Wikipedia's example of kappa 0.4).
    assert cohen_kappa(np.array([[[20.0, 5.0], [10.0, 15.0]]]))[0] == pytest.approx(0.4)
    assert math.isnan(cohen_kappa(np.array([[[7.0, 0.0], [0.0, 0.0]]]))[0])
    metrics = pytest.importorskip("sklearn.metrics")
    rng = np.random.default_rng(3)
    human, model = rng.integers(0, 4, 200), rng.integers(0, 4, 200)
    model[:120] = human[:120]
    matrix = np.zeros((1, 4, 4))
    np.add.at(matrix[0], (human, model), 1)
    assert cohen_kappa(matrix)[0] == pytest.approx(metrics.cohen_kappa_score(human, model))


def test_confusion_compares_what_both_have_said() -> None:
    flawed = GOOD | {"camera": "0"}
    both = pair(1, "A", human={"A": {"camera": "2"}, "B": {"camera": "N/A"}}, think=pair_score(1.0, GOOD, flawed))
    unread = pair(2, "A", human={"A": {"camera": "2"}}, think=pair_score(1.0, None, GOOD))
    counts = confusion([both, unread, pair(3, "A", 1.0)], "camera")
    assert counts.shape == (1, 4, 4)
    assert counts.sum() == 2
    assert counts[0, 0, 0] == 1
    assert counts[0, 3, 2] == 1
    finding = sub_score_agreement(checkpoint([both, unread]))
    assert [chart.title for chart in finding.charts] == ["camera"]
    assert cell(finding, 0, "equal").value == 0.5
    assert cell(finding, 0, "equal").n == 1


def test_intervals_of_sub_scores_resample_pairs() -> None:
    """Ten sub-scores of one pair are one case: copies of a video's two scores must not narrow the interval."""
    right = {"A": {"camera": "2"}, "B": {"camera": "2"}}
    wrong = {"A": {"camera": "0"}, "B": {"camera": "0"}}
    pairs = [pair(i, "A", human=right if i % 2 else wrong, think=pair_score(1.0, GOOD, GOOD)) for i in range(40)]
    equal = cell(sub_score_agreement(checkpoint(pairs)), 0, "equal")
    assert equal.value == 0.5
    assert equal.n == 40
    assert equal.low is not None
    assert equal.low == pytest.approx(0.35, abs=0.03)


def test_calibration_error_by_hand() -> None:
    # Bin 0.8: mean P 0.8, half of the outcomes 1, weight 2/4. Bin 0.2: mean P 0.2, none 1, weight 2/4.
    p = np.array([0.8, 0.8, 0.2, 0.2])
    assert calibration_error(p, np.array([1.0, 0.0, 0.0, 0.0])) == pytest.approx(0.5 * 0.3 + 0.5 * 0.2)
    assert bin_indices(np.array([0.0, 0.1, 0.999, 1.0])).tolist() == [0, 1, 9, 9]


def test_calibrated_rewards_stay_below_what_chance_gives_and_bold_ones_do_not() -> None:
    rng = np.random.default_rng(0)
    margins = rng.normal(0, 2, 600)
    choices = rng.random(600) < 1 / (1 + np.exp(-margins))
    for bold, calibrated in ((1.0, True), (4.0, False)):
        pairs = [pair(i, "A" if a else "B", float(m * bold)) for i, (m, a) in enumerate(zip(margins, choices, strict=True))]
        summary, bins = calibration(checkpoint(pairs))
        error, chance = summary.rows[0][2], summary.rows[0][3]
        assert isinstance(error, float)
        assert isinstance(chance, float)
        assert (error < chance) is calibrated
        assert sum(int(str(row[2])) for row in bins.rows) == 600
    assert chance_calibration_error(np.full(2000, 0.5)) < chance_calibration_error(np.full(50, 0.5))


def test_human_ties_are_no_outcome_of_a_probability() -> None:
    summary, _ = calibration(checkpoint([pair(1, "A", 1.0), pair(2, "tie", 0.0)]))
    assert summary.rows[0][1] == 1
    assert any("left out here" in note and "Train page counts them as a half" in note for note in summary.notes)


def test_margins_by_label() -> None:
    finding = margin_distribution(checkpoint(SIX))
    lines = {row[1]: row for row in finding.rows}
    assert lines["people prefer A"][2] == 2
    assert lines["people prefer A"][4] == pytest.approx(0.65)
    assert lines["people say tie"][finding.head.index("model says tie")] == share(1, 2)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([3, 3, 5], {"3 words": [0, 1], "5 words": [2]}),
        ([1, 2, 3, 4, 5, 6, 7, 8], {"1–2 words": [0, 1], "3–4 words": [2, 3], "5–6 words": [4, 5], "7–8 words": [6, 7]}),
    ],
)
def test_groups_of_neighbouring_values(values: list[float], expected: dict[str, list[int]]) -> None:
    assert ranges(np.array(values, dtype=float), lambda value: f"{value:.0f}", "words") == expected


def test_values_that_read_the_same_are_one_group() -> None:
    """Few distinct values too: clips of 2.0 s and of 2.002 s are both "2 s", and none of them may vanish."""
    finding = ranges(np.array([2.0, 5.0, 2.002, 2.0]), lambda value: f"{value:.3g}", "s")
    assert {name: sorted(places) for name, places in finding.items()} == {"2 s": [0, 2, 3], "5 s": [1]}


def test_slices_take_every_pair_once_and_generators_twice() -> None:
    pairs = [
        pair(1, "A", 1.0, prompt="one two", generators=("x", "y"), fps=(12.0, 24.0)),
        pair(2, "A", -1.0, prompt="one two three", generators=("x", "x")),
        pair(3, "B", -1.0, prompt="one two", seconds=(2.0, 5.0)),
    ]
    finding = accuracy_by_slice(checkpoint(pairs))
    rows = {(row[0], row[1]): row for row in finding.rows}
    assert rows["length of the prompt", "2 words"][4] == share(2, 2)
    assert rows["length of the longer clip", "5 s"][2] == 1
    assert rows["frame rate", "A and B differ"][2] == 1
    assert rows["frame rate", "12 fps"][2] == 2
    assert rows["generator", "x"][4] == share(1, 2)
    assert rows["generator", "y"][2] == 1


def test_think_against_quick_on_the_same_pairs() -> None:
    pairs = [
        pair(1, "A", 1.0, quick=1.0),
        pair(2, "A", 1.0, quick=-1.0),
        pair(3, "B", -1.0, quick=1.0),
        pair(4, "B", 1.0, quick=-1.0),
        pair(5, "tie", 1.0, quick=1.0),
        pair(6, "A", 1.0),
    ]
    row = think_vs_quick([checkpoint(pairs), checkpoint([], "nothing")]).rows[0]
    assert row[1] == 4
    assert row[5:] == (1, 2, 1, 0)
    assert isinstance(row[4], Estimate)
    assert row[4].value == 0.25


def test_error_tolerance_groups_by_wrong_sub_scores() -> None:
    human = {"A": GOOD, "B": GOOD}
    flawed = GOOD | {"camera": "0", "style": "1"}
    pairs = [
        pair(1, "A", human=human, think=pair_score(1.0, GOOD, GOOD)),
        pair(2, "A", human=human, think=pair_score(1.0, flawed, GOOD)),
        pair(3, "A", human=human, think=pair_score(-1.0, flawed, flawed)),
        pair(4, "A", 1.0),
    ]
    assert [wrong_sub_scores(one) for one in pairs] == [0, 2, 4, None]
    rows = {row[0]: row for row in error_tolerance(checkpoint(pairs)).rows}
    assert set(rows) == {"none", "two", "three or more", "any"}
    assert rows["two"][3] == share(1, 1)
    assert rows["any"][3] == share(1, 2)


def test_the_surest_contradiction_comes_first() -> None:
    finding = disagreements(checkpoint([*SIX, pair(9, "B", 4.0), pair(10, "tie", 0.2)]))
    # At eps 0.5 pair 6, which people prefer B in, is a tie for the model.
    assert [(one.pair.pair_id, one.model_outcome) for one in finding] == [(9, "A"), (5, "A"), (3, "B"), (6, "tie")]
    assert finding[0].p_people == pytest.approx(1 - 1 / (1 + math.exp(-4.0)))


def test_nothing_gives_words_instead_of_figures() -> None:
    empty = checkpoint([pair(1, None, 1.0), pair(2, "A")])
    finding = [
        accuracy_by_checkpoint([empty]),
        accuracy_by_checkpoint([]),
        *calibration(empty),
        margin_distribution(empty),
        sub_score_agreement(empty),
        error_tolerance(empty),
        accuracy_by_slice(empty),
        think_vs_quick([empty]),
    ]
    assert not any(one.charts or one.rows for one in finding)
    assert all(one.notes for one in finding if one.key != "reliability")
    assert disagreements(empty) == ()
    assert len(judged_pairs([], "quick")) == 0


def test_rewards_that_are_no_numbers_are_left_out() -> None:
    assert len(judged_pairs([pair(1, "A", math.nan), pair(2, "A", math.inf), pair(3, "A", 1.0)], "think")) == 1


def test_csv_has_every_number_in_full() -> None:
    finding = Finding("key", "title", head=("name", "share"), rows=(("a, b", share(1, 3)), ("none", None)))
    lines = csv_text(finding).splitlines()
    assert lines[0] == 'name,share,"share, low","share, high","share, n"'
    assert lines[1].startswith('"a, b",0.3333333333333333,0.06')
    assert lines[1].endswith(",3")
    assert lines[2] == "none,,,,"


def test_pairs_that_a_checkpoint_was_trained_on_are_left_out_and_counted() -> None:
    both = [replace(each, quick=each.think) for each in SIX]
    trained = replace(checkpoint(both), trained_on=frozenset({"identity 3", "identity 5", "identity of nobody"}))
    accuracy = accuracy_by_checkpoint([trained])
    assert accuracy.rows[0][HEAD.index("pairs")] == 4
    note = "Labelled pairs that a checkpoint was trained on are left out: one on 2."
    for finding in (
        accuracy,
        calibration(trained)[0],
        accuracy_by_slice(trained),
        think_vs_quick([trained]),
    ):
        assert note in finding.notes
    assert think_vs_quick([trained]).rows[0][1] == 3
    everything = replace(trained, trained_on=frozenset(each.identity for each in both))
    assert "one on 6" in accuracy_by_checkpoint([everything]).notes[-1]
    assert not any("trained on are left out" in text for text in accuracy_by_checkpoint([checkpoint(both)]).notes)
