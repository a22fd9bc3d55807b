"""The table of Krippendorff's alpha, with a line for each question."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from app.ui.markup import DASH, MINUS, NOTHING, count, empty, table
from storage.labelling.krippendorff import Alpha

HEAD = ("question", "alpha, categories", "alpha, ranks", "reading", "pairs", "answers")
TITLES = {"overall": "overall choice"}
_FROM, _TO = -0.2, 1.0  # what the small axis shows
RELIABLE, TENTATIVE = 0.8, 0.667


@dataclass(frozen=True)
class Agreement:
    """Krippendorff's alpha of one question."""

    nominal: Alpha  # over its values as categories
    ordinal: Alpha | None  # over the ranks 0 < 1 < 2, with N/A as missing; None without ranks


def agreement_table(by_question: Mapping[str, Agreement], questions: Sequence[str]) -> Markup:
    """Return the table of a campaign's questions, in their order."""
    if not by_question:
        return empty("No campaign chosen.")
    rows = [_row(name, by_question[name]) for name in questions if name in by_question]
    return table(HEAD, rows, "lead-agreement") + Markup(
        '<p class="ds-hint">Krippendorff’s alpha: 1 is perfect agreement, 0 is what chance gives. The bar is the 95 % '
        "interval (bootstrap over pairs). Categories: every value counts as different, N/A too. Ranks: 0 &lt; 1 &lt; 2, N/A "
        "left out. From 0.80 on labels are taken as reliable, from 0.67 on for tentative conclusions.</p>"
    )


def _row(name: str, one: Agreement) -> list[Markup | str]:
    leading = one.ordinal if one.ordinal is not None and one.ordinal.value is not None else one.nominal
    return [
        Markup("<b>{}</b>").format(TITLES.get(name, name)),
        _alpha(one.nominal),
        NOTHING if one.ordinal is None else _alpha(one.ordinal),
        _reading(leading),
        count(one.nominal.pairs),
        count(one.nominal.answers),
    ]


def _alpha(alpha: Alpha) -> Markup:
    if alpha.value is None:
        return Markup('<span class="ds-reason">undefined: {}</span>').format(alpha.reason)
    value = _signed(alpha.value)
    if alpha.low is None or alpha.high is None:
        return Markup('<b>{}</b> <span class="ds-reason">{}</span>').format(value, alpha.reason)
    text = Markup("<b>{}</b> <small>{} {} {}</small>").format(value, _signed(alpha.low), DASH, _signed(alpha.high))
    return Markup(
        '<span class="lead-alpha">{}<span class="lead-axis" aria-hidden="true"><i style="left: {:.1f}%"></i>'
        '<i style="left: {:.1f}%"></i><span style="left: {:.1f}%; width: {:.1f}%"></span><b style="left: {:.1f}%"></b>'
        "</span></span>"
    ).format(
        text,
        _percent(0.0),
        _percent(RELIABLE),
        _percent(alpha.low),
        _percent(alpha.high) - _percent(alpha.low),
        _percent(alpha.value),
    )


def _percent(value: float) -> float:
    """Return the position on the axis, in percent."""
    return 100 * (min(_TO, max(_FROM, value)) - _FROM) / (_TO - _FROM)


def _signed(value: float) -> str:
    return f"{value:.2f}".replace("-", MINUS)


def _reading(alpha: Alpha) -> str:
    """Say how far the labels can be relied on, by the lower end of the interval: so much the data support."""
    if alpha.value is None or alpha.low is None:
        return "not enough labels yet"
    if alpha.low >= RELIABLE:
        return "reliable"
    if alpha.low >= TENTATIVE:
        return "tentative"
    return "weak" if alpha.high is not None and alpha.high < RELIABLE else "open: needs more labels"
