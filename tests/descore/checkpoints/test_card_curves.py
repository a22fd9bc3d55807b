"""The curves of a training stage in a checkpoint's card: from a run's log to points, a table and a figure."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from typing import Any

import pytest

from descore.checkpoints.card_curves import curves_svg, curves_table
from descore.checkpoints.manifest import Manifest
from descore.checkpoints.model_card import render_card
from trainer.engine.save_trained import curves

SVG = "{http://www.w3.org/2000/svg}"


def log(steps: int) -> list[dict[str, Any]]:
    """A run's log: quality rises, drift is measured at every fifth step, the rest is not shown."""
    rows: list[dict[str, Any]] = []
    for step in range(steps):
        rows.append({"step": step, "reward_quality": 0.5 + step / (2 * steps), "reward_format": 1.0, "loss": 1.0})
        if step % 5 == 4:
            rows[-1]["drift"] = -0.1 * step
    return rows


def test_points_are_means_over_equal_stretches_and_end_at_the_last_step() -> None:
    found = curves(log(60))
    assert [point["step"] for point in found["points"]] == [*range(3, 61, 3)]
    assert found["points"][0]["reward_quality"] == pytest.approx(0.5 + 1 / 120, abs=1e-4)
    assert found["points"][1]["drift"] == pytest.approx(-0.4)
    assert "drift" not in found["points"][0]
    assert "loss" not in found["points"][0]
    assert "3 steps" in found["about"]


def test_a_short_run_keeps_every_step_and_an_empty_one_shows_nothing() -> None:
    assert [point["step"] for point in curves(log(4))["points"]] == [1, 2, 3, 4]
    assert curves_svg(curves([])) == curves_table(curves([])) == ""


def test_the_table_shows_the_ends_and_leaves_gaps_where_nothing_was_measured() -> None:
    lines = curves_table(curves(log(100))).splitlines()
    assert lines[0] == "| step | quality (R_qual) | format (R_fmt) | drift of anchor rewards |"
    assert lines[2].startswith("| 4 |")
    assert lines[2].endswith("|  |")
    assert lines[-1].startswith("| 100 |")
    assert len(lines) == 10


def test_the_figure_draws_every_point_inside_its_panel() -> None:
    figure = ElementTree.fromstring(curves_svg(curves(log(50))))
    panels = figure.findall(f"{SVG}g")
    assert [panel.find(f"{SVG}text").text for panel in panels] == [  # type: ignore[union-attr]
        "quality (R_qual)", "format (R_fmt)", "drift of anchor rewards",
    ]  # fmt: skip
    for panel, count in zip(panels, (25, 25, 10), strict=True):
        line = panel.find(f"{SVG}polyline")
        assert line is not None
        places = [tuple(map(float, one.split(","))) for one in line.attrib["points"].split()]
        assert len(places) == count
        assert all(0 < x < 240 and 0 < y < 150 for x, y in places)
        assert places == sorted(places)


def test_a_card_shows_before_and_after_and_the_curves_outside_the_lineage() -> None:
    before = {"pairs": 9, "accuracy_without_ties": 0.5, "accuracy_without_ties_interval": [0.4, 0.6]}
    after = {"pairs": 9, "accuracy_without_ties": 0.75, "accuracy_without_ties_interval": [0.7, 0.8]}
    change = {"accuracy_without_ties": 0.25, "accuracy_without_ties_interval": [0.1, 0.4]}
    metrics = {"test": {**after, "before": before, "change": change}}
    card = render_card(Manifest("m", metrics=metrics, lineage={"parent": "p", "curves": curves(log(20))}).to_dict())
    row = "| test | accuracy without ties | 0.500 (0.400 to 0.600) | 0.750 (0.700 to 0.800) | 0.250 (0.100 to 0.400) |"
    assert row in card
    assert "| accuracy without ties | 0.750 (0.700 to 0.800) |" in card
    assert "before: " not in card
    assert "![curves](curves.svg)" in card
    assert '"parent": "p"' in card
    assert '"points"' not in card
    plain = render_card(Manifest("m", metrics={"test": after}).to_dict())
    assert "before" not in plain.lower()
    assert "curves" not in plain.lower()
