"""What a comparison can show: the formula against simulation, and what is read from the store."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from storage.training.model_registry import set_gate
from storage.training.power import comparison_power, detectable_difference, pairs_needed, preference_share
from tests.helpers.labelling import make_team
from tests.helpers.retraining import let_say, make_checkpoint, serve_base

if TYPE_CHECKING:
    from storage import Database


@pytest.mark.parametrize(("difference", "share"), [(0.05, 0.2), (0.15, 0.2), (0.1, 0.3)])
def test_so_many_pairs_show_the_difference_in_four_of_five_cases(difference: float, share: float) -> None:
    pairs = pairs_needed(difference, share)
    better, worse = (share + difference) / 2, (share - difference) / 2
    drawn = np.random.default_rng(0).multinomial(pairs, (better, worse, 1 - share), size=20_000)
    mean = (drawn[:, 0] - drawn[:, 1]) / pairs
    error = np.sqrt(((drawn[:, 0] + drawn[:, 1]) / pairs - mean**2) / pairs)
    assert 0.76 < (mean > 1.96 * error).mean() < 0.88


def test_what_is_detectable_is_what_the_pairs_suffice_for() -> None:
    for pairs in (60, 200, 1000):
        difference = detectable_difference(pairs, 0.2)
        assert difference is not None
        assert pairs_needed(difference, 0.2) <= pairs < pairs_needed(0.98 * difference, 0.2)
    assert detectable_difference(10, 0.2) is None
    assert detectable_difference(0, 0.2) is None


def test_the_share_of_differing_pairs_comes_from_the_last_comparison_with_enough_pairs(database: Database) -> None:
    team = make_team(database, pairs=8, people=1, overlap=1)
    let_say(database, team, 0, "ABAB=ABx")
    with database.write() as session:
        serve_base(session)
        assert preference_share(session) == pytest.approx(0.75)
        usual = comparison_power(session, held_out=400, held_out_share=0.2)
        assert (usual.pairs, usual.differing_share, usual.is_measured) == (300, 0.2, False)
        assert usual.needed_labelled == pytest.approx(usual.needed / 0.75 / 0.2, abs=1)
        for name, pairs in (("old", 60), ("tiny", 12)):
            gate = {"pairs": pairs, "ties": 10, "difference": {"better": 6, "worse": 4}}
            set_gate(session, make_checkpoint(session, name).id, gate)
        measured = comparison_power(session, held_out=400, held_out_share=0.2)
    assert (measured.differing_share, measured.is_measured) == (0.2, True)
    assert measured.detectable is not None


def test_a_store_without_labels_has_no_pairs_to_compare_on(database: Database) -> None:
    with database.write() as session:
        power = comparison_power(session, held_out=0, held_out_share=0.2)
    assert (power.pairs, power.detectable) == (0, None)
