"""What counts as a complete answer, and how it is shown."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from descore.answer import DIMENSIONS
from storage.campaigns.label_schema import as_shown, checked
from storage.errors import AnswerError
from tests.helpers.labelling import FULL, SCORES, answer


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"choice": None}, "choose"),
        ({"choice": "left"}, "one of A, B"),
        ({"strength": None}, "slightly or clearly"),
        ({"strength": "very"}, "slightly or clearly"),
        ({"choice": "tie"}, "no strength"),
        ({"choice": "both_bad"}, "no strength"),
        ({"sub_scores": {}}, "both videos"),
        ({"sub_scores": {"A": SCORES["A"]}}, "both videos"),
        ({"sub_scores": SCORES | {"B": {"subject": "2"}}}, "each video needs"),
        ({"sub_scores": SCORES | {"B": SCORES["B"] | {"style": "3"}}}, "each video needs"),
        ({"sub_scores": SCORES | {"B": SCORES["B"] | {"style": 2}}}, "each video needs"),
        ({"sub_scores": SCORES | {"B": SCORES["B"] | {"beauty": "2"}}}, "asks only"),
        ({"sub_scores": "2"}, "for each video"),
        ({"marks": ({"video": "A", "time": 3.01},)}, "outside"),
        ({"marks": ({"video": "A", "time": -0.1},)}, "outside"),
        ({"marks": ({"video": "C", "time": 1},)}, "names a video"),
        ({"marks": ({"video": "A", "time": float("nan")},)}, "number"),
        ({"marks": ({"video": "A", "time": 1},) * 51}, "at most 50"),
        ({"note": "x" * 4001}, "4,001 characters"),
        ({"note": None}, "text"),
        ({"note": "a\x00b"}, "can't be stored"),
        ({"seconds": -1}, "negative"),
        ({"seconds": float("inf")}, "number"),
        ({"seconds": True}, "number"),
        ({"playback": {"A": {"watched": 1.01}}}, "between 0 and 1"),
        ({"playback": {"A": {"plays": 1.5}}}, "whole number"),
        ({"playback": {"left": {}}}, "each video"),
        ({"action": "withdraw", "choice": None, "strength": None}, "labelled, skipped or flagged"),
        ({"action": "skip"}, "skip needs a reason"),
        ({"action": "flag", "reason": "  "}, "flag needs a reason"),
    ],
)
def test_an_answer_that_is_not_valid_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(AnswerError, match=message):
        checked(replace(FULL, **changes), DIMENSIONS, 2.5, 2.5)


def test_where_no_sub_scores_are_asked_none_are_taken() -> None:
    assert checked(answer(sub_scores={"A": {}, "B": {}}), (), 1, 1).sub_scores == {}
    with pytest.raises(AnswerError, match="asks no sub-scores"):
        checked(answer(sub_scores=SCORES), (), 1, 1)
    assert checked(answer(seconds=1e9), (), 1, 1).seconds == 24 * 3600
    only = checked(replace(FULL, action="skip", reason="no idea"), DIMENSIONS, 2.5, 2.5)
    assert (only.choice, only.strength, only.sub_scores, only.note) == (None, None, {}, FULL.note)


def test_an_answer_is_shown_by_sides() -> None:
    straight, swapped = as_shown(FULL, "A"), as_shown(FULL, "B")
    assert (straight["choice"], swapped["choice"]) == ("right", "left")
    assert straight["sub_scores"]["left"] == swapped["sub_scores"]["right"] == FULL.sub_scores["A"]
    assert [mark["side"] for mark in swapped["marks"]] == ["right", "left"]
    assert swapped["playback"]["right"]["plays"] == 3
    assert as_shown(answer("tie"), "B")["choice"] == "tie"
    assert "'A'" not in repr(swapped)
