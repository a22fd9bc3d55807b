"""From the texts of one video's thoughts to its sub-scores: parse, vote, say what could not be read."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from descore.answer import DIMENSIONS, Answer, AnswerError, parse_tolerant


@dataclass(frozen=True)
class Reading:
    """What one video's thoughts say.

    sub_scores: per dimension the value most thoughts give; where counts are equal, the one the earliest
    thought gives. overall_score: the mean over the thoughts that give one, two decimals. votes: dimension ->
    sub-score -> thoughts. All three None where no thought could be read. note: why reading was tolerant or
    impossible, None if all were strict.
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
