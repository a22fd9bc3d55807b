"""What figures say in words."""

from __future__ import annotations

import plotly.graph_objects as go

from app.analyse.figures.figure_text import figure_text


def test_bars_are_read_out_and_lines_by_their_ends() -> None:
    figure = go.Figure(go.Bar(name="think", x=["subject", "style"], y=[0.91, None]))
    assert figure_text("Accuracy", figure) == "Accuracy. think: subject 0.91."
    figure = go.Figure(go.Bar(x=[0.5], y=["people"], orientation="h"))
    assert figure_text("Accuracy", figure) == "Accuracy. people 0.5."
    figure = go.Figure(go.Scatter(name="quick", mode="lines", x=[1, 2, 3], y=[0.2, 0.9, 0.4]))
    figure.update_layout(xaxis_title="pairs", yaxis_title="accuracy")
    assert figure_text("Growth", figure) == "Growth. accuracy by pairs. quick: from 0.2 to 0.4, between 0.2 and 0.9."


def test_clouds_and_many_traces_are_summed_up() -> None:
    cloud = go.Scatter(name="pairs", mode="markers", x=[1, 2], y=[3.0, float("nan")])
    assert figure_text("Margins", go.Figure(cloud)) == "Margins. pairs: 2 points between 3 and 3."
    table = go.Figure(go.Heatmap(z=[[1, 2], [3, None]]))
    assert figure_text("Confusion", table) == "Confusion. cells between 1 and 3."
    many = go.Figure([go.Bar(name=str(number), x=list(range(20)), y=list(range(20))) for number in range(10)])
    assert figure_text("Many", many).endswith("2 more like these.")
    assert "0: 20 bars between 0 and 19" in figure_text("Many", many)
    guide = go.Scatter(mode="lines", x=[0, 1], y=[0, 1], hoverinfo="skip")
    assert figure_text("Only a guide", go.Figure(guide)) == "Only a guide."
