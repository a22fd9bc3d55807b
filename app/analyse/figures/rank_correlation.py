"""Spearman's rank correlation with a 95 % interval, a bootstrap over cases.

From `MANY` cases on the interval is Fisher's z with the variance of Bonett and Wright (2000), which needs no draws.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
from scipy.stats import rankdata

from app.analyse.figures.finding import Estimate, Floats, bootstrap, estimate

MANY = 1500
_FEWEST = 4
_RESAMPLES = 400
_Z = 1.959964


def spearman(first: npt.ArrayLike, second: npt.ArrayLike, cases: int | None = None) -> Estimate:
    """Correlate two lists of shape (n,).

    Args:
        first: values of one variable.
        second: values of the other.
        cases: number of independent cases, where several values belong to one: value i belongs to case i % cases. By
            default each value is a case.
    """
    x, y = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    n = len(x) if cases is None else cases
    if n < _FEWEST:
        return Estimate(None, None, None, n, why="too few pairs")
    value = float(correlations(x[None], y[None])[0])
    if math.isnan(value):
        return Estimate(None, None, None, n, why="all values are the same")
    if n >= MANY:
        return estimate(value, _fisher(value, n), n)

    def resampled(drawn: npt.NDArray[np.int64]) -> Floats:
        indices = np.concatenate([drawn + start for start in range(0, len(x), n)], axis=1)
        return correlations(x[indices], y[indices])

    return estimate(value, bootstrap(resampled, n, most=_RESAMPLES), n)


def correlations(x: Floats, y: Floats) -> Floats:
    """Return Spearman's rho for each row of two arrays of shape (rows, n); NaN where all values of a row are the same."""
    ranks = [rankdata(values, axis=1) for values in (x, y)]
    a, b = (values - values.mean(axis=1, keepdims=True) for values in ranks)
    with np.errstate(divide="ignore", invalid="ignore"):
        rho: Floats = (a * b).sum(axis=1) / np.sqrt((a**2).sum(axis=1) * (b**2).sum(axis=1))
    return rho


def _fisher(value: float, n: int) -> tuple[float, float]:
    centre = math.atanh(min(max(value, -1 + 1e-12), 1 - 1e-12))
    half = _Z * math.sqrt((1 + value**2 / 2) / (n - 3))
    return math.tanh(centre - half), math.tanh(centre + half)
