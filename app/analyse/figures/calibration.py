"""Calibration of P(A preferred): reliability diagram, expected calibration error (ECE), Brier score.

P = sigmoid((r_A - r_B) / temperature), with the checkpoint's temperature. Of the pairs to which the model gives 70 %, people
should prefer A in 70 %. Pairs that people call a tie are left out, since P is about a preference. The gate on the Train page
(trainer/evaluation/paired_tests.py) counts them as a half, so its figures differ.

- ECE: mean distance between P and the share of A in ten equal bins, weighted by their pairs (Naeini et al. 2015). It is
  never below 0, so few pairs give a large one by chance.
- Brier score: mean (P - outcome)^2; P = 50 % for all pairs gives 0.25.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import plotly.graph_objects as go

from app.analyse.figures.finding import Cell, Chart, Estimate, Finding, Floats, bootstrap, estimate, resample_count, share
from app.analyse.figures.judged_pairs import (
    MODE_TITLES,
    MODES,
    AnalysedCheckpoint,
    fitted_here_note,
    judged_pairs,
    trained_on_note,
)
from app.analyse.figures.plot_style import ACCENT, COLOURS, FAINT, apply_style
from descore.calibration import preference_probability, probability_source

BINS = 10
HEAD = ("asked", "P(A preferred)", "pairs", "mean P", "people prefer A")
SUMMARY = ("asked", "pairs", "ECE", "ECE by chance, up to", "Brier score", "temperature")


def bin_indices(p: Floats) -> npt.NDArray[np.int64]:
    """Return the bin, 0 to BINS - 1, of each probability; 1.0 belongs to the last one."""
    indices: npt.NDArray[np.int64] = np.minimum((p * BINS).astype(np.int64), BINS - 1)
    return indices


def calibration_error(p: Floats, outcomes: Floats) -> float:
    """Return the ECE of probabilities against outcomes 0 or 1, shape (n,) each."""
    gaps = np.bincount(bin_indices(p), weights=p - outcomes, minlength=BINS)
    return float(np.abs(gaps).sum() / len(p))


def chance_calibration_error(p: Floats, seed: int = 0) -> float:
    """Return the 95th percentile of the ECE that samples get where every probability is exactly right."""
    rng = np.random.default_rng(seed)
    errors = [calibration_error(p, (rng.random(len(p)) < p).astype(np.float64)) for _ in range(resample_count(len(p)))]
    return float(np.quantile(errors, 0.95))


def calibration(checkpoint: AnalysedCheckpoint) -> tuple[Finding, Finding]:
    """Compute ECE and Brier score of each mode, and the reliability diagram with its bins."""
    summary, bins, charts = [], [], []
    for mode in MODES:
        judged = judged_pairs(checkpoint.fair_pairs, mode)
        judged = judged.where(judged.decided)
        temperature = checkpoint.temperature(mode)
        if not len(judged) or temperature is None:
            continue
        p, outcomes = preference_probability(judged.margins, temperature), (judged.labels > 0).astype(np.float64)
        summary.append(_summary(mode, p, outcomes, temperature))
        bins_of_mode = _bins(mode, p, outcomes)
        bins += bins_of_mode
        charts.append(Chart(MODE_TITLES[mode], _figure(bins_of_mode)))
    title = "Calibration of P(A preferred)"
    if not summary:
        nothing = "People prefer a video in no judged pair, or the checkpoint has no calibration."
        return Finding("calibration", title, (nothing,)), Finding("reliability", "Reliability by bin")
    notes = (
        "Of the pairs to which the model gives 70 %, people should prefer A in 70 %: then the dots lie on the diagonal. "
        "Dots above it on the right and below it on the left mean an underconfident model, the other way round an "
        "overconfident one.",
        "ECE is the mean distance from the diagonal. Even a perfect P has an ECE above 0 by chance; the column beside it "
        "says how large (95 %) for this number of pairs. Only a larger ECE shows that P is wrong. Brier score: 0 is "
        "perfect, 0.25 is what 50 % for every pair gives.",
        "Pairs that people call a tie are left out here. The Train page counts them as a half, so its Brier score and "
        "calibration error of the same pairs differ from these.",
        *trained_on_note([checkpoint]),
        *fitted_here_note([checkpoint.name] if checkpoint.fitted_here else []),
        *_carried_over(checkpoint),
    )
    return (
        Finding("calibration", title, notes, tuple(charts), SUMMARY, tuple(summary)),
        Finding("reliability", "Reliability by bin", (), (), HEAD, tuple(bins)),
    )


def _carried_over(checkpoint: AnalysedCheckpoint) -> tuple[str, ...]:
    """Name the modes whose temperature is not the checkpoint's own."""
    carried = {mode: scale for mode, scale in checkpoint.calibrations.items() if scale.source}
    return tuple(f"Mode {mode}: temperature and eps {probability_source(scale)}." for mode, scale in carried.items())


def _summary(mode: str, p: Floats, outcomes: Floats, temperature: float) -> tuple[Cell, ...]:
    squared = (p - outcomes) ** 2

    def brier(drawn: npt.NDArray[np.int64]) -> Floats:
        means: Floats = squared[drawn].mean(axis=1)
        return means

    n = len(p)
    return (
        mode,
        n,
        calibration_error(p, outcomes),
        chance_calibration_error(p),
        estimate(float(squared.mean()), bootstrap(brier, n), n),
        temperature,
    )


def _bins(mode: str, p: Floats, outcomes: Floats) -> list[tuple[Cell, ...]]:
    rows: list[tuple[Cell, ...]] = []
    for index in range(BINS):
        inside = bin_indices(p) == index
        if inside.any():
            n = int(inside.sum())
            name = f"{100 * index // BINS} to {100 * (index + 1) // BINS} %"
            rows.append((mode, name, n, float(p[inside].mean()), share(int(outcomes[inside].sum()), n)))
    return rows


def _figure(bins: Sequence[tuple[Cell, ...]]) -> go.Figure:
    figure = go.Figure()
    diagonal = {"color": FAINT, "width": 1, "dash": "dot"}
    figure.add_trace(go.Scatter(x=[0, 100], y=[0, 100], mode="lines", line=diagonal, hoverinfo="skip", showlegend=False))
    counts = np.array([row[2] for row in bins], dtype=np.float64)
    rates = [cell for row in bins if isinstance(cell := row[4], Estimate)]
    figure.add_trace(
        go.Scatter(
            x=[100 * row[3] for row in bins],  # type: ignore[operator]
            y=[100 * rate.value for rate in rates],  # type: ignore[operator]
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
                "array": [100 * (rate.high - rate.value) for rate in rates],  # type: ignore[operator]
                "arrayminus": [100 * (rate.value - rate.low) for rate in rates],  # type: ignore[operator]
                "color": COLOURS["accent-line"],
                "thickness": 1.5,
                "width": 3,
            },
            customdata=counts.tolist(),
            hovertemplate="P %{x:.0f} %, people prefer A in %{y:.0f} %<br>%{customdata} pairs<extra></extra>",
            showlegend=False,
        )
    )
    apply_style(figure, 320, x="P(A preferred), %", y="people prefer A, %")
    figure.update_xaxes(range=[-3, 103])
    figure.update_yaxes(range=[-3, 103])
    return figure
