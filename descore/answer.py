"""The answer grammar: sub-dimensions, strict parse, tolerant parse.

    <think> ...free text... </think><answer>{"subject": "2", ..., "style": "N/A", "overall_score": 4.33}</answer>

The strict parser decides the format reward R_fmt; the tolerant one serves readers of a page. Neither guesses: what
can't be parsed raises `AnswerError` with the reason. Source: DeScore (arXiv 2605.05922), section on the rollout reward.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

PRIMARY = ("subject", "dynamics")
SECONDARY = ("camera", "environment", "style")
DIMENSIONS = PRIMARY + SECONDARY
NOT_ASKED = "N/A"
SUB_SCORES = ("2", "1", "0", NOT_ASKED)
OVERALL_RANGE = (1.0, 5.0)
_LONGEST_SHOWN = 120  # characters of a value in a message

_STRICT = re.compile(r"\s*<think>(?P<think>.*?)</think>\s*<answer>(?P<answer>.*?)</answer>\s*", re.DOTALL)


class AnswerError(ValueError):
    """The text does not hold an answer of the grammar; the message says which rule it breaks."""


@dataclass(frozen=True)
class Answer:
    """One parsed answer.

    Attributes:
        reasoning: the text inside `<think>`.
        sub_scores: one of `SUB_SCORES` for each of `DIMENSIONS`.
        overall_score: 1.00 .. 5.00; None only from the tolerant parser.
        notes: what the tolerant parser had to overlook; empty after a strict parse.
    """

    reasoning: str
    sub_scores: dict[str, str]
    overall_score: float | None
    notes: tuple[str, ...] = ()


def render_answer(reasoning: str, sub_scores: Mapping[str, str], overall_score: float) -> str:
    """Write an answer in the strict grammar, dimensions in their fixed order, the overall score with two decimals."""
    cells = ", ".join(f'"{name}": "{sub_scores[name]}"' for name in DIMENSIONS)
    return f'<think>{reasoning}</think><answer>{{{cells}, "overall_score": {overall_score:.2f}}}</answer>'


def parse_strict(text: str) -> Answer:
    """Parse an answer that follows the grammar to the letter.

    Raises:
        AnswerError: anything outside the two blocks, blocks repeated or nested, JSON that has missing, repeated or
            additional keys, a sub-score that is not one of the strings in `SUB_SCORES`, an overall score that is
            not a number in 1 .. 5.
    """
    match = _STRICT.fullmatch(text)
    if match is None:
        raise AnswerError("the text is not exactly <think>...</think><answer>...</answer>")
    for tag in ("<think>", "</think>", "<answer>", "</answer>"):
        if text.count(tag) != 1:
            raise AnswerError(f"{tag} must occur exactly once")
    fields = _load_object(match["answer"])
    if set(fields) != {*DIMENSIONS, "overall_score"}:
        raise AnswerError(f"the keys must be {', '.join(DIMENSIONS)} and overall_score; found {_shown(list(fields))}")
    for name in DIMENSIONS:
        if not isinstance(fields[name], str) or fields[name] not in SUB_SCORES:
            raise AnswerError(f"{name} must be one of the strings {SUB_SCORES}; found {_shown(fields[name])}")
    overall = _overall(fields["overall_score"])
    return Answer(match["think"].strip(), {name: str(fields[name]) for name in DIMENSIONS}, overall)


def parse_tolerant(text: str) -> Answer:
    """Parse what a person would still read without doubt: code fences, missing tags, trailing text, integer scores.

    Every liberty taken is listed in `Answer.notes`. Values are never invented: a dimension that is missing or not
    readable raises.

    Raises:
        AnswerError: no JSON object, or one without the five readable sub-scores.
    """
    try:
        return parse_strict(text)
    except AnswerError as error:
        notes = [str(error)]
    reasoning, tail = _split_thought(text)
    fields = _last_object_with_scores(tail)
    sub_scores = {name: _tolerant_score(name, fields) for name in DIMENSIONS}
    changed = [name for name in DIMENSIONS if fields[name] != sub_scores[name]]
    notes += [f'{name}: {_shown(fields[name])} was read as "{sub_scores[name]}"' for name in changed]
    try:
        overall: float | None = _overall(_number(fields.get("overall_score")))
    except AnswerError as error:
        notes.append(str(error))
        overall = None
    return Answer(reasoning, sub_scores, overall, tuple(notes))


def _load_object(text: str) -> dict[str, object]:
    def unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
        keys = [key for key, _ in pairs]
        if len(set(keys)) != len(keys):
            raise AnswerError("a key of the JSON is repeated")
        return dict(pairs)

    try:
        fields = json.loads(text, object_pairs_hook=unique)
    except json.JSONDecodeError as error:
        raise AnswerError(f"the answer is not valid JSON: {error.msg}") from None
    except (RecursionError, ValueError) as error:
        if isinstance(error, AnswerError):
            raise
        # Python refuses integers of thousands of digits with a plain ValueError.
        raise AnswerError("the answer's JSON is nested too deeply or holds an endless number") from None
    if not isinstance(fields, dict):
        raise AnswerError("the answer is not a JSON object")
    return fields


def _overall(value: object) -> float:
    low, high = OVERALL_RANGE
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not low <= value <= high:
        raise AnswerError(f"overall_score must be a number from {low} to {high}; found {_shown(value)}")
    return float(value)


def _shown(value: object) -> str:
    """Write a value for a message: short, and without half characters, which JSON can hold and no page or store can."""
    text = repr(value)
    return text if len(text) <= _LONGEST_SHOWN else f"{text[:_LONGEST_SHOWN]}..."


def _split_thought(text: str) -> tuple[str, str]:
    head, separator, tail = text.rpartition("</think>")
    if not separator:
        head, separator, tail = text.partition("<answer>")
        if not separator:
            return "", text
    return head.replace("<think>", "").strip(), tail


def _last_object_with_scores(text: str) -> dict[str, object]:
    """Return the last JSON object of the text that names a dimension: drafts come first, the answer comes last.

    Code fences need no care of their own: an object is found wherever it begins.
    """
    decoder = json.JSONDecoder(object_pairs_hook=_keep_contradictions)
    last: dict[str, object] | None = None
    position = 0
    while (start := text.find("{", position)) >= 0:
        try:
            value, position = decoder.raw_decode(text, start)
        except (ValueError, RecursionError):
            position = start + 1
            continue
        if isinstance(value, dict) and any(name in value for name in DIMENSIONS):
            last = value
    if last is None:
        raise AnswerError("no JSON object with sub-scores in the text")
    return last


def _keep_contradictions(pairs: list[tuple[str, object]]) -> dict[str, object]:
    """Keep both values of a key that is repeated with another one, as a list, which no reader of a value accepts."""
    fields: dict[str, object] = {}
    for key, value in pairs:
        fields[key] = value if key not in fields or fields[key] == value else [fields[key], value]
    return fields


def _tolerant_score(name: str, fields: Mapping[str, object]) -> str:
    if name not in fields:
        raise AnswerError(f"the JSON has no {name}")
    value = fields[name]
    if isinstance(value, (int, float)) and not isinstance(value, bool) and value in (0, 1, 2):
        return str(int(value))
    text = str(value).strip().upper()
    if text in ("NA", "N.A.", "NOT APPLICABLE"):
        text = NOT_ASKED
    if isinstance(value, bool) or text not in SUB_SCORES:
        raise AnswerError(f"{name} has no readable sub-score: {_shown(value)}")
    return text


def _number(value: object) -> object:
    if isinstance(value, str):
        try:
            return float(value)
        except ValueError:
            return value
    return value


@dataclass(frozen=True)
class Reading:
    """The answers of one video's thoughts, taken together.

    Attributes:
        sub_scores: per dimension the value that most thoughts give; where counts are equal, the earliest thought's.
            None where no thought could be read.
        overall_score: mean over the thoughts that give one, two decimals; None where none does.
        votes: dimension -> sub-score -> number of thoughts; None where no thought could be read.
        note: why reading was tolerant or impossible; None if all thoughts were strict.
        strict: every thought followed the strict grammar.
    """

    sub_scores: dict[str, str] | None
    overall_score: float | None
    votes: dict[str, dict[str, int]] | None
    note: str | None
    strict: bool


def read_thoughts(texts: Sequence[str]) -> Reading:
    """Read the answers at the end of one video's thoughts; nothing is ever guessed.

    Args:
        texts: at least one generated text.
    """
    answers: list[Answer] = []
    notes: list[str] = []
    for text in texts:
        try:
            answer = parse_tolerant(text)
        except AnswerError as error:
            notes.append(f"not readable: {error}")
            continue
        answers.append(answer)
        if answer.notes:
            notes.append(f"read tolerantly: {'; '.join(answer.notes)}")
    note = _summary(notes, len(texts))
    if not answers:
        return Reading(None, None, None, note, strict=False)
    counters = {name: Counter(answer.sub_scores[name] for answer in answers) for name in DIMENSIONS}
    overall = [answer.overall_score for answer in answers if answer.overall_score is not None]
    return Reading(
        # most_common keeps the order of first appearance among equals
        sub_scores={name: counter.most_common(1)[0][0] for name, counter in counters.items()},
        overall_score=round(sum(overall) / len(overall), 2) if overall else None,
        votes={name: dict(counter) for name, counter in counters.items()},
        note=note,
        strict=not notes,
    )


def _summary(notes: Sequence[str], thoughts: int) -> str | None:
    if not notes:
        return None
    return notes[0] if thoughts == 1 else f"{len(notes)} of {thoughts} thoughts: {notes[0]}"
