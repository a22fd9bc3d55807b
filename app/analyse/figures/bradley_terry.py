"""Bradley-Terry strengths of generators (Bradley and Terry 1952), fitted by Newton's method.

    wins = win_matrix(first, second, outcomes, len(names))       # ties count half for each
    strengths(wins)                                              # log-odds, mean 0; i beats j with sigmoid(s_i - s_j)

P(i beats j) = sigmoid(s_i - s_j) is a logistic regression without intercept, whose features are +1 for i and -1 for j. A
very weak ridge keeps the strength of a generator that never lost finite. A leaderboard's intervals take hundreds of fits, so
each is made from the matrix of wins and not from a row for each pair.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.sparse.csgraph import connected_components
from scipy.special import expit

Floats = npt.NDArray[np.float64]
Indices = npt.NDArray[np.int64]

# Weight of the data against the ridge: a generator that won n of n comes out near ln(n * C) at the most.
_C = 100.0
_MOST_STEPS, _CONVERGED = 100, 1e-9  # Newton's steps, each of which moves a strength by 1 to 2 at the most; log-odds


def win_matrix(first: Indices, second: Indices, outcomes: Floats, generators: int, weights: Floats | None = None) -> Floats:
    """Count how often the row's generator beat the column's, shape (generators, generators).

    Args:
        first: index of the generator of A, shape (n,).
        second: index of the generator of B, shape (n,).
        outcomes: 1 where A won, 0 where B won, 0.5 for a tie, shape (n,).
        generators: how many there are.
        weights: how often each comparison counts, shape (n,); once by default.
    """
    counts = np.ones(len(first)) if weights is None else weights
    wins = np.zeros((generators, generators))
    np.add.at(wins, (first, second), counts * outcomes)
    np.add.at(wins, (second, first), counts * (1 - outcomes))
    return wins


def strengths(wins: Floats) -> Floats:
    """Fit strengths in log-odds with mean 0, shape (generators,)."""
    played, fitted = wins + wins.T, np.zeros(len(wins))
    for _ in range(_MOST_STEPS):
        expected = _p_beats(fitted)
        gradient = _C * (wins - played * expected).sum(axis=1) - fitted
        curvature = _C * played * expected * expected.T
        step = np.linalg.solve(np.diag(1 + curvature.sum(axis=1)) - curvature, gradient)
        if np.abs(step).max() < _CONVERGED:
            break
        # A whole step may lead too far where some pairs of generators met far more often than others.
        while _loss(wins, fitted + step) > _loss(wins, fitted) and np.abs(step).max() >= _CONVERGED:
            step /= 2
        fitted = fitted + step
    log_odds: Floats = fitted - fitted.mean()
    return log_odds


def _p_beats(fitted: Floats) -> Floats:
    """Return the probability that the row's generator beats the column's, shape (generators, generators)."""
    beats: Floats = expit(fitted[:, None] - fitted[None])
    return beats


def _loss(wins: Floats, fitted: Floats) -> float:
    return float(_C * (wins * np.logaddexp(0, fitted[None] - fitted[:, None])).sum() + fitted @ fitted / 2)


def comparable(wins: Floats) -> npt.NDArray[np.bool_]:
    """Return a mask of the largest set of generators that are linked by comparisons, whose strengths are comparable."""
    _, component = connected_components(wins + wins.T > 0, directed=False)
    largest: npt.NDArray[np.bool_] = component == np.argmax(np.bincount(component))
    return largest
