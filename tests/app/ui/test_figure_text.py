"""What figures say in words."""

from __future__ import annotations

from typing import Any

from app.ui.figure_text import figure_text

NAN = float("nan")


def said(title: str, *data: dict[str, Any], **layout: Any) -> str:
    return figure_text(title, {"data": list(data), "layout": layout})


def test_bars_are_read_out_and_lines_by_their_ends() -> None:
    bars = {"type": "bar", "name": "think", "x": ["subject", "style"], "y": [0.91, None]}
    assert said("Accuracy", bars) == "Accuracy. think: subject 0.91."
    assert said("Accuracy", {"type": "bar", "x": [0.5], "y": ["people"], "orientation": "h"}) == "Accuracy. people 0.5."
    line = {"type": "scatter", "name": "quick", "mode": "lines", "x": [1, 2, None, 3], "y": [0.2, 0.9, None, 0.4]}
    axes = {"xaxis": {"title": {"text": "pair"}}, "yaxis": {"title": {"text": "accuracy"}}}
    assert said("Growth", line, **axes) == (
        "Growth. accuracy by pair. quick: from 0.2 at pair 1 to 0.4 at pair 3, between 0.2 and 0.9."
    )
    assert said("Growth", line) == "Growth. quick: from 0.2 at 1 to 0.4 at 3, between 0.2 and 0.9."


def test_clouds_and_many_traces_are_summed_up() -> None:
    cloud = {"type": "scatter", "name": "pairs", "mode": "markers", "x": [1, 2, 3], "y": [3.0, NAN, 4.0]}
    assert said("Margins", cloud) == "Margins. pairs: 2 points between 3 and 4."
    assert said("Margins", {"type": "scatter", "mode": "markers", "x": [1], "y": [NAN]}) == "Margins."
    assert said("Confusion", {"type": "heatmap", "z": [[1, 2], [3, None]]}) == "Confusion. cells between 1 and 3."
    many = [{"type": "bar", "name": str(number), "x": list(range(20)), "y": list(range(20))} for number in range(10)]
    assert said("Many", *many).endswith("2 more like these.")
    assert "0: 20 bars between 0 and 19" in said("Many", *many)
    guide = {"type": "scatter", "mode": "lines", "x": [0, 1], "y": [0, 1], "hoverinfo": "skip"}
    assert said("Only a guide", guide) == "Only a guide."
