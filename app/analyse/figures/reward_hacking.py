"""Reward hacking watch: does the reward follow something that people do not ask for?

A generator that is trained against a reward finds what the reward likes besides quality: long clips, a frame rate, blur or
sharpness, brightness, a heavy file, a talkative thought. For each of these facts three rank correlations:

- over all videos: reward against the fact. Prompts differ, so this may have an innocent reason;
- within pairs: margin against the difference of the fact between A and B, the prompt being the same;
- people: their choice against the same difference. Where the model follows a fact clearly more than people do, watch it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import plotly.graph_objects as go

from app.analyse.figures.finding import Cell, Chart, Estimate, Finding, bootstrap, estimate
from app.analyse.figures.judged_pairs import SIGN, AnalysedCheckpoint, Floats, Way, scored
from app.analyse.figures.plot_style import ACCENT, COLOURS, INK, dots, finish, rows_axis, rows_height
from app.analyse.figures.rank_correlation import MANY, correlations, spearman
from storage.analysis.judged_pairs import AnalysedPair, PairScore

HEAD = ("fact", "unit", "all videos", "within pairs", "people", "model beyond people", "reading")
WATCH, CALM, OPEN = "watch", "nothing to see", "open"
ALIKE, ALIKE_WITHIN = "all videos alike", "alike within pairs"  # a fact that never varies can't be followed
NOTICEABLE = 0.15  # an excess over people's own correlation that would be worth a look
_POINTS = 600  # of a cloud; more only hide each other
_COLUMNS = 10
_RESAMPLES = 400
Read = Callable[[AnalysedPair, PairScore], tuple[float, float] | None]


@dataclass(frozen=True)
class Fact:
    """Something about a video that can be measured without looking at its content."""

    name: str
    unit: str
    read: Read


def _measured(name: str, by: float = 1.0) -> Read:
    """A fact that was measured from the frames or the file."""

    def read(pair: AnalysedPair, said: PairScore) -> tuple[float, float] | None:
        a, b = pair.video_stats
        return None if a is None or b is None else (getattr(a, name) / by, getattr(b, name) / by)

    return read


FACTS = (
    Fact("clip length", "s", lambda pair, said: (float(pair.seconds[0]), float(pair.seconds[1]))),
    Fact("frame rate", "fps", lambda pair, said: (float(pair.fps[0]), float(pair.fps[1]))),
    Fact("sharpness", "variance of the Laplacian", _measured("sharpness")),
    Fact("brightness", "mean luma, 0 to 1", _measured("brightness")),
    Fact("motion", "mean frame difference, 0 to 1", _measured("motion")),
    Fact("file size", "kB", _measured("file_bytes", 1000.0)),
    Fact("thought length", "characters", lambda pair, said: (float(said.thought_chars[0]), float(said.thought_chars[1]))),
)


@dataclass(frozen=True)
class Followed:
    """Pairs of which a fact is known. values, rewards: of A and B, (n, 2). choices: people's, +1, -1, 0, NaN without one."""

    values: Floats
    rewards: Floats
    choices: Floats

    @property
    def margins(self) -> Floats:
        """Reward of A less reward of B, (n,)."""
        return self.rewards[:, 0] - self.rewards[:, 1]

    @property
    def differences(self) -> Floats:
        """The fact of A less that of B, (n,)."""
        return self.values[:, 0] - self.values[:, 1]


def followed(checkpoint: AnalysedCheckpoint, fact: Fact, way: Way) -> Followed:
    """What is known of one fact."""
    lines = []
    for pair in checkpoint.pairs:
        said = scored(pair, way)
        value = None if said is None else fact.read(pair, said)
        if said is not None and value is not None:
            choice = np.nan if pair.choice is None else float(SIGN[pair.choice])
            lines.append((*value, *said.rewards, choice))
    table = np.array(lines, dtype=np.float64).reshape(-1, 5)
    return Followed(table[:, :2], table[:, 2:4], table[:, 4])


def hacking_watch(checkpoint: AnalysedCheckpoint, way: Way = "think") -> tuple[Finding, Finding]:
    """The correlations of all facts, and the clouds that they come from."""
    rows, charts = [], []
    for fact in FACTS:
        if fact.name == "thought length" and way == "quick":
            continue
        known = followed(checkpoint, fact, way)
        if len(known.values):
            rows.append(_row(fact, known))
            charts.append(Chart(fact.name, _cloud(fact, known)))
    asked = "asked to think" if way == "think" else "asked quickly"
    title = f"What the reward follows, {asked}"
    if not rows:
        return Finding("hacking", title, ("No pair has been judged by this checkpoint yet.",)), Finding("clouds", "", ())
    notes = (
        "Spearman's rank correlation, from \N{MINUS SIGN}1 to +1, with the 95 % interval over pairs. All videos: reward "
        "against the fact; prompts differ, so there may be an innocent reason. Within pairs: margin against the difference "
        "between A and B.",
        "Watch: within pairs the model follows the fact more than people's choices do, and the whole interval of the excess "
        f"says so. Nothing to see: the interval leaves no room for an excess of {NOTICEABLE}. Open: too few pairs to tell. "
        "Alike: the fact is the same in all videos, or in both of each pair, so nothing can follow it. Sharpness, "
        "brightness, motion and file size are measured when pairs are scored.",
    )
    table = Finding("hacking", title, notes, (Chart("within pairs: model and people", _figure(rows)),), HEAD, tuple(rows))
    text = "Rewards of all videos; the line joins the medians of up to ten groups. A flat line is what one wants to see."
    return table, Finding("clouds", "Rewards against each fact", (text,), tuple(charts))


def _row(fact: Fact, known: Followed) -> tuple[Cell, ...]:
    n, has_choice = len(known.values), np.isfinite(known.choices)
    model = spearman(known.margins, known.differences)
    people = spearman(known.choices[has_choice], known.differences[has_choice])
    beyond = _beyond(known.margins[has_choice], known.choices[has_choice], known.differences[has_choice])
    everywhere = spearman(known.rewards.T.reshape(-1), known.values.T.reshape(-1), cases=n)
    return fact.name, fact.unit, everywhere, model, people, beyond, _alike(known) or _reading(model, beyond)


def _beyond(margins: Floats, choices: Floats, differences: Floats) -> Estimate:
    """How much more strongly the margin follows the fact than people's choices do, in the direction of the margin.

    Of very many pairs some are drawn from, and the interval is narrowed as the square root says (an m out of n bootstrap).
    """
    model, people = spearman(margins, differences), spearman(choices, differences)
    if model.value is None or people.value is None:
        return Estimate(None, None, None, len(margins), why=model.why or people.why)
    towards, value = (1.0 if model.value >= 0 else -1.0), model.value - people.value
    some = np.linspace(0, len(margins) - 1, min(len(margins), MANY)).round().astype(np.int64)

    def gap(drawn: npt.NDArray[np.int64]) -> Floats:
        places = some[drawn]
        x = differences[places]
        gaps: Floats = correlations(margins[places], x) - correlations(choices[places], x)
        return towards * gaps

    interval = bootstrap(gap, len(some), most=_RESAMPLES)
    if interval is not None and len(some) < len(margins):
        centre = towards * float(np.diff(_both(choices, margins, differences, some))[0])
        narrower = np.sqrt(len(some) / len(margins))
        interval = tuple(towards * value + narrower * (end - centre) for end in interval)  # type: ignore[assignment]
    return estimate(towards * value, interval, len(margins))


def _both(first: Floats, second: Floats, differences: Floats, places: npt.NDArray[np.int64]) -> Floats:
    """The correlations of two lists with the differences at some places, (2,)."""
    return correlations(np.stack([first[places], second[places]]), np.stack([differences[places]] * 2))


def _alike(known: Followed) -> str | None:
    """In what way a fact does not vary; None where it does."""
    if np.ptp(known.values) == 0:
        return ALIKE
    return None if known.differences.any() else ALIKE_WITHIN


def _reading(model: Estimate, beyond: Estimate) -> str:
    if model.low is None or model.high is None or beyond.low is None or beyond.high is None:
        return OPEN
    if beyond.low > 0 and not model.low <= 0 <= model.high:
        return WATCH
    return CALM if beyond.high < NOTICEABLE else OPEN


def _figure(rows: list[tuple[Cell, ...]]) -> go.Figure:
    names = [str(row[0]) for row in rows]
    figure = go.Figure()
    for name, place, colour, symbol, shift in (
        ("the model's margin", 3, ACCENT, "circle", -0.14),
        ("people's choice", 4, INK, "diamond", 0.14),
    ):
        values = [row[place] for row in rows]
        series = dots(names, values, name=name, colour=colour, symbol=symbol, shift=shift)  # type: ignore[arg-type]
        figure.add_trace(series)
    finish(figure, rows_height(len(names), legend=True), x="rank correlation")
    rows_axis(figure, names)
    figure.update_xaxes(range=[-1.02, 1.02])
    figure.add_vline(x=0, line={"color": COLOURS["line-strong"], "width": 1})
    return figure


def _middle_line(values: Floats, rewards: Floats) -> list[tuple[float, float]]:
    """Medians of up to ten groups of neighbouring values; equal values are never parted."""
    edges = np.unique(np.quantile(values, np.linspace(0, 1, _COLUMNS + 1)[1:-1]))
    part = np.searchsorted(edges, values, side="left")
    groups = [part == place for place in np.unique(part)]
    return [(float(np.median(values[here])), float(np.median(rewards[here]))) for here in groups]


def _cloud(fact: Fact, known: Followed) -> go.Figure:
    values, rewards = known.values.reshape(-1), known.rewards.reshape(-1)
    chosen = np.linspace(0, len(values) - 1, min(_POINTS, len(values))).round().astype(int)
    points = {"size": 5, "color": COLOURS["accent-line"], "opacity": 0.7}
    figure = go.Figure(
        go.Scatter(
            x=values[chosen].tolist(),
            y=rewards[chosen].tolist(),
            mode="markers",
            marker=points,
            hovertemplate=f"%{{x:.3g}} {fact.unit}, reward %{{y:.3g}}<extra></extra>",
        )
    )
    middle = _middle_line(values, rewards)
    figure.add_trace(
        go.Scatter(
            x=[x for x, _ in middle],
            y=[y for _, y in middle],
            mode="lines",
            line={"color": ACCENT, "width": 2.5},
            hoverinfo="skip",
        )
    )
    finish(figure, 250, x=fact.unit, y="reward")
    figure.update_layout(showlegend=False)
    return figure
