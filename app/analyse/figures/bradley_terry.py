"""Bradley-Terry strengths of generators (Bradley and Terry 1952), fitted by scipy.

    wins = win_matrix(first, second, outcomes, len(names))       # ties count half for each
    strengths(wins)                                              # log-odds, mean 0; i beats j with sigmoid(s_i - s_j)

P(i beats j) = sigmoid(s_i - s_j) is a logistic regression without intercept, whose features are +1 for i and -1 for j. A
very weak ridge keeps the strength of a generator that never lost finite. A leaderboard's intervals take hundreds of fits, so
each is made from the matrix of wins and not from a row for each pair.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize
from scipy.sparse.csgraph import connected_components
from scipy.special import expit

Floats = npt.NDArray[np.float64]
Indices = npt.NDArray[np.int64]

# Weight of the data against the ridge: a generator that won n of n comes out near ln(n * C) at the most.
_C = 100.0


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
    played = wins + wins.T

    def loss(fitted: Floats) -> tuple[float, Floats]:
        lead = fitted[:, None] - fitted[None]
        gradient = fitted - _C * (wins - played * expit(lead)).sum(axis=1)
        return float(_C * (wins * np.logaddexp(0, -lead)).sum() + fitted @ fitted / 2), gradient

    def curvature(fitted: Floats) -> Floats:
        beats = expit(fitted[:, None] - fitted[None])
        between: Floats = _C * played * beats * beats.T
        return np.diag(1 + between.sum(axis=1)) - between

    start = np.zeros(len(wins))
    fitted: Floats = minimize(loss, start, jac=True, hess=curvature, method="trust-exact", options={"gtol": 1e-8}).x
    log_odds: Floats = fitted - fitted.mean()
    return log_odds


def comparable(wins: Floats) -> npt.NDArray[np.bool_]:
    """Return a mask of the largest set of generators that are linked by comparisons, whose strengths are comparable."""
    _, component = connected_components(wins + wins.T > 0, directed=False)
    largest: npt.NDArray[np.bool_] = component == np.argmax(np.bincount(component))
    return largest
