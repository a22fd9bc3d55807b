"""The band that sub-scores imply, and the overall scores that contradict it."""

from __future__ import annotations

from itertools import product

import pytest

from descore.answer import DIMENSIONS, SUB_SCORES
from descore.overall_score import check_overall
from trainer.shapeworld.scene import overall_score


def scores(letters: str) -> dict[str, str]:
    return dict(zip(DIMENSIONS, ("N/A" if letter == "-" else letter for letter in letters), strict=True))


@pytest.mark.parametrize(
    ("letters", "low", "high"),
    [
        ("22222", 5, 5),
        ("22-2-", 5, 5),
        ("2-222", 5, 5),
        ("22000", 4, 5),
        ("12222", 3, 4),
        ("11222", 3, 4),
        ("02222", 2, 3),
        ("01222", 2, 3),
        ("00222", 1, 2),
    ],
)
def test_primaries_choose_the_band(letters: str, low: float, high: float) -> None:
    check = check_overall(scores(letters), None)
    assert (check.low, check.high, check.contradicts) == (low, high, False)


@pytest.mark.parametrize(
    ("letters", "overall", "contradicts"),
    [
        ("20010", 4.17, True),
        ("20010", 2.58, False),
        ("20010", 3.25, False),
        ("20010", 3.26, True),
        ("20010", 1.74, True),
        ("22222", 4.75, False),
        ("22222", 4.5, True),
    ],
)
def test_an_overall_score_outside_its_band_contradicts(letters: str, overall: float, contradicts: bool) -> None:
    assert check_overall(scores(letters), overall).contradicts is contradicts


def test_no_true_answer_of_shapeworld_contradicts_itself() -> None:
    for primary in product("210", repeat=2):
        for secondary in product(SUB_SCORES, repeat=3):
            given = dict(zip(DIMENSIONS, primary + secondary, strict=True))
            assert not check_overall(given, overall_score(given)).contradicts, given
