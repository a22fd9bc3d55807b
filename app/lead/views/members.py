"""The table of a campaign's annotators: how much, how fast, how reliable."""

from __future__ import annotations

from collections.abc import Sequence

from markupsafe import Markup

from app.ui.markup import NOTHING, button, count, empty, joined, percent, pill, proportion, table
from descore.metrics import wilson_interval
from storage.campaigns.members import Member

HEAD = (
    "annotator",
    "labels",
    "median time",
    "gold right",
    "same on repeats",
    "left chosen",
    "ties",
    "agrees",
    "skips, flags",
    "standing",
    "",
)
STANDING = {"active": ("active", "good"), "qualifying": ("qualifying", ""), "failed": ("not qualified", "bad")}


def member_table(members: Sequence[Member], pass_mark: float, in_all: str = "") -> Markup:
    """Return a table with one line for each annotator.

    Args:
        pass_mark: gold accuracy that the campaign asks for, 0..1.
        in_all: a sentence about the labels of all of them.
    """
    if not members:
        return empty("Nobody has taken a pair yet. Annotators join when they open the Label page.")
    rows = (_row(member, pass_mark) for member in members)
    total = Markup('<p class="ds-hint">{}</p>').format(in_all) if in_all else Markup("")
    return (
        total
        + table(HEAD, rows, "lead-members")
        + Markup(
            '<p class="ds-hint">Small figures: 95 % interval and number of cases. '
            "<mark>Marked</mark>: the whole interval lies on the wrong side (gold and repeats below {}, left away from "
            "50 %).</p>"
        ).format(percent(pass_mark))
    )


def _row(member: Member, pass_mark: float) -> list[Markup | str]:
    return [
        Markup('<b class="ds-name">{}</b>').format(member.annotator.name),
        count(member.labels),
        NOTHING if member.median_seconds is None else _duration(member.median_seconds),
        _at_least(member.gold_right, member.gold_total, pass_mark, "choice equals the gold answer"),
        _at_least(member.repeat_same, member.repeat_total, pass_mark, "same choice when the pair came again, flipped"),
        _left(member),
        percent(member.ties / member.labels) if member.labels else NOTHING,
        proportion(member.agreed, member.compared, title="same choice as another annotator on the same pair"),
        f"{count(member.skips)}, {count(member.flags)}",
        _standing(member),
        _actions(member),
    ]


def _at_least(hits: int, of: int, wanted: float, title: str) -> Markup:
    """Return a share, marked where even the upper end of its interval is too low."""
    too_low = of > 0 and wilson_interval(hits, of)[1] < wanted
    return proportion(hits, of, "is-marked" if too_low else "", title)


def _left(member: Member) -> Markup:
    """Return the share of left choices, marked where one half is outside its interval: a habit, not a judgement."""
    if member.decided == 0:
        return NOTHING
    low, high = wilson_interval(member.left_choices, member.decided)
    mark = "" if low <= 0.5 <= high else "is-marked"
    return proportion(member.left_choices, member.decided, mark, "share of the left video among choices of one video")


def _standing(member: Member) -> Markup:
    text, tone = STANDING[member.standing]
    return joined([pill(text, tone), pill("paused", "warn") if member.paused else Markup("")], " ")


def _actions(member: Member) -> Markup:
    key = member.annotator.id
    actions = [button("Resume", "resume", key) if member.paused else button("Pause", "pause", key)]
    if member.standing == "failed":
        actions.append(button("Readmit", "readmit", key, confirm=f"Let {member.annotator.name} label without the test?"))
    return joined(actions)


def _duration(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.1f} min"
