"""Strengths of generators from who beat whom (Bradley and Terry 1952), fitted by scikit-learn's logistic regression.

    wins = win_matrix(first, second, outcomes, len(names))       # ties count half for each
    strengths(wins)                                              # log-odds, mean 0; i beats j with sigmoid(s_i - s_j)

P(i beats j) = sigmoid(s_i - s_j) is a logistic regression without intercept whose features are +1 for i and -1 for j. A very
weak ridge keeps a generator that never lost from running off to infinity.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.sparse.csgraph import connected_components
from sklearn.linear_model import LogisticRegression

Floats = npt.NDArray[np.float64]
Places = npt.NDArray[np.int64]

# Weight of the data against the ridge: a generator that won n of n comes out near ln(n * C) at the most.
_C = 100.0


def win_matrix(first: Places, second: Places, outcomes: Floats, generators: int, weights: Floats | None = None) -> Floats:
    """How often row beat column, shape (generators, generators).

    Args:
        first, second: places of the generators of A and of B, (n,). outcomes: 1 A won, 0 B won, 0.5 a tie, (n,).
        weights: how often each comparison counts, (n,); once by default.
    """
    counted = np.ones(len(first)) if weights is None else weights
    wins = np.zeros((generators, generators))
    np.add.at(wins, (first, second), counted * outcomes)
    np.add.at(wins, (second, first), counted * (1 - outcomes))
    return wins


def strengths(wins: Floats) -> Floats:
    """Strengths in log-odds with mean 0, shape (generators,)."""
    size = len(wins)
    winners, losers = np.nonzero(wins)
    if not len(winners):
        return np.zeros(size)
    features = np.zeros((len(winners), size))
    features[np.arange(len(winners)), winners] = 1.0
    features[np.arange(len(winners)), losers] = -1.0
    weights = wins[winners, losers]
    # Each win is told once from either side, so that there are two classes even where one generator won everything.
    both, classes = np.concatenate([features, -features]), np.repeat([1, 0], len(winners))
    model = LogisticRegression(C=_C / 2, fit_intercept=False, solver="newton-cholesky", tol=1e-6)
    model.fit(both, classes, sample_weight=np.concatenate([weights, weights]))
    found: Floats = model.coef_[0] - model.coef_[0].mean()
    return found


def comparable(wins: Floats) -> npt.NDArray[np.bool_]:
    """The largest set of generators that are linked by comparisons; strengths of others mean nothing beside theirs."""
    _, component = connected_components(wins + wins.T > 0, directed=False)
    found: npt.NDArray[np.bool_] = component == np.argmax(np.bincount(component))
    return found
