"""Sentences of the Lead page."""

from __future__ import annotations

from dataclasses import replace

from app.lead.views.campaigns import in_all, without_gold
from storage.campaigns.progress import Progress

COUNTS = Progress(12, 12, 37, 36, 0, 0, 0, 0, 1, given=36, on_gold=2, on_dropped=0, checks=4)


def test_the_total_says_what_it_is_made_up_of() -> None:
    sentence = "43 labels in all: 36 of the 36 needed, 1 beyond that, 2 on pairs that became gold, 4 answers to gold pairs"
    assert in_all(COUNTS) == f"{sentence} and repeats."
    bare = replace(COUNTS, labels=36, on_gold=0, checks=0)
    assert in_all(bare) == "36 labels in all: 36 of the 36 needed."
    assert "5 on dropped pairs" in in_all(replace(bare, on_dropped=5))


def test_gold_pairs_that_are_missing_are_named_only_where_they_are_asked_for() -> None:
    assert "gold pairs and has none" in without_gold(0.05, 0)
    assert without_gold(0.05, 3) == without_gold(0.0, 0) == ""
