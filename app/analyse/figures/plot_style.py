"""Common style of all figures: the page's colours, one typeface, thin grid lines, intervals as whiskers.

Figures are drawn in the colours of the light page. On the dark page `static/analyse/figures.js` exchanges each colour for
its dark counterpart, so figures may use the colours of `COLOURS` only.
"""

from __future__ import annotations

from collections.abc import Sequence

import plotly.graph_objects as go

from app.analyse.figures.finding import Estimate

# The light page's, see static/shared/colours.css.
COLOURS = {
    "ink": "#1c2127",
    "faint": "#626b76",
    "line": "#dfe3e8",
    "line-strong": "#c4cad1",
    "panel": "#ffffff",
    "hover": "#eef1f4",
    "bad": "#b42318",
    "accent": "#0f766e",
    "accent-soft": "#dcf1ee",
    "accent-line": "#9fd5ce",
    "a": "#2a6fdb",
    "b": "#e07a1f",
}
INK, FAINT, LINE, ACCENT = COLOURS["ink"], COLOURS["faint"], COLOURS["line"], COLOURS["accent"]
SIDE = {"A": COLOURS["a"], "tie": COLOURS["faint"], "B": COLOURS["b"]}
FONT = "system-ui, -apple-system, Segoe UI, Roboto, Helvetica Neue, Arial, sans-serif"
ROW = 30  # pixels of a row of a dot plot
LEGEND = 56  # pixels of a legend on a phone, where its entries stand one below the other
LONGEST_NAME = 34


def plain_name(text: str, longest: int = LONGEST_NAME) -> str:
    """Make a name fit for a figure: one line, shortened, without characters that Plotly would read as HTML."""
    line = " ".join(text.split()).replace("<", "\N{SINGLE LEFT-POINTING ANGLE QUOTATION MARK}").replace("&", "+")
    return line if len(line) <= longest else line[: longest - 1] + "\N{HORIZONTAL ELLIPSIS}"


def apply_style(figure: go.Figure, height: int, x: str = "", y: str = "") -> go.Figure:
    """Apply the common style to a figure, and return it.

    Args:
        figure: is changed in place.
        height: in pixels.
        x: title of the x axis.
        y: title of the y axis.
    """
    axis = {
        "gridcolor": LINE,
        "linecolor": COLOURS["line-strong"],
        "zerolinecolor": COLOURS["line-strong"],
        "tickfont": {"size": 11.5, "color": FAINT},
        "title": {"font": {"size": 12, "color": FAINT}, "standoff": 8},
        "automargin": True,
        "fixedrange": True,
    }
    figure.update_layout(
        template="none",
        height=height,
        font={"family": FONT, "size": 12.5, "color": INK},
        paper_bgcolor=COLOURS["panel"],
        plot_bgcolor=COLOURS["panel"],
        margin={"l": 8, "r": 14, "t": 12, "b": 8},
        legend={"orientation": "h", "y": 1.0, "yanchor": "bottom", "x": 0, "font": {"size": 12}},
        hoverlabel={"bgcolor": COLOURS["panel"], "bordercolor": COLOURS["line-strong"], "font": {"color": INK}},
        dragmode=False,
    )
    figure.update_xaxes(**axis)
    figure.update_yaxes(**axis)
    if x:
        figure.update_xaxes(title_text=x)
    if y:
        figure.update_yaxes(title_text=y)
    return figure


def dot_trace(
    names: Sequence[str],
    values: Sequence[Estimate],
    *,
    name: str = "",
    colour: str = ACCENT,
    symbol: str = "circle",
    shift: float = 0.0,
) -> go.Scatter:
    """Return a series of a dot plot: a row for each estimate, with a whisker; undefined estimates are left out.

    Args:
        names: one for each estimate, shown when the mouse is over its dot; `name_rows` writes them on the axis.
        values: estimates, the first on top.
        name: of the series in the legend.
        colour: of dots and whiskers.
        symbol: Plotly's name of the marker.
        shift: distance below the row, in rows, so that two series do not lie on each other.
    """
    kept = [
        (row, text, value) for row, (text, value) in enumerate(zip(names, values, strict=True)) if value.value is not None
    ]
    centres, lows, highs = (
        [_axis_value(value, getattr(value, end)) for _, _, value in kept] for end in ("value", "low", "high")
    )
    return go.Scatter(
        x=centres,
        y=[row + shift for row, _, _ in kept],
        mode="markers",
        cliponaxis=False,
        name=name,
        showlegend=bool(name),
        marker={"size": 9, "color": colour, "symbol": symbol, "line": {"width": 1.5, "color": colour}},
        error_x={
            "type": "data",
            "symmetric": False,
            "array": list(map(_gap, highs, centres)),
            "arrayminus": list(map(_gap, centres, lows)),
            "color": colour,
            "thickness": 1.5,
            "width": 3,
        },
        customdata=[
            [text, value.n, *("?" if end is None else f"{_axis_value(value, end):.3g}" for end in (value.low, value.high))]
            for _, text, value in kept
        ],
        hovertemplate="%{customdata[0]}<br>%{x:.3g} (%{customdata[2]} to %{customdata[3]}), n = %{customdata[1]}"
        "<extra></extra>",
    )


def name_rows(figure: go.Figure, names: Sequence[str]) -> None:
    """Write the names of a dot plot's rows on its axis, the first on top."""
    figure.update_yaxes(
        tickmode="array",
        tickvals=list(range(len(names))),
        ticktext=list(names),
        range=[len(names) - 0.5, -0.5],
        showgrid=False,
        zeroline=False,
        tickfont={"size": 12, "color": INK},
    )


def rows_height(rows: int, legend: bool = False) -> int:
    """Return the height of a dot plot in pixels."""
    return 72 + ROW * max(1, rows) + (LEGEND if legend else 0)


def _axis_value(estimate: Estimate, number: float | None) -> float | None:
    """Return a number of an estimate in units of the axis: shares in percent."""
    return None if number is None else 100 * number if estimate.percent else number


def _gap(upper: float | None, lower: float | None) -> float:
    return 0.0 if upper is None or lower is None else max(0.0, upper - lower)
