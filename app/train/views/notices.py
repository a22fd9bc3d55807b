"""HTML of what a run wants to be known: alarms, warnings, and pairs that were left out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from markupsafe import Markup

from app.ui.markup import joined, pill
from app.ui.wording import STAGES, plural
from storage.training.alarms import Alarm

Tone = Literal["alarm", "warning", "past", "note"]
PAST_SHOWN = 3  # alarms that are over; more are folded away
TITLES = {"alarm": ("alarm", "bad"), "warning": ("warning", "warn"), "past": ("past alarm", "")}


@dataclass(frozen=True)
class Notice:
    """One thing to be known.

    Attributes:
        tone: an alarm that is on, a warning, an alarm that is over, or a plain note.
        text: what is wrong.
        when: stage and steps; "" where it is true of all.
        advice: what to do; "" where there is nothing to do.
    """

    tone: Tone
    text: str
    when: str = ""
    advice: str = ""


def alarm_notice(stage: str, alarm: Alarm, is_newest: bool) -> Notice:
    """Make a notice of an alarm. is_newest: whether no later stage has begun, in which it would be over."""
    is_on = alarm.is_on and is_newest
    return Notice("alarm" if is_on else "past", alarm.sentence, f"{STAGES.get(stage, stage)}, {alarm.when}", alarm.advice)


def notices_view(notices: Sequence[Notice]) -> Markup:
    """Show notices in the order of their weight; many past alarms are folded away."""
    if not notices:
        return Markup("")
    order = {"alarm": 0, "warning": 1, "past": 2, "note": 3}
    ordered = sorted(notices, key=lambda notice: order[notice.tone])
    past = [notice for notice in ordered if notice.tone == "past"][PAST_SHOWN:]
    shown = joined(_line(notice) for notice in ordered if notice not in past)
    more = Markup("")
    if past:
        more = Markup(
            '<details class="train-more" data-keep="past-alarms"><summary>{} that are over</summary><ul>{}</ul></details>'
        )
        more = more.format(plural(len(past), "more alarm"), joined(map(_line, past)))
    return Markup('<ul class="train-notices" aria-label="Alarms and warnings">{}</ul>{}').format(shown, more)


def _line(notice: Notice) -> Markup:
    title = pill(*TITLES[notice.tone]) if notice.tone in TITLES else Markup("")
    when = Markup("<small>{}</small>").format(notice.when) if notice.when else Markup("")
    advice = Markup(" <span>{}</span>").format(notice.advice) if notice.advice else Markup("")
    return Markup('<li class="is-{}">{} {} <p>{}{}</p></li>').format(notice.tone, title, when, notice.text, advice)
