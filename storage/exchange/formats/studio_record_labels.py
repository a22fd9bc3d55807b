"""The label half of a record of `storage.exchange.formats.studio_records`: fields to label and assignment, and back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any, get_args

from descore.answer import DIMENSIONS
from storage.exchange.parsed import CHOICES, ParsedAssignment, ParsedLabel, known_sub_scores
from storage.foreign_json import LARGEST_FLOAT, read_json
from storage.schema import Action, Kind, PairState, Side, Strength

if TYPE_CHECKING:
    from descore.tables.read_table import TableRow


_LONGEST = {"annotator": 80, "campaign": 150, "token": 64}
_ROUNDS = (0, 1, 2)
# The fields of a record that belong to a label, as `assignment_fields` and `label_fields` write them.
OF_LABEL = (
    *("campaign", "annotator", "kind", "round", "gold", "pair_state", "revision"),
    *("action", "choice", "strength", "sub_scores", "marks", "note", "reason", "left_video", "visible"),
    *("guideline_version", "seconds", "playback", "created_at", "token"),
)


def assignment_fields(assignment: ParsedAssignment) -> dict[str, Any]:
    """Return the fields of a record that describe the assignment."""
    return {
        "campaign": assignment.campaign,
        "annotator": assignment.annotator,
        "kind": assignment.kind,
        "round": assignment.round,
        "gold": None if assignment.gold is None else dict(assignment.gold),
        "pair_state": assignment.pair_state,
    }


def label_fields(label: ParsedLabel) -> dict[str, Any]:
    """Return the fields of a record that describe one revision."""
    return {
        "action": label.action,
        "choice": label.choice,
        "strength": label.strength,
        "sub_scores": _in_order(label.sub_scores),
        "marks": [{"video": mark["video"], "time": float(mark["time"])} for mark in label.marks],
        "note": label.note,
        "reason": label.reason,
        "left_video": label.left_video,
        "visible": list(label.visible),
        "guideline_version": label.guideline_version,
        "seconds": label.seconds,
        "playback": {side: dict(sorted(stats.items())) for side, stats in sorted(label.playback.items()) if stats},
        "created_at": label.created_at,
        "token": label.token,
    }


def _in_order(scores: Mapping[str, Mapping[str, str]]) -> dict[str, dict[str, str]]:
    """Sub-scores without empty sides, in an order that does not hang on how they came about."""
    return {
        side: {name: scores[side][name] for name in DIMENSIONS if name in scores[side]}
        for side in sorted(scores)
        if scores[side]
    }


@dataclass
class LabelFields:
    """The revisions of one assignment, as its records come along in any order."""

    line: int
    campaign: str | None
    annotator: str | None
    kind: Kind
    round: int
    gold: Mapping[str, Any] | None
    pair_state: PairState
    labels: dict[int, ParsedLabel] = field(default_factory=dict)
    repeated: list[int] = field(default_factory=list)

    @property
    def assignment_key(self) -> tuple[Any, ...]:
        """What the records of one assignment share."""
        return self.campaign, self.annotator, self.round

    def take(self, other: LabelFields) -> None:
        """Add the revision of another record of the same assignment; the same one again changes nothing."""
        for revision, label in other.labels.items():
            if self.labels.setdefault(revision, label) != label or other.kind != self.kind:
                self.repeated.append(revision)

    def assignment(self) -> ParsedAssignment:
        """All of it.

        Raises:
            ValueError: a revision is there twice and differs, or one is missing.
        """
        who = f"{self.annotator or 'one annotator'}, round {self.round}"
        if self.repeated:
            raise ValueError(f"{who}: revision {self.repeated[0]} is there twice, with different contents")
        if sorted(self.labels) != list(range(len(self.labels))):
            raise ValueError(f"{who}: the revisions are {sorted(self.labels)}; they must be counted from 0 without a gap")
        labels = tuple(label for _, label in sorted(self.labels.items()))
        return ParsedAssignment(
            labels, self.annotator, self.campaign, self.kind, self.round, self.gold, self.pair_state, self.line
        )


def label_of(row: TableRow) -> LabelFields | None:
    """Parse the label in a record; None where it has none.

    Raises:
        ValueError: a field that a label can't have; the message names it.
    """
    choice = _one_of(row, "choice", CHOICES, None)
    if choice is None and row.cells.get("action") is None:
        return None
    action: Action = _one_of(row, "action", get_args(Action), "label")
    if (action == "label") != (choice is not None):
        raise ValueError(f"action {action} with the choice {choice}: a label has a choice, everything else has none")
    label = ParsedLabel(
        choice=choice,
        action=action,
        strength=_one_of(row, "strength", get_args(Strength), None),
        sub_scores=known_sub_scores(row.cells.get("sub_scores")),
        marks=tuple(_mark(mark) for mark in _list(row, "marks")),
        note=_text(row, "note") or "",
        reason=_text(row, "reason") or "",
        left_video=_one_of(row, "left_video", get_args(Side), "A"),
        visible=tuple(str(name) for name in _list(row, "visible")),
        guideline_version=_whole(row, "guideline_version", 1),
        seconds=_number(row.cells.get("seconds", 0.0), "seconds"),
        playback=_playback(row.cells.get("playback")),
        created_at=_moment(row.cells.get("created_at")),
        token=_text(row, "token"),
    )
    round_ = _whole(row, "round", 0)
    if round_ not in _ROUNDS:
        raise ValueError(f"round is {round_}; expected 0, 1 for a planned repeat, or 2 for an adjudication")
    kind: Kind = _one_of(row, "kind", get_args(Kind), "import")
    pair_state: PairState = _one_of(row, "pair_state", get_args(PairState), "open")
    fields = LabelFields(row.line, _text(row, "campaign"), _text(row, "annotator"), kind, round_, _gold(row), pair_state)
    fields.labels[_whole(row, "revision", 0)] = label
    return fields


def json_object(value: Any, name: str) -> dict[str, Any]:
    """Read an object, or the JSON of one (a Parquet column has one type for all rows); {} for nothing.

    Raises:
        ValueError: something else.
    """
    if value is None or value == "":
        return {}
    if isinstance(value, str):
        try:
            value = read_json(value)
        except ValueError as error:
            raise ValueError(f"{name} is not a JSON object that can be kept: {error}") from None
    if not isinstance(value, dict):
        raise ValueError(f"{name} is not a JSON object")
    return value


def _text(row: TableRow, name: str) -> str | None:
    value = row.cells.get(name)
    if value is None or value == "":
        return None
    if not isinstance(value, str) or len(value) > _LONGEST.get(name, len(value)):
        raise ValueError(f"{name} must be text of at most {_LONGEST.get(name, 'any number of')} characters")
    return value


def _one_of(row: TableRow, name: str, known: tuple[Any, ...], default: Any) -> Any:
    value = row.cells.get(name)
    if value is None or value == "":
        return default
    if value not in known:
        raise ValueError(f"{name} is {value!r}; expected {', '.join(known)}")
    return value


def _whole(row: TableRow, name: str, default: int) -> int:
    value = row.cells.get(name)
    if value is None:
        return default
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 2**31:
        raise ValueError(f"{name} is {value!r}; expected a whole number")
    return value


def _number(value: Any, name: str) -> float:
    value = 0.0 if value is None else value
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= LARGEST_FLOAT:
        raise ValueError(f"{name} is {value!r}; expected a number that is not negative")
    return float(value)


def _list(row: TableRow, name: str) -> list[Any]:
    value = row.cells.get(name)
    if value is None:
        return []
    if not isinstance(value, list):
        raise ValueError(f"{name} is {value!r}; expected a list")
    return value


def _mark(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict) or value.get("video") not in ("A", "B"):
        raise ValueError(f"a mark is {value!r}; expected an object with video (A or B) and time")
    return {"video": value["video"], "time": _number(value.get("time"), "the time of a mark")}


def _playback(value: Any) -> dict[str, dict[str, float]]:
    value = json_object(value, "playback")
    if not isinstance(value, dict) or not set(value) <= {"A", "B"}:
        raise ValueError(f"playback is {value!r}; expected an object with A and B")
    playback: dict[str, dict[str, float]] = {}
    for side, stats in value.items():
        if stats is not None and not isinstance(stats, dict):
            raise ValueError(f"playback of {side} is {stats!r}; expected an object")
        numbers = {name: number for name, number in (stats or {}).items() if number is not None}
        for name, number in numbers.items():
            _number(number, f"playback: {name} of {side}")
        if numbers:
            playback[side] = numbers
    return playback


def _gold(row: TableRow) -> Mapping[str, Any] | None:
    value = json_object(row.cells.get("gold"), "gold")
    if not value:
        return None
    if value.get("choice") not in CHOICES:
        raise ValueError("gold must be an object with a choice")
    return {
        "choice": value["choice"],
        "sub_scores": known_sub_scores(value.get("sub_scores")) or None,
        "explanation": str(value.get("explanation") or ""),
    }


def _moment(value: Any) -> datetime | None:
    if isinstance(value, str) and value:
        try:
            # Python 3.10 does not know Z.
            value = datetime.fromisoformat(value.replace("Z", "+00:00"))
        except ValueError:
            raise ValueError(f"created_at is {value!r}; expected a moment such as 2026-01-31T12:00:00+00:00") from None
    if value is None or value == "":
        return None
    if not isinstance(value, datetime) or value.tzinfo is None:
        raise ValueError(f"created_at is {value!r}; it needs a time zone")
    try:
        return value.astimezone(timezone.utc)
    except OverflowError:
        raise ValueError(f"created_at is {value}; in UTC that lies outside the years 1 to 9999") from None
