"""Whether P(A preferred) means what it says: reliability, expected calibration error, Brier score.

P = sigmoid((r_A - r_B) / temperature), with the checkpoint's temperature. Of the pairs to which it gives 70 %, people should
prefer A in 70 %. Pairs that people call a tie are left out, since P speaks of a preference; the gate on the Train page
(trainer/evaluation/paired_tests.py) counts them as a half instead, so its figures are others.

- ECE: the mean distance between P and the share of A over ten equal bins, weighted by their pairs (Naeini et al. 2015). It
  can only be above 0, so a few pairs give a large one by chance.
- Brier: mean (P - outcome)^2. 0.25 is what "50 %" for everything gets.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import plotly.graph_objects as go

from app.analyse.figures.finding import Cell, Chart, Finding, bootstrap, estimate, resamples_for, share
from app.analyse.figures.judged_pairs import WAYS, AnalysedCheckpoint, Floats, fitted_here_note, judged_pairs
from app.analyse.figures.plot_style import ACCENT, COLOURS, FAINT, finish

BINS = 10
HEAD = ("asked", "P(A preferred)", "pairs", "mean P", "people prefer A")
SUMMARY = ("asked", "pairs", "ECE", "ECE by chance, up to", "Brier score", "temperature")


def p_first(margins: Floats, temperature: float) -> Floats:
    """P(A preferred) of each margin, (n,)."""
    p: Floats = 0.5 * (1 + np.tanh(0.5 * margins / temperature))  # the sigmoid without its overflow
    return p


def bins_of(p: Floats) -> npt.NDArray[np.int64]:
    """The bin 0 .. BINS - 1 of each probability; 1 belongs to the last."""
    found: npt.NDArray[np.int64] = np.minimum((p * BINS).astype(np.int64), BINS - 1)
    return found


def calibration_error(p: Floats, outcomes: Floats) -> float:
    """ECE of probabilities against outcomes 0 or 1, (n,) each."""
    gaps = np.bincount(bins_of(p), weights=p - outcomes, minlength=BINS)
    return float(np.abs(gaps).sum() / len(p))


def chance_error(p: Floats, seed: int = 0) -> float:
    """The ECE that 95 % of samples stay below where every probability is exactly right."""
    rng = np.random.default_rng(seed)
    drawn = [calibration_error(p, (rng.random(len(p)) < p).astype(np.float64)) for _ in range(resamples_for(len(p)))]
    return float(np.quantile(drawn, 0.95))


def calibration(checkpoint: AnalysedCheckpoint) -> tuple[Finding, Finding]:
    """The two scores, and the reliability diagram with its bins."""
    summary, bins, charts = [], [], []
    for way in WAYS:
        judged = judged_pairs(checkpoint.pairs, way)
        judged = judged.where(judged.decided)
        temperature = checkpoint.temperature(way)
        if not len(judged) or temperature is None:
            continue
        p, outcomes = p_first(judged.margins, temperature), (judged.labels > 0).astype(np.float64)
        summary.append(_summary(way, p, outcomes, temperature))
        lines = _bins(way, p, outcomes)
        bins += lines
        charts.append(Chart(f"asked to {way}" if way == "think" else "asked quickly", _figure(lines)))
    title = "Calibration of P(A preferred)"
    if not summary:
        return Finding("calibration", title, ("No pair with a preference of people, or no calibration.",)), Finding(
            "reliability", "Reliability by bin", ()
        )
    notes = (
        "Of the pairs to which the model gives 70 %, people should prefer A in 70 %: dots on the diagonal. Dots above it at "
        "the right and below it at the left mean too timid, the other way round too sure.",
        "ECE is the mean distance from the diagonal. Even a perfect P gets one above 0 by chance; beside it stands how "
        "large that may be (95 %) with so many pairs. Only a larger one says that P is off. Brier: 0 is "
        "perfect, 0.25 what 50 % for every pair would get.",
        "Pairs that people call a tie are left out here. The Train page counts them as a half, so its Brier score and "
        "calibration error of the same pairs differ from these.",
        *fitted_here_note([checkpoint.name] if checkpoint.fitted_here else []),
    )
    return (
        Finding("calibration", title, notes, tuple(charts), SUMMARY, tuple(summary)),
        Finding("reliability", "Reliability by bin", (), (), HEAD, tuple(bins)),
    )


def _summary(way: str, p: Floats, outcomes: Floats, temperature: float) -> tuple[Cell, ...]:
    squared = (p - outcomes) ** 2

    def brier(drawn: npt.NDArray[np.int64]) -> Floats:
        means: Floats = squared[drawn].mean(axis=1)
        return means

    n = len(p)
    return (
        way,
        n,
        calibration_error(p, outcomes),
        chance_error(p),
        estimate(float(squared.mean()), bootstrap(brier, n), n),
        temperature,
    )


def _bins(way: str, p: Floats, outcomes: Floats) -> list[tuple[Cell, ...]]:
    lines: list[tuple[Cell, ...]] = []
    for place in range(BINS):
        here = bins_of(p) == place
        if here.any():
            name = f"{100 * place // BINS} to {100 * (place + 1) // BINS} %"
            lines.append(
                (way, name, int(here.sum()), float(p[here].mean()), share(int(outcomes[here].sum()), int(here.sum())))
            )
    return lines


def _figure(lines: Sequence[tuple[Cell, ...]]) -> go.Figure:
    figure = go.Figure()
    diagonal = {"color": FAINT, "width": 1, "dash": "dot"}
    figure.add_trace(go.Scatter(x=[0, 100], y=[0, 100], mode="lines", line=diagonal, hoverinfo="skip", showlegend=False))
    counts = np.array([line[2] for line in lines], dtype=np.float64)
    found = [line[4] for line in lines]
    shares = [100 * one.value for one in found]  # type: ignore[union-attr,operator]
    figure.add_trace(
        go.Scatter(
            x=[100 * line[3] for line in lines],  # type: ignore[operator]
            y=shares,
            mode="markers",
            cliponaxis=False,
            marker={
                "size": (6 + 16 * np.sqrt(counts / counts.max())).tolist(),
                "color": ACCENT,
                "opacity": 0.85,
                "line": {"width": 0},
            },
            error_y={
                "type": "data",
                "symmetric": False,
                "array": [100 * (one.high - one.value) for one in found],  # type: ignore[union-attr,operator]
                "arrayminus": [100 * (one.value - one.low) for one in found],  # type: ignore[union-attr,operator]
                "color": COLOURS["accent-line"],
                "thickness": 1.5,
                "width": 3,
            },
            customdata=counts.tolist(),
            hovertemplate="P %{x:.0f} %, people prefer A in %{y:.0f} %<br>%{customdata} pairs<extra></extra>",
            showlegend=False,
        )
    )
    finish(figure, 320, x="P(A preferred), %", y="people prefer A, %")
    figure.update_xaxes(range=[-3, 103])
    figure.update_yaxes(range=[-3, 103])
    return figure
