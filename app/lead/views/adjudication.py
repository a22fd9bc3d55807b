"""The list of pairs on which people disagree, the form for the lead's decision, and the list of flagged pairs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from app.ui.label_table import SHORT_CHOICES
from app.ui.markup import button, count, empty, joined, options, table
from descore.answer import SUB_SCORES
from storage.labelling.adjudication import Dispute
from storage.labelling.campaign_pairs import FlaggedPair
from storage.labelling.consensus import COUNTED
from storage.labelling.labels import Label

CHOICES = {"A": "A is better", "tie": "Tie", "B": "B is better", "both_bad": "Both bad"}
STRENGTHS = {"": "strength \N{HORIZONTAL ELLIPSIS}", "slightly": "slightly", "clearly": "clearly"}


@dataclass(frozen=True)
class Decision:
    """The first values of the form."""

    submission: str  # a token, so that a double click saves once
    sub_scores: Mapping[str, Mapping[str, str]]  # the values that most people gave, by video and dimension


def dispute_list(disputes: Sequence[Dispute], total: int, shown: int | None, before: bool) -> Markup:
    """Return a page of the queue.

    Args:
        total: number of pairs in disagreement.
        shown: the pair on the player.
        before: whether the page starts further down in the list.
    """
    if not disputes:
        text = "That was the last one." if before else "Every pair with all its labels has a majority."
        return joined([empty(f"No pair in disagreement. {text}"), button("Back to the first", "start") if before else ""])
    items = joined(
        Markup(
            '<li><button type="button" data-act="look" data-id="{id}" aria-pressed="{pressed}">'
            "<span>{prompt}</span><small>{choices}</small></button></li>"
        ).format(
            id=one.pair.id,
            pressed=str(one.pair.id == shown).lower(),
            prompt=one.pair.prompt,
            choices=_choices(one.labels),
        )
        for one in disputes
    )
    more = button("More", "more", disputes[-1].campaign_pair_id) if total > len(disputes) or before else ""
    start = button("Back to the first", "start") if before else ""
    return Markup('<h3>{} in disagreement</h3><ol class="ds-queue">{}</ol>{}{}').format(_pairs(total), items, more, start)


def _choices(labels: Sequence[Label]) -> str:
    given = [label.choice for label in labels if label.kind in COUNTED]
    return ", ".join(f"{given.count(name)} {text}" for name, text in SHORT_CHOICES.items() if name in given)


def _pairs(number: int) -> str:
    return f"{count(number)} pair" + ("" if number == 1 else "s")


def decision_form(pair_id: int, decision: Decision, dimensions: Sequence[str]) -> Markup:
    """Return the form: choice, strength, sub-scores and a note; it starts with the values that most people gave."""
    choices = joined(
        Markup('<label class="ds-radio {}"><input type="radio" name="choice" value="{}" required>{}</label>').format(
            f"side-{value.lower()}" if value in ("A", "B") else "", value, text
        )
        for value, text in CHOICES.items()
    )
    return Markup(
        '<form class="ds-form lead-decision" data-act="decide" data-id="{id}">'
        '<input type="hidden" name="submission" value="{submission}"><fieldset class="ds-choices">'
        '<legend>Your decision</legend>{choices}<select name="strength" aria-label="Strength">{strengths}</select>'
        '</fieldset>{scores}<label class="ds-wide">Note<input name="note" maxlength="1000" '
        'placeholder="Why (optional)"></label><button class="ds-button is-main">Save the decision</button></form>'
    ).format(
        id=pair_id,
        submission=decision.submission,
        choices=choices,
        strengths=options(STRENGTHS),
        scores=_score_grid(decision, dimensions) if dimensions else "",
    )


def _score_grid(decision: Decision, dimensions: Sequence[str]) -> Markup:
    values = {"": "\N{HORIZONTAL ELLIPSIS}"} | {value: value for value in SUB_SCORES}
    rows: list[list[Any]] = []
    for side in ("A", "B"):
        cells = [
            Markup('<select name="score-{}-{}" aria-label="{} of video {}" required>{}</select>').format(
                side, name, name, side, options(values, decision.sub_scores.get(side, {}).get(name, ""))
            )
            for name in dimensions
        ]
        rows.append([Markup('<span class="side-{}"><b class="side-badge">{}</b></span>').format(side.lower(), side), *cells])
    return table(("video", *dimensions), rows, "ds-grid")


def flagged_list(flagged: Sequence[FlaggedPair], posters: Mapping[int, tuple[str, str]]) -> Markup:
    """Return the pairs that annotators flagged as broken, with their reasons.

    Args:
        posters: pair id -> addresses of the stills.
    """
    if not flagged:
        return Markup("<h3>Flagged</h3>") + empty("No pair is flagged.")
    rows = [
        [
            stills(*posters[one.pair.id]),
            Markup('<span class="ds-prompt">{}</span>').format(one.pair.prompt),
            joined(Markup("<p>{}</p>").format(reason) for reason in one.reasons),
            joined(
                [
                    button("Look", "look", one.pair.id),
                    button("Put back", "put-back", one.pair.id),
                    button("Drop", "drop", one.pair.id, confirm="Drop this pair? Nobody gets it any more."),
                ]
            ),
        ]
        for one in flagged
    ]
    return Markup("<h3>{} flagged</h3>{}").format(_pairs(len(flagged)), table(("pair", "prompt", "reasons", ""), rows))


def stills(a: str, b: str) -> Markup:
    """Return both videos' still pictures side by side."""
    return Markup(
        '<span class="ds-stills"><img src="{}" alt="video A" loading="lazy"><img src="{}" alt="video B" loading="lazy">'
        "</span>"
    ).format(a, b)
