"""Small pieces of HTML. `Markup(...).format(...)` escapes every argument that is not Markup itself."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from markupsafe import Markup

from descore.metrics import wilson_interval

MINUS = "\N{MINUS SIGN}"
DASH = "\N{EN DASH}"
NOTHING = Markup('<span class="ds-none">\N{EN DASH}</span>')


def joined(parts: Iterable[str], between: str = "") -> Markup:
    """Join pieces into a row; plain text among them is escaped."""
    return Markup(between).join(parts)


def bar(share: float, label: str) -> Markup:
    """Return a progress bar; share in 0..1."""
    percent = round(100 * min(1.0, max(0.0, share)), 1)
    return Markup(
        '<span class="ds-bar" role="progressbar" aria-valuemin="0" aria-valuemax="100" aria-valuenow="{0}" '
        'aria-label="{1}"><span style="width: {0}%"></span></span>'
    ).format(percent, label)


def pill(text: str, tone: str = "") -> Markup:
    """Return a short word of state; tone "good", "warn", "bad" or none."""
    return Markup('<span class="ds-pill {}">{}</span>').format(tone, text)


def button(text: str, act: str, key: object = "", confirm: str = "", kind: str = "", fields_of: str = "") -> Markup:
    """Return a button that triggers an act.

    Args:
        key: id of the item that the act is for.
        confirm: a question to ask first.
        kind: a class of its own.
        fields_of: selector of a form whose fields are sent along.
    """
    ask = Markup(' data-confirm="{}"').format(confirm) if confirm else ""
    along = Markup(' data-with="{}"').format(fields_of) if fields_of else ""
    return Markup('<button type="button" class="ds-button {}" data-act="{}" data-id="{}"{}{}>{}</button>').format(
        kind, act, key, ask, along, text
    )


def options(choices: Mapping[str, str], selected: str = "") -> Markup:
    """Return the options of a select: value -> text."""
    lines = (
        Markup('<option value="{}"{}>{}</option>').format(value, Markup(" selected") if value == selected else "", text)
        for value, text in choices.items()
    )
    return joined(lines)


def checkboxes(name: str, choices: Mapping[str, str], checked: Iterable[str] = (), change: str = "") -> Markup:
    """Return checkboxes that are sent as one list; `change` names the act that each of them triggers."""
    checked = set(checked)
    act = Markup(' data-change="{}"').format(change) if change else ""
    lines = (
        Markup('<label class="ds-check"><input type="checkbox" data-many name="{}" value="{}"{}{}>{}</label>').format(
            name, value, act, Markup(" checked") if value in checked else "", text
        )
        for value, text in choices.items()
    )
    return joined(lines)


def table(head: Iterable[str], rows: Iterable[Iterable[str]], kind: str = "") -> Markup:
    """Return a table that becomes a list of cards on a narrow screen; each cell knows its column's name there."""
    head = list(head)
    titles = joined(Markup("<th scope='col'>{}</th>").format(title) for title in head)
    lines = []
    for row in rows:
        cells = (Markup('<td data-name="{}">{}</td>').format(title, cell) for title, cell in zip(head, row, strict=True))
        lines.append(Markup("<tr>{}</tr>").format(joined(cells)))
    return Markup(
        '<div class="ds-scroll"><table class="ds-table {}"><thead><tr>{}</tr></thead><tbody>{}</tbody></table></div>'
    ).format(kind, titles, joined(lines))


def empty(text: str) -> Markup:
    """Say why there is nothing to see, and what would change that."""
    return Markup('<p class="ds-empty">{}</p>').format(text)


def count(number: int) -> str:
    """Write 12345 as 12 345."""
    return f"{number:,}".replace(",", "\N{NARROW NO-BREAK SPACE}")


def percent(share: float) -> str:
    """Write 0.843 as 84 %."""
    return f"{100 * share:.0f}\N{NARROW NO-BREAK SPACE}%"


def proportion(hits: int, of: int, mark: str = "", title: str = "") -> Markup:
    """Return a share with its 95 % Wilson interval and the number of cases; a dash where there are none."""
    if of == 0:
        return NOTHING
    low, high = wilson_interval(hits, of)
    text = Markup("<b>{}</b> <small>{}{}{} of {}</small>").format(
        percent(hits / of), f"{100 * low:.0f}", DASH, f"{100 * high:.0f}", count(of)
    )
    return Markup('<span class="ds-share {}" title="{}">{}</span>').format(mark, title, text)
