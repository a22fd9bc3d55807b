"""Reward hacking watch: whether the reward follows features of the videos that people do not ask for.

A generator that is trained against a reward finds everything that raises it besides quality: long clips, a frame rate, blur
or sharpness, brightness, a large file, a long thought. Each of these features gets three rank correlations:

- over all videos: reward against the feature. Prompts differ, so there may be an innocent reason;
- within pairs: margin against the difference of the feature between A and B, which have the same prompt;
- people: their choice against the same difference. "watch" marks features that the model follows clearly more than people.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import plotly.graph_objects as go

from app.analyse.figures.finding import Cell, Chart, Estimate, Finding, Floats, bootstrap, estimate
from app.analyse.figures.judged_pairs import MODE_TITLES, SIGN, AnalysedCheckpoint, Mode, pair_score
from app.analyse.figures.plot_style import ACCENT, COLOURS, INK, apply_style, dot_trace, name_rows, rows_height
from app.analyse.figures.rank_correlation import MANY, correlations, spearman
from storage.analysis.judged_pairs import AnalysedPair, PairScore

HEAD = ("fact", "unit", "all videos", "within pairs", "people", "model beyond people", "reading")
WATCH, CALM, OPEN = "watch", "nothing to see", "open"
ALIKE, ALIKE_WITHIN = "all videos alike", "alike within pairs"  # a feature that never varies can't be followed
NOTICEABLE = 0.15  # an excess over people's own correlation that is worth a look
_MOST_POINTS = 600  # of a scatter plot; more would hide each other
_MOST_MEDIANS = 10
_RESAMPLES = 400
Read = Callable[[AnalysedPair, PairScore], tuple[float, float] | None]


@dataclass(frozen=True)
class Feature:
    """A property of a video that can be measured without understanding its content.

    Attributes:
        name: as in the table.
        unit: of its values.
        read: returns the values of A and B, or None where they were not measured.
    """

    name: str
    unit: str
    read: Read


def _measured(name: str, by: float = 1.0) -> Read:
    """Return the reader of a feature that was measured from the frames or the file, in units of `by`."""

    def read(pair: AnalysedPair, _: PairScore) -> tuple[float, float] | None:
        a, b = pair.video_stats
        return None if a is None or b is None else (getattr(a, name) / by, getattr(b, name) / by)

    return read


def _floats(values: tuple[float, float]) -> tuple[float, float]:
    return float(values[0]), float(values[1])


FEATURES = (
    Feature("clip length", "s", lambda pair, _: _floats(pair.seconds)),
    Feature("frame rate", "fps", lambda pair, _: _floats(pair.fps)),
    Feature("sharpness", "variance of the Laplacian", _measured("sharpness")),
    Feature("brightness", "mean luma, 0 to 1", _measured("brightness")),
    Feature("motion", "mean frame difference, 0 to 1", _measured("motion")),
    Feature("file size", "kB", _measured("file_bytes", 1000.0)),
    Feature("thought length", "characters", lambda _, scores: _floats(scores.thought_chars)),
)


@dataclass(frozen=True)
class FeatureValues:
    """Values of a feature in n pairs.

    Attributes:
        values: of A and B, shape (n, 2).
        rewards: of A and B, shape (n, 2).
        choices: people's: +1 for A, -1 for B, 0 for a tie, NaN without one, shape (n,).
    """

    values: Floats
    rewards: Floats
    choices: Floats

    @property
    def margins(self) -> Floats:
        """Reward of A minus reward of B, shape (n,)."""
        return self.rewards[:, 0] - self.rewards[:, 1]

    @property
    def differences(self) -> Floats:
        """Value of A minus value of B, shape (n,)."""
        return self.values[:, 0] - self.values[:, 1]


def feature_values(checkpoint: AnalysedCheckpoint, feature: Feature, mode: Mode) -> FeatureValues:
    """Collect a feature, the rewards and people's choices of the pairs that have the first two."""
    rows = []
    for pair in checkpoint.pairs:
        scores = pair_score(pair, mode)
        values = None if scores is None else feature.read(pair, scores)
        if scores is not None and values is not None:
            choice = np.nan if pair.choice is None else float(SIGN[pair.choice])
            rows.append((*values, *scores.rewards, choice))
    table = np.array(rows, dtype=np.float64).reshape(-1, 5)
    return FeatureValues(table[:, :2], table[:, 2:4], table[:, 4])


def reward_hacking(checkpoint: AnalysedCheckpoint, mode: Mode = "think") -> tuple[Finding, Finding]:
    """Correlate the reward with each feature; the second finding has the scatter plots behind that."""
    rows, charts = [], []
    for feature in FEATURES:
        if feature.name == "thought length" and mode == "quick":
            continue
        measured = feature_values(checkpoint, feature, mode)
        if len(measured.values):
            rows.append(_row(feature, measured))
            charts.append(Chart(feature.name, _scatter(feature, measured)))
    title = f"What the reward follows, {MODE_TITLES[mode]}"
    if not rows:
        return Finding("hacking", title, ("No pair has been judged by this checkpoint yet.",)), Finding("clouds", "", ())
    notes = (
        "Spearman's rank correlation, from \N{MINUS SIGN}1 to +1, with the 95 % interval over pairs. All videos: reward "
        "against the fact; prompts differ, so there may be an innocent reason. Within pairs: margin against the difference "
        "between A and B.",
        "Watch: within pairs the model follows the fact more than people's choices do; the whole interval of the excess is "
        f"above 0. Nothing to see: the whole interval is below {NOTICEABLE}. Open: too few pairs to tell. Alike: the fact "
        "is the same in all videos, or in both videos of each pair, so nothing can follow it. Sharpness, brightness, motion "
        "and file size are measured when pairs are scored.",
    )
    table = Finding("hacking", title, notes, (Chart("within pairs: model and people", _figure(rows)),), HEAD, tuple(rows))
    note = "Rewards of all videos; the line joins the medians of up to ten groups. A flat line is good."
    return table, Finding("clouds", "Rewards against each fact", (note,), tuple(charts))


def _row(feature: Feature, measured: FeatureValues) -> tuple[Cell, ...]:
    n, has_choice = len(measured.values), np.isfinite(measured.choices)
    margins, choices, differences = measured.margins, measured.choices, measured.differences
    model = spearman(margins, differences)
    people = spearman(choices[has_choice], differences[has_choice])
    excess = _excess(margins[has_choice], choices[has_choice], differences[has_choice])
    all_videos = spearman(measured.rewards.T.reshape(-1), measured.values.T.reshape(-1), cases=n)
    return feature.name, feature.unit, all_videos, model, people, excess, _alike(measured) or _reading(model, excess)


def _excess(margins: Floats, choices: Floats, differences: Floats) -> Estimate:
    """Estimate how much more strongly the margin follows the feature than people's choices, in the direction of the margin.

    With very many pairs the draws come from some of them, and the interval is narrowed by the square root of their share (an
    m out of n bootstrap).
    """
    model, people = spearman(margins, differences), spearman(choices, differences)
    if model.value is None or people.value is None:
        return Estimate(None, None, None, len(margins), why=model.why or people.why)
    direction = 1.0 if model.value >= 0 else -1.0
    value = model.value - people.value
    sample = np.linspace(0, len(margins) - 1, min(len(margins), MANY)).round().astype(np.int64)

    def gap(drawn: npt.NDArray[np.int64]) -> Floats:
        indices = sample[drawn]
        x = differences[indices]
        gaps: Floats = correlations(margins[indices], x) - correlations(choices[indices], x)
        return direction * gaps

    interval = bootstrap(gap, len(sample), most=_RESAMPLES)
    if interval is not None and len(sample) < len(margins):
        centre = float(gap(np.arange(len(sample))[None])[0])
        narrower = np.sqrt(len(sample) / len(margins))
        low, high = (direction * value + narrower * (end - centre) for end in interval)
        interval = (low, high)
    return estimate(direction * value, interval, len(margins))


def _alike(measured: FeatureValues) -> str | None:
    """Return the reading of a feature that does not vary; None where it does."""
    if np.ptp(measured.values) == 0:
        return ALIKE
    return None if measured.differences.any() else ALIKE_WITHIN


def _reading(model: Estimate, excess: Estimate) -> str:
    if model.low is None or model.high is None or excess.low is None or excess.high is None:
        return OPEN
    if excess.low > 0 and not model.low <= 0 <= model.high:
        return WATCH
    return CALM if excess.high < NOTICEABLE else OPEN


def _figure(rows: list[tuple[Cell, ...]]) -> go.Figure:
    names = [str(row[0]) for row in rows]
    figure = go.Figure()
    for name, column, colour, symbol, shift in (
        ("the model's margin", 3, ACCENT, "circle", -0.14),
        ("people's choice", 4, INK, "diamond", 0.14),
    ):
        values = [row[column] for row in rows]
        series = dot_trace(names, values, name=name, colour=colour, symbol=symbol, shift=shift)  # type: ignore[arg-type]
        figure.add_trace(series)
    apply_style(figure, rows_height(len(names), legend=True), x="rank correlation")
    name_rows(figure, names)
    figure.update_xaxes(range=[-1.02, 1.02])
    figure.add_vline(x=0, line={"color": COLOURS["line-strong"], "width": 1})
    return figure


def _median_line(values: Floats, rewards: Floats) -> list[tuple[float, float]]:
    """Return the medians of up to ten groups of neighbouring values; equal values share a group."""
    edges = np.unique(np.quantile(values, np.linspace(0, 1, _MOST_MEDIANS + 1)[1:-1]))
    group_of = np.searchsorted(edges, values, side="left")
    masks = [group_of == group for group in np.unique(group_of)]
    return [(float(np.median(values[mask])), float(np.median(rewards[mask]))) for mask in masks]


def _scatter(feature: Feature, measured: FeatureValues) -> go.Figure:
    values, rewards = measured.values.reshape(-1), measured.rewards.reshape(-1)
    sample = np.linspace(0, len(values) - 1, min(_MOST_POINTS, len(values))).round().astype(int)
    points = {"size": 5, "color": COLOURS["accent-line"], "opacity": 0.7}
    figure = go.Figure(
        go.Scatter(
            x=values[sample].tolist(),
            y=rewards[sample].tolist(),
            mode="markers",
            marker=points,
            hovertemplate=f"%{{x:.3g}} {feature.unit}, reward %{{y:.3g}}<extra></extra>",
        )
    )
    medians = _median_line(values, rewards)
    figure.add_trace(
        go.Scatter(
            x=[x for x, _ in medians],
            y=[y for _, y in medians],
            mode="lines",
            line={"color": ACCENT, "width": 2.5},
            hoverinfo="skip",
        )
    )
    apply_style(figure, 250, x=feature.unit, y="reward")
    figure.update_layout(showlegend=False)
    return figure
