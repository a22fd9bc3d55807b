"""Leaderboard of generators, twice from the same pairs: by people's labels and by the model's rewards.

The model's verdict of a pair is A, B or a tie at the checkpoint's own tie threshold, so both leaderboards count the same
pairs by the same rule. Intervals and the rank correlation come from one bootstrap over pairs.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import plotly.graph_objects as go

from app.analyse.figures.bradley_terry import Places, comparable, win_matrix
from app.analyse.figures.bradley_terry import strengths as bradley_terry
from app.analyse.figures.finding import Cell, Chart, Estimate, Finding, estimate, percentiles
from app.analyse.figures.judged_pairs import AnalysedCheckpoint, Floats, Judged, Way, judged_pairs
from app.analyse.figures.plot_style import ACCENT, COLOURS, INK, dots, finish, plain, rows_axis, rows_height
from app.analyse.figures.rank_correlation import correlations

HEAD = ("generator", "pairs", "rank by people", "strength by people", "rank by the model", "strength by the model")
RESAMPLES = 200
_FEWEST_GENERATORS = 3


@dataclass(frozen=True)
class Duels:
    """Pairs of two different known generators.

    names: sorted. first, second: places of the generators of A and B. people, model: 1 A won, 0 B won, 0.5 a tie; (n,) each.
    """

    names: tuple[str, ...]
    first: Places
    second: Places
    people: Floats
    model: Floats

    def matches(self, weights: Floats | None = None) -> Floats:
        """In how many pairs each generator occurs, (generators,). weights: how often each pair counts, (n,)."""
        both = np.concatenate([self.first, self.second])
        found: Floats = np.bincount(both, None if weights is None else np.tile(weights, 2), len(self.names)).astype(float)
        return found

    def fit(self, outcomes: Floats, weights: Floats | None = None) -> Floats:
        """Strengths by one side's verdicts, (generators,)."""
        return bradley_terry(win_matrix(self.first, self.second, outcomes, len(self.names), weights))


def duels(judged: Judged, eps: float) -> Duels | None:
    """What can be ranked: the largest set of generators that are linked by comparisons. None without any."""
    kept = [place for place, pair in enumerate(judged.pairs) if all(pair.generators) and len(set(pair.generators)) == 2]
    if not kept:
        return None
    names = sorted({name for place in kept for name in judged.pairs[place].generators if name})
    at = {name: place for place, name in enumerate(names)}
    sides = np.array([[at[name] for name in judged.pairs[place].generators if name] for place in kept], dtype=np.int64)
    people = (judged.labels[kept] + 1) / 2
    margins = judged.margins[kept]
    model = np.where(np.abs(margins) <= eps, 0.5, (np.sign(margins) + 1) / 2)
    linked = comparable(win_matrix(sides[:, 0], sides[:, 1], people, len(names)))
    inside = linked[sides].all(axis=1)
    renamed = np.cumsum(linked) - 1
    ranked = tuple(name for name, keep in zip(names, linked, strict=True) if keep)
    return Duels(ranked, renamed[sides[inside, 0]], renamed[sides[inside, 1]], people[inside], model[inside])


def leaderboard(checkpoint: AnalysedCheckpoint, way: Way = "think") -> Finding:
    """Both leaderboards side by side, the strongest by people first, and how far they agree."""
    judged = judged_pairs(checkpoint.pairs, way)
    found = duels(judged, checkpoint.tie_threshold(way) or 0.0)
    title = "Generators, by people and by the model"
    if found is None:
        nothing = "No judged pair with a label names two different generators. Imports that name them bring them in."
        return Finding("generators", title, (nothing,))
    strengths, matches = fitted(found), found.matches()
    people, model = (
        _estimates(strengths.people, strengths.people_drawn, matches),
        _estimates(strengths.model, strengths.model_drawn, matches),
    )
    order = np.argsort([-(one.value or 0.0) for one in people], kind="stable")
    places = {side: _ranks(values) for side, values in (("people", people), ("model", model))}
    rows: list[tuple[Cell, ...]] = [
        (found.names[i], int(matches[i]), places["people"][i], people[i], places["model"][i], model[i]) for i in order
    ]
    charts = (Chart("", _figure(rows)),)
    return Finding(
        "generators", title, (_agreement(found, strengths), *NOTES, *_left_out(judged, found)), charts, HEAD, tuple(rows)
    )


NOTES = (
    "Bradley-Terry strengths in log-odds, their mean is 0: a generator that is 1 stronger wins 73 % of its pairs against "
    "the other, one that is 2 stronger 88 %. A tie counts half for each.",
    "Intervals (95 %) resample pairs; ranks of generators whose whiskers overlap may be exchanged by chance. A generator "
    "with a pair or two is missing in many draws and has no interval. n: its own pairs.",
)


@dataclass(frozen=True)
class Fitted:
    """Strengths by people and by the model: of all pairs (generators,), and of each draw (resamples, generators).

    NaN: a generator that occurs in no pair of a draw, of which the draw says nothing; the same places for both.
    """

    people: Floats
    model: Floats
    people_drawn: Floats
    model_drawn: Floats


def fitted(found: Duels) -> Fitted:
    """Fit both sides on all pairs, and on the same draws of pairs with replacement."""
    n, rng = len(found.first), np.random.default_rng(0)
    weights = rng.multinomial(n, np.full(n, 1 / n), size=RESAMPLES).astype(np.float64)
    people, model = found.fit(found.people), found.fit(found.model)
    return Fitted(people, model, _drawn(found, found.people, people, weights), _drawn(found, found.model, model, weights))


def _drawn(found: Duels, outcomes: Floats, strengths: Floats, weights: Floats) -> Floats:
    """One side's strengths of each draw. Those of a draw that misses a generator keep the mean they have among all."""
    drawn = np.full((len(weights), len(strengths)), np.nan)
    for line, weight in zip(drawn, weights, strict=True):
        there = found.matches(weight) > 0
        fit = found.fit(outcomes, weight)[there]
        line[there] = fit - fit.mean() + strengths[there].mean()
    return drawn


def _estimates(values: Floats, drawn: Floats, matches: Floats) -> list[Estimate]:
    return [estimate(float(value), percentiles(drawn[:, i]), int(matches[i])) for i, value in enumerate(values)]


def rank_agreement(strengths: Fitted) -> Estimate:
    """Spearman's rho between the two orders, with its interval over the draws."""
    generators = len(strengths.people)
    if generators < _FEWEST_GENERATORS:
        return Estimate(None, None, None, generators, why=f"fewer than {_FEWEST_GENERATORS} generators")
    value = float(correlations(strengths.people[None], strengths.model[None])[0])
    drawn = [_rho(*both) for both in zip(strengths.people_drawn, strengths.model_drawn, strict=True)]
    return estimate(value, percentiles(np.array(drawn)), generators)


def _rho(people: Floats, model: Floats) -> float:
    """The rank correlation of the generators that a draw has; NaN of too few."""
    there = np.isfinite(people)
    if there.sum() < _FEWEST_GENERATORS:
        return float("nan")
    return float(correlations(people[None, there], model[None, there])[0])


def _agreement(found: Duels, strengths: Fitted) -> str:
    rho = rank_agreement(strengths)
    if rho.value is None or rho.low is None:
        return f"How far the two orders agree can't be said: {rho.why or 'too few pairs'}."
    text = f"The two orders agree with a rank correlation of {rho.value:.2f} (95 % interval {rho.low:.2f} to {rho.high:.2f})"
    return f"{text}, over {len(found.names)} generators and {len(found.first)} pairs.".replace("-", "\N{MINUS SIGN}")


def _left_out(judged: Judged, found: Duels) -> tuple[str, ...]:
    rest = len(judged) - len(found.first)
    if not rest:
        return ()
    why = "no generator is named, both are of the same one, or it was never compared with these"
    return (f"{rest} labelled pairs are left out: {why}.",)


def _ranks(values: list[Estimate]) -> list[int]:
    order = np.argsort([-(one.value or 0.0) for one in values], kind="stable")
    ranks = np.empty(len(values), dtype=np.int64)
    ranks[order] = np.arange(1, len(values) + 1)
    return [int(rank) for rank in ranks]


def _figure(rows: list[tuple[Cell, ...]]) -> go.Figure:
    names, figure = [plain(str(row[0])) for row in rows], go.Figure()
    for name, place, colour, symbol, shift in (
        ("by people", 3, INK, "diamond", -0.14),
        ("by the model", 5, ACCENT, "circle", 0.14),
    ):
        values = [row[place] for row in rows]
        figure.add_trace(dots(names, values, name=name, colour=colour, symbol=symbol, shift=shift))  # type: ignore[arg-type]
    finish(figure, rows_height(len(names), legend=True), x="strength, log-odds")
    rows_axis(figure, names)
    figure.add_vline(x=0, line={"color": COLOURS["line-strong"], "width": 1})
    return figure
