"""How every figure looks: the page's colours, one typeface, thin grid lines, intervals as whiskers.

Figures are drawn in the colours of the light page; whoever shows one in the dark exchanges each colour for its counterpart
(static/analyse/analyse.js), which is why nothing but `COLOURS` may be used in a figure.
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
ROW = 30  # pixels that a line of a dot plot takes
LEGEND = 56  # what a legend takes on a phone, where its entries stand one below the other
LONGEST_NAME = 34


def plain(text: str, longest: int = LONGEST_NAME) -> str:
    """A name from outside for a figure: one line, cut where it is long, and nothing in it that Plotly would read as HTML."""
    line = " ".join(text.split()).replace("<", "\N{SINGLE LEFT-POINTING ANGLE QUOTATION MARK}").replace("&", "+")
    return line if len(line) <= longest else line[: longest - 1] + "\N{HORIZONTAL ELLIPSIS}"


def finish(figure: go.Figure, height: int, x: str = "", y: str = "") -> go.Figure:
    """Give a figure the common look; x and y are the titles of its axes. height in pixels."""
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


def dots(
    names: Sequence[str],
    values: Sequence[Estimate],
    *,
    name: str = "",
    colour: str = ACCENT,
    symbol: str = "circle",
    shift: float = 0.0,
) -> go.Scatter:
    """A row of dots with whiskers, one line each, the first on top (`rows_axis` sets the lines' names).

    shift: how far below its line, in lines, so that two series do not lie on each other. Undefined values are left out.
    """
    kept = [(place, text, one) for place, (text, one) in enumerate(zip(names, values, strict=True)) if one.value is not None]
    found = [one for _, _, one in kept]
    return go.Scatter(
        x=[_shown(one, one.value) for one in found],
        y=[place + shift for place, _, _ in kept],
        mode="markers",
        cliponaxis=False,
        name=name,
        showlegend=bool(name),
        marker={"size": 9, "color": colour, "symbol": symbol, "line": {"width": 1.5, "color": colour}},
        error_x={
            "type": "data",
            "symmetric": False,
            "array": [_gap(_shown(one, one.high), _shown(one, one.value)) for one in found],
            "arrayminus": [_gap(_shown(one, one.value), _shown(one, one.low)) for one in found],
            "color": colour,
            "thickness": 1.5,
            "width": 3,
        },
        customdata=[
            [text, one.n, *("?" if end is None else f"{_shown(one, end):.3g}" for end in (one.low, one.high))]
            for _, text, one in kept
        ],
        hovertemplate="%{customdata[0]}<br>%{x:.3g} (%{customdata[2]} to %{customdata[3]}), n = %{customdata[1]}"
        "<extra></extra>",
    )


def rows_axis(figure: go.Figure, names: Sequence[str]) -> None:
    """Name the lines of a dot plot, the first on top."""
    figure.update_yaxes(
        tickmode="array",
        tickvals=list(range(len(names))),
        ticktext=list(names),
        range=[len(names) - 0.5, -0.5],
        showgrid=False,
        zeroline=False,
        tickfont={"size": 12, "color": INK},
    )


def rows_height(lines: int, legend: bool = False) -> int:
    """Pixels that a dot plot needs."""
    return 72 + ROW * max(1, lines) + (LEGEND if legend else 0)


def _shown(one: Estimate, number: float | None) -> float | None:
    """A number of an estimate as the axis has it: shares in percent."""
    return None if number is None else 100 * number if one.percent else number


def _gap(upper: float | None, lower: float | None) -> float:
    return 0.0 if upper is None or lower is None else max(0.0, upper - lower)
