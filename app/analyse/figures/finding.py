"""What an analysis hands back: sentences, figures and a table, ready to be shown, downloaded and put into a report.

    right = share(hits=41, of=50)                                    # 0.82 with Wilson's interval and n
    finding = Finding("accuracy", "Accuracy", ("...",), (Chart("", figure),), ("checkpoint", "accuracy"), ((name, right),))
    csv_text(finding)                                                # every number in full, intervals as columns of their
    own

Nothing here knows of web pages; `app.analyse.views` draws findings.
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

FEW = 30  # below so many cases a share says little, whatever its value
RESAMPLES = 1000
_CELLS = 4_000_000  # resamples x observations that one bootstrap may cost
_LEAST_RESAMPLES = 200
_LEVEL = 0.95


@dataclass(frozen=True)
class Estimate:
    """A number with its 95 % interval and the number of independent cases behind it.

    value None: undefined, for the reason `why`. low and high None: no interval. n 0 with a value: nobody said how many.
    percent: a share, to be shown in percent.
    """

    value: float | None
    low: float | None
    high: float | None
    n: int
    percent: bool = False
    why: str = "no pairs"

    @property
    def few(self) -> bool:
        """Whether there are so few cases that it has to be said."""
        return 0 < self.n < FEW


Cell = str | int | float | Estimate | None


@dataclass(frozen=True)
class Chart:
    """A figure with the words above it, "" where the finding's own title says enough."""

    title: str
    figure: go.Figure


@dataclass(frozen=True)
class Finding:
    """One block of the page. key: names its downloads. notes: what is shown and how to read it, a sentence or two each.

    Without charts and rows the notes say why there is nothing.
    """

    key: str
    title: str
    notes: tuple[str, ...] = ()
    charts: tuple[Chart, ...] = ()
    head: tuple[str, ...] = ()
    rows: tuple[tuple[Cell, ...], ...] = ()

    def __post_init__(self) -> None:
        if any(len(row) != len(self.head) for row in self.rows):
            raise ValueError(f"{self.key}: a row has not as many cells as the head")


def share(hits: int, of: int, why: str = "no pairs") -> Estimate:
    """A proportion with Wilson's interval; undefined of nothing."""
    if of == 0:
        return Estimate(None, None, None, 0, True, why)
    low, high = wilson_interval(hits, of)
    return Estimate(hits / of, low, high, of, True)


def bootstrap(
    statistic: Callable[[npt.NDArray[np.int64]], Floats], n: int, seed: int = 0, most: int = RESAMPLES
) -> tuple[float, float] | None:
    """Percentile interval over n cases that are drawn with replacement; None where too few draws are defined.

    Args:
        statistic: from indices (draws, n) to one number for each draw, NaN where it is undefined.
        most: draws at the most.
    """
    if n < 2:
        return None
    drawn = np.random.default_rng(seed).integers(0, n, size=(min(most, resamples_for(n)), n))
    return percentiles(statistic(drawn))


def percentiles(values: Floats) -> tuple[float, float] | None:
    """The 95 % interval of draws; None where more than a tenth of them is undefined."""
    defined = values[np.isfinite(values)]
    if len(defined) < 0.9 * len(values) or not len(defined):
        return None
    low, high = np.quantile(defined, [(1 - _LEVEL) / 2, (1 + _LEVEL) / 2])
    return float(low), float(high)


def resamples_for(n: int) -> int:
    """Draws of a bootstrap over n cases: fewer of many, where each costs more and the interval is narrow anyway."""
    return int(np.clip(_CELLS // max(1, n), _LEAST_RESAMPLES, RESAMPLES))


def estimate(value: float | None, interval: tuple[float, float] | None, n: int, percent: bool = False) -> Estimate:
    """An estimate from a value and an interval that may be missing."""
    low, high = interval or (None, None)
    return Estimate(value, low, high, n, percent, "" if value is not None else "undefined")


def csv_text(finding: Finding) -> str:
    """The table in full precision; an estimate takes four columns: value, low, high and n."""
    wide = [any(isinstance(row[place], Estimate) for row in finding.rows) for place in range(len(finding.head))]
    lines: list[list[str]] = [[]]
    for name, is_wide in zip(finding.head, wide, strict=True):
        lines[0] += [name, f"{name}, low", f"{name}, high", f"{name}, n"] if is_wide else [name]
    for row in finding.rows:
        lines.append([text for cell, is_wide in zip(row, wide, strict=True) for text in _texts(cell, is_wide)])
    written = io.StringIO()
    csv.writer(written, lineterminator="\n").writerows(lines)
    return written.getvalue()


def _texts(cell: Cell, wide: bool) -> Sequence[str]:
    if isinstance(cell, Estimate):
        return [_text(cell.value), _text(cell.low), _text(cell.high), str(cell.n) if cell.n or cell.value is None else ""]
    return [_text(cell), "", "", ""] if wide else [_text(cell)]


def _text(value: str | int | float | None) -> str:
    return "" if value is None else repr(float(value)) if isinstance(value, float) else str(value)
