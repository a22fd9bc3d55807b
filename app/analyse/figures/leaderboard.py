"""Leaderboard of generators, computed twice from the same pairs: from people's labels and from the model's rewards.

The model's outcome of a pair is A, B or a tie by the checkpoint's tie threshold, so both leaderboards apply the same rule to
the same pairs. Intervals and the rank correlation come from one bootstrap over pairs.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import plotly.graph_objects as go

from app.analyse.figures.bradley_terry import Indices, comparable, win_matrix
from app.analyse.figures.bradley_terry import strengths as bradley_terry
from app.analyse.figures.finding import Cell, Chart, Estimate, Finding, Floats, estimate, percentile_interval
from app.analyse.figures.judged_pairs import NO_EPS, AnalysedCheckpoint, JudgedPairs, Mode, judged_pairs
from app.analyse.figures.plot_style import ACCENT, COLOURS, INK, apply_style, dot_trace, name_rows, plain_name, rows_height
from app.analyse.figures.rank_correlation import correlations

HEAD = ("generator", "pairs", "rank by people", "strength by people", "rank by the model", "strength by the model")
RESAMPLES = 200
_FEWEST_GENERATORS = 3


@dataclass(frozen=True)
class Comparisons:
    """Pairs of two different known generators.

    Attributes:
        names: of the generators, sorted.
        first: index of the generator of A, shape (n,).
        second: index of the generator of B, shape (n,).
        people: outcome by people: 1 where A won, 0 where B won, 0.5 for a tie, shape (n,).
        model: outcome by the model's rewards, likewise.
    """

    names: tuple[str, ...]
    first: Indices
    second: Indices
    people: Floats
    model: Floats

    def matches(self, weights: Floats | None = None) -> Floats:
        """Count the pairs of each generator, shape (generators,). weights: how often each pair counts, shape (n,)."""
        both = np.concatenate([self.first, self.second])
        counts: Floats = np.bincount(both, None if weights is None else np.tile(weights, 2), len(self.names)).astype(float)
        return counts

    def fit(self, outcomes: Floats, weights: Floats | None = None) -> Floats:
        """Fit strengths to the outcomes by people or by the model, shape (generators,)."""
        return bradley_terry(win_matrix(self.first, self.second, outcomes, len(self.names), weights))


def comparisons_of(judged: JudgedPairs, eps: float) -> Comparisons | None:
    """Return the pairs of the largest set of generators that are linked by comparisons; None without any."""
    kept = [index for index, pair in enumerate(judged.pairs) if all(pair.generators) and len(set(pair.generators)) == 2]
    if not kept:
        return None
    names = sorted({name for index in kept for name in judged.pairs[index].generators if name})
    index_of = {name: index for index, name in enumerate(names)}
    sides = np.array([[index_of[name] for name in judged.pairs[i].generators if name] for i in kept], dtype=np.int64)
    people = (judged.labels[kept] + 1) / 2
    margins = judged.margins[kept]
    model = np.where(np.abs(margins) <= eps, 0.5, (np.sign(margins) + 1) / 2)
    linked = comparable(win_matrix(sides[:, 0], sides[:, 1], people, len(names)))
    inside = linked[sides].all(axis=1)
    new_index = np.cumsum(linked) - 1
    ranked = tuple(name for name, keep in zip(names, linked, strict=True) if keep)
    return Comparisons(ranked, new_index[sides[inside, 0]], new_index[sides[inside, 1]], people[inside], model[inside])


def leaderboard(checkpoint: AnalysedCheckpoint, mode: Mode = "think") -> Finding:
    """Rank the generators by people and by the model, the strongest by people first, with the agreement of both orders."""
    judged = judged_pairs(checkpoint.pairs, mode)
    eps = checkpoint.tie_threshold(mode)
    comparisons = comparisons_of(judged, eps or 0.0)
    title = "Generators, by people and by the model"
    if comparisons is None:
        nothing = "No judged and labelled pair names two different generators. Import pairs with the generators' names."
        return Finding("generators", title, (nothing,))
    fit = fit_strengths(comparisons)
    matches = comparisons.matches()
    people = _estimates(fit.people, fit.people_drawn, matches)
    model = _estimates(fit.model, fit.model_drawn, matches)
    people_ranks, model_ranks = _ranks(people), _ranks(model)
    rows: list[tuple[Cell, ...]] = [
        (comparisons.names[i], int(matches[i]), people_ranks[i], people[i], model_ranks[i], model[i])
        for i in np.argsort(people_ranks)
    ]
    notes = (_agreement(comparisons, fit), *NOTES, *(() if eps is not None else (NO_EPS,)), *_left_out(judged, comparisons))
    return Finding("generators", title, notes, (Chart("", _figure(rows)),), HEAD, tuple(rows))


NOTES = (
    "Bradley-Terry strengths in log-odds with mean 0: a generator with a strength 1 higher wins 73 % of the pairs against "
    "the other, one with 2 more 88 %. A tie counts half for each.",
    "Intervals (95 %) resample pairs; where whiskers overlap, the order may be chance. A generator with only one or two "
    "pairs is missing in many draws and has no interval. n: its own pairs.",
)


@dataclass(frozen=True)
class StrengthFit:
    """Strengths by people and by the model.

    Attributes:
        people: from all pairs, shape (generators,).
        model: likewise.
        people_drawn: from each bootstrap draw, shape (draws, generators); NaN where no pair of the draw has the generator.
        model_drawn: likewise; NaN in the same cells.
    """

    people: Floats
    model: Floats
    people_drawn: Floats
    model_drawn: Floats


def fit_strengths(comparisons: Comparisons) -> StrengthFit:
    """Fit strengths by people and by the model to all pairs, and to the same draws of pairs with replacement."""
    n = len(comparisons.first)
    rng = np.random.default_rng(0)
    weights = rng.multinomial(n, np.full(n, 1 / n), size=RESAMPLES).astype(np.float64)
    people, model = comparisons.fit(comparisons.people), comparisons.fit(comparisons.model)
    people_drawn = _drawn(comparisons, comparisons.people, people, weights)
    model_drawn = _drawn(comparisons, comparisons.model, model, weights)
    return StrengthFit(people, model, people_drawn, model_drawn)


def _drawn(comparisons: Comparisons, outcomes: Floats, strengths: Floats, weights: Floats) -> Floats:
    """Fit each draw, shape (draws, generators). Where a draw misses a generator, the others keep their mean among all."""
    drawn = np.full((len(weights), len(strengths)), np.nan)
    for row, weight in zip(drawn, weights, strict=True):
        present = comparisons.matches(weight) > 0
        fit = comparisons.fit(outcomes, weight)[present]
        row[present] = fit - fit.mean() + strengths[present].mean()
    return drawn


def _estimates(values: Floats, drawn: Floats, matches: Floats) -> list[Estimate]:
    return [estimate(float(value), percentile_interval(drawn[:, i]), int(matches[i])) for i, value in enumerate(values)]


def rank_agreement(fit: StrengthFit) -> Estimate:
    """Return Spearman's rho between the two orders, with its interval over the draws."""
    generators = len(fit.people)
    if generators < _FEWEST_GENERATORS:
        return Estimate(None, None, None, generators, why=f"fewer than {_FEWEST_GENERATORS} generators")
    value = float(correlations(fit.people[None], fit.model[None])[0])
    drawn = [_rho(people, model) for people, model in zip(fit.people_drawn, fit.model_drawn, strict=True)]
    return estimate(value, percentile_interval(np.array(drawn)), generators)


def _rho(people: Floats, model: Floats) -> float:
    """Correlate the ranks of the generators that a draw has; NaN where they are too few."""
    present = np.isfinite(people)
    if present.sum() < _FEWEST_GENERATORS:
        return float("nan")
    return float(correlations(people[None, present], model[None, present])[0])


def _agreement(comparisons: Comparisons, fit: StrengthFit) -> str:
    rho = rank_agreement(fit)
    if rho.value is None or rho.low is None:
        return f"The agreement of the two orders is unknown: {rho.why or 'too few pairs'}."
    text = f"The two orders agree with a rank correlation of {rho.value:.2f} (95 % interval {rho.low:.2f} to {rho.high:.2f})"
    text += f", over {len(comparisons.names)} generators and {len(comparisons.first)} pairs."
    return text.replace("-", "\N{MINUS SIGN}")


def _left_out(judged: JudgedPairs, comparisons: Comparisons) -> tuple[str, ...]:
    rest = len(judged) - len(comparisons.first)
    if not rest:
        return ()
    why = "their generators are not named, are the same, or were never compared with the others"
    return (f"{rest} labelled pairs are left out: {why}.",)


def _ranks(values: list[Estimate]) -> list[int]:
    """Rank estimates, 1 for the largest."""
    order = np.argsort([-(value.value or 0.0) for value in values], kind="stable")
    ranks = np.empty(len(values), dtype=np.int64)
    ranks[order] = np.arange(1, len(values) + 1)
    return [int(rank) for rank in ranks]


def _figure(rows: list[tuple[Cell, ...]]) -> go.Figure:
    figure = go.Figure()
    names = [plain_name(str(row[0])) for row in rows]
    for name, column, colour, symbol, shift in (
        ("by people", 3, INK, "diamond", -0.14),
        ("by the model", 5, ACCENT, "circle", 0.14),
    ):
        values = [row[column] for row in rows]
        figure.add_trace(dot_trace(names, values, name=name, colour=colour, symbol=symbol, shift=shift))  # type: ignore[arg-type]
    apply_style(figure, rows_height(len(names), legend=True), x="strength, log-odds")
    name_rows(figure, names)
    figure.add_vline(x=0, line={"color": COLOURS["line-strong"], "width": 1})
    return figure
