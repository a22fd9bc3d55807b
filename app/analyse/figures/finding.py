"""Result of an analysis: sentences, figures and a table, to be shown, downloaded and put into a report.

    accuracy = share(hits=41, of=50)        # 0.82 with Wilson's interval and n
    finding = Finding("accuracy", "Accuracy", ("...",), (Chart("", figure),), ("name", "accuracy"), (("v2", accuracy),))
    csv_text(finding)                       # every number in full precision, intervals in columns of their own

This module knows no web page; `app.analyse.views.findings` draws findings.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import plotly.graph_objects as go

from descore.metrics import wilson_interval

Floats = npt.NDArray[np.float64]

FEW_CASES = 30  # a share of fewer cases says little, whatever its value
RESAMPLES = 1000
_MOST_CELLS = 4_000_000  # of a bootstrap: resamples x observations
_FEWEST_RESAMPLES = 200
_LEVEL = 0.95


@dataclass(frozen=True)
class Estimate:
    """A number with its 95 % interval.

    Attributes:
        value: None where it is undefined.
        low, high: ends of the interval; None where there is none.
        n: independent cases that it was computed from; 0 with a value where that is unknown.
        percent: whether the number is a share, to be shown in percent.
        why: the reason why the value is undefined.
    """

    value: float | None
    low: float | None
    high: float | None
    n: int
    percent: bool = False
    why: str = "no pairs"

    @property
    def has_few_cases(self) -> bool:
        """Whether a reader has to be warned that n is small."""
        return 0 < self.n < FEW_CASES


Cell = str | int | float | Estimate | None


@dataclass(frozen=True)
class Chart:
    """A Plotly figure with its title, "" where the title of the finding says enough."""

    title: str
    figure: go.Figure


@dataclass(frozen=True)
class Finding:
    """One block of the page.

    Attributes:
        key: name of its downloads.
        title: heading.
        notes: what is shown and how to read it, one or two sentences each; without charts and rows, why there are none.
        charts: figures, in the order of the page.
        head: names of the table's columns.
        rows: cells of the table, as many in each row as in `head`.
    """

    key: str
    title: str
    notes: tuple[str, ...] = ()
    charts: tuple[Chart, ...] = ()
    head: tuple[str, ...] = ()
    rows: tuple[tuple[Cell, ...], ...] = ()

    def __post_init__(self) -> None:
        if any(len(row) != len(self.head) for row in self.rows):
            raise ValueError(f"finding {self.key!r}: each row needs {len(self.head)} cells, one for each column")


def share(hits: int, of: int, why: str = "no pairs") -> Estimate:
    """Return the proportion hits / of with Wilson's interval; undefined where `of` is 0."""
    if of == 0:
        return Estimate(None, None, None, 0, True, why)
    low, high = wilson_interval(hits, of)
    return Estimate(hits / of, low, high, of, True)


def bootstrap(
    statistic: Callable[[npt.NDArray[np.int64]], Floats], n: int, seed: int = 0, most: int = RESAMPLES
) -> tuple[float, float] | None:
    """Return the percentile interval over n cases drawn with replacement; None where too few draws are defined.

    Args:
        statistic: from indices, shape (draws, n), to one number for each draw, NaN where it is undefined.
        n: number of cases.
        seed: of the random draws.
        most: upper limit for the number of draws.
    """
    if n < 2:
        return None
    drawn = np.random.default_rng(seed).integers(0, n, size=(min(most, resample_count(n)), n))
    return percentile_interval(statistic(drawn))


def percentile_interval(values: Floats) -> tuple[float, float] | None:
    """Return the 95 % interval of bootstrap draws; None where more than a tenth of them are NaN."""
    defined = values[np.isfinite(values)]
    if len(defined) < 0.9 * len(values) or not len(defined):
        return None
    low, high = np.quantile(defined, [(1 - _LEVEL) / 2, (1 + _LEVEL) / 2])
    return float(low), float(high)


def resample_count(n: int) -> int:
    """Return the draws of a bootstrap over n cases: fewer of many cases, which cost more and have narrow intervals."""
    return int(np.clip(_MOST_CELLS // max(1, n), _FEWEST_RESAMPLES, RESAMPLES))


def estimate(value: float | None, interval: tuple[float, float] | None, n: int, percent: bool = False) -> Estimate:
    """Return an estimate from a value and an interval, either of which may be missing."""
    low, high = interval or (None, None)
    return Estimate(value, low, high, n, percent, "" if value is not None else "undefined")


def csv_text(finding: Finding) -> str:
    """Return the table as CSV in full precision; an estimate takes four columns: value, low, high and n."""
    wide = [any(isinstance(row[column], Estimate) for row in finding.rows) for column in range(len(finding.head))]
    lines: list[list[str]] = [[]]
    for name, is_wide in zip(finding.head, wide, strict=True):
        lines[0] += [name, f"{name}, low", f"{name}, high", f"{name}, n"] if is_wide else [name]
    for row in finding.rows:
        lines.append([text for cell, is_wide in zip(row, wide, strict=True) for text in _texts(cell, is_wide)])
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(lines)
    return text.getvalue()


def _texts(cell: Cell, wide: bool) -> Sequence[str]:
    if isinstance(cell, Estimate):
        return [_text(cell.value), _text(cell.low), _text(cell.high), str(cell.n) if cell.n or cell.value is None else ""]
    return [_text(cell), "", "", ""] if wide else [_text(cell)]


def _text(value: str | int | float | None) -> str:
    return "" if value is None else repr(float(value)) if isinstance(value, float) else str(value)
