"""The form of a label: its fields, their limits, and whether an answer is complete.

    answer = checked(Answer(choice="A", strength="clearly", sub_scores=sub_scores), campaign.config.dimensions, 3.0, 2.5)

An answer names the pair's videos A and B, whichever stood left; `as_shown` assignments it to what the person saw.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, get_args

from descore.answer import SUB_SCORES
from descore.prompt import text_problem
from storage.errors import AnswerError
from storage.foreign_json import LARGEST_FLOAT
from storage.schema import Action, Choice, Side, Strength

SIDES = ("A", "B")
LONGEST_TEXT = 4000
MOST_MARKS = 50
LONGEST_SECONDS = 24 * 3600.0
# A player may report a moment shortly after the last frame.
MARK_MARGIN_SECONDS = 0.5
_MOST_PLAYS = 1_000_000


@dataclass(frozen=True)
class Answer:
    """A label, or the skip or flag of a pair. Stored and parsed labels are answers too, with further fields.

    Attributes:
        action: "label", "skip" or "flag"; a revision in the store may also be "withdraw".
        choice: the overall preference; None for all but labels.
        strength: how clear the preference for A or B is.
        sub_scores: {"A": {"subject": "2", ...}, "B": {...}}, of the dimensions of the campaign.
        marks: ({"video": "A", "time": seconds}, ...), where a video breaks.
        reason: why the pair was skipped or flagged.
        seconds: time on task.
        playback: {"A": {"watched": share 0..1, "plays": n}, "B": ...}.
    """

    action: Action = "label"
    choice: Choice | None = None
    strength: Strength | None = None
    sub_scores: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    marks: Sequence[Mapping[str, Any]] = ()
    note: str = ""
    reason: str = ""
    seconds: float = 0.0
    playback: Mapping[str, Mapping[str, float]] = field(default_factory=dict)


def checked(answer: Answer, dimensions: Sequence[str], duration_a: float, duration_b: float) -> Answer:
    """Check an answer, and return it as it is stored: a skip or flag keeps no judgement.

    Args:
        dimensions: the sub-scores that the campaign asks, none where it asks the overall preference alone.
        duration_a, duration_b: of the two videos, in seconds.

    Raises:
        AnswerError: something is missing, unknown or out of range.
    """
    if answer.action not in ("label", "skip", "flag"):
        raise AnswerError(f"a pair is labelled, skipped or flagged; found {answer.action!r}")
    common = replace(
        answer,
        marks=_checked_marks(answer.marks, {"A": duration_a, "B": duration_b}),
        note=_checked_text(answer.note, "note"),
        reason=_checked_text(answer.reason, "reason"),
        seconds=_checked_seconds(answer.seconds),
        playback=_checked_playback(answer.playback),
    )
    if answer.action == "label":
        _check_choice(answer.choice, answer.strength)
        return replace(common, reason="", sub_scores=_checked_sub_scores(answer.sub_scores, dimensions))
    if not common.reason:
        raise AnswerError(f"a {answer.action} needs a reason")
    return replace(common, choice=None, strength=None, sub_scores={})


def same_judgement(first: Answer, second: Answer) -> bool:
    """Whether both say the same. Time and playback don't count: a retry may report later ones."""
    names = ("action", "choice", "strength", "sub_scores", "note", "reason")
    if any(getattr(first, name) != getattr(second, name) for name in names):
        return False
    return [dict(mark) for mark in first.marks] == [dict(mark) for mark in second.marks]


def as_shown(answer: Answer, left_video: Side) -> dict[str, Any]:
    """Convert an answer to the sides where the videos stood, ready for JSON; nothing in it tells which one is A."""
    side = {"A": "left", "B": "right"} if left_video == "A" else {"A": "right", "B": "left"}
    return {
        "action": answer.action,
        "choice": None if answer.choice is None else side.get(answer.choice, answer.choice),
        "strength": answer.strength,
        "sub_scores": {side[video]: dict(scores) for video, scores in answer.sub_scores.items()},
        "marks": [{"side": side[mark["video"]], "time": mark["time"]} for mark in answer.marks],
        "note": answer.note,
        "reason": answer.reason,
        "seconds": answer.seconds,
        "playback": {side[video]: dict(stats) for video, stats in answer.playback.items()},
    }


def _check_choice(choice: object, strength: object) -> None:
    if choice is None:
        raise AnswerError("choose which video is better, or that they tie, or that both are bad")
    if choice not in get_args(Choice):
        raise AnswerError(f"a choice is one of {', '.join(get_args(Choice))}; found {choice!r}")
    if choice not in SIDES:
        if strength is not None:
            raise AnswerError("a tie, or both bad, has no strength")
    elif strength not in get_args(Strength):
        raise AnswerError("say whether the video is slightly or clearly better")


def _checked_sub_scores(scores: object, dimensions: Sequence[str]) -> dict[str, dict[str, str]]:
    if not isinstance(scores, Mapping):
        raise AnswerError("sub-scores are given for each video")
    if not dimensions:
        if any(scores.values()):
            raise AnswerError("this campaign asks no sub-scores")
        return {}
    if set(scores) != set(SIDES):
        raise AnswerError("both videos need their sub-scores")
    checked_scores: dict[str, dict[str, str]] = {}
    for video in SIDES:
        cells = scores[video]
        if not isinstance(cells, Mapping) or any(cells.get(name) not in SUB_SCORES for name in dimensions):
            raise AnswerError(f"each video needs one of {', '.join(SUB_SCORES)} for {', '.join(dimensions)}")
        if set(cells) != set(dimensions):
            raise AnswerError(f"this campaign asks only {', '.join(dimensions)}")
        checked_scores[video] = {name: cells[name] for name in dimensions}
    return checked_scores


def _checked_marks(marks: object, durations: Mapping[str, float]) -> tuple[dict[str, Any], ...]:
    if not isinstance(marks, Sequence) or isinstance(marks, str) or len(marks) > MOST_MARKS:
        raise AnswerError(f"at most {MOST_MARKS} marks can be set")
    checked_marks = []
    for mark in marks:
        if not isinstance(mark, Mapping) or set(mark) != {"video", "time"} or mark["video"] not in SIDES:
            raise AnswerError("a mark names a video and a time")
        time = _finite(mark["time"], "the time of a mark")
        if not 0 <= time <= durations[mark["video"]] + MARK_MARGIN_SECONDS:
            raise AnswerError(f"a mark at {time:g} s lies outside its video")
        checked_marks.append({"video": mark["video"], "time": time})
    return tuple(checked_marks)


def _checked_text(text: object, what: str) -> str:
    if not isinstance(text, str):
        raise AnswerError(f"the {what} has to be text")
    problem = text_problem(text, LONGEST_TEXT)
    if problem is not None:
        raise AnswerError(f"the {what} {problem}")
    return text.strip()


def _checked_seconds(seconds: object) -> float:
    number = _finite(seconds, "the time on task")
    if number < 0:
        raise AnswerError("the time on task can't be negative")
    return min(number, LONGEST_SECONDS)


def _checked_playback(playback: object) -> dict[str, dict[str, float]]:
    if not isinstance(playback, Mapping) or not set(playback) <= set(SIDES):
        raise AnswerError("playback is reported for each video")
    checked_playback: dict[str, dict[str, float]] = {}
    for video, stats in playback.items():
        if not isinstance(stats, Mapping) or not set(stats) <= {"watched", "plays"}:
            raise AnswerError("playback is the watched share and the number of plays")
        watched, plays = _finite(stats.get("watched", 0.0), "a watched share"), stats.get("plays", 0)
        if not 0 <= watched <= 1:
            raise AnswerError(f"a watched share lies between 0 and 1; found {watched:g}")
        if not isinstance(plays, int) or isinstance(plays, bool) or not 0 <= plays <= _MOST_PLAYS:
            raise AnswerError("the number of plays is a whole number")
        checked_playback[video] = {"watched": watched, "plays": plays}
    return checked_playback


def _finite(number: object, what: str) -> float:
    if isinstance(number, bool) or not isinstance(number, (int, float)) or not abs(number) <= LARGEST_FLOAT:
        raise AnswerError(f"{what} has to be a number")
    return float(number)
