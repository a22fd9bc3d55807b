"""Stored judgements, so that the same question is answered once.

    question = Question(video.id, prompt, fingerprint, mode="think")
    stored = find_judgement(session, question)
    if stored is None:
        stored = save_judgement(session, question, record)

A video is judged the same alone, as A or as B, so the question names one video and no pair.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Select, and_, select
from sqlalchemy.orm import Session, aliased

from descore.answer import DIMENSIONS, SUB_SCORES
from storage.errors import StorageError
from storage.schema import JudgementRow, Mode, PairRow, text_hash
from storage.sql import insert_or_get


@dataclass(frozen=True)
class Question:
    """All that a judgement depends on.

    Attributes:
        fingerprint: identifies the checkpoint's content (weights, frame policy, prompt version, calibration): another
            checkpoint under the same name has another one.
        k, seed: number of sampled thoughts and their seed in mode "k"; the other modes do not sample, and both are 0.
    """

    video_id: int
    prompt: str
    fingerprint: str
    mode: Mode
    k: int = 0
    seed: int = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "prompt", self.prompt.strip())
        if self.mode != "k":
            object.__setattr__(self, "k", 0)
            object.__setattr__(self, "seed", 0)
        elif self.k < 1:
            raise StorageError("mode k needs the number of its thoughts")


@dataclass(frozen=True)
class JudgementRecord:
    """The answer to a question; the fields are those of a judgement of the model, and mean the same.

    Attributes:
        checkpoint: its readable name.
        thought: the raw generated text, "" without one.
        sub_scores: a value of `SUB_SCORES` for each of `DIMENSIONS`, None where the thought could not be parsed.
        reward, standardised_reward: None for a backbone without a trained scoring module.
        reward_spread, sub_score_votes: over the sampled thoughts, in mode "k" only.
        seconds: time that the judgement took when it was made.
        engine: which engine answered, with its version; "" where that was not kept.
        thoughts: in mode "k", each sampled thought: text, reward, truncated; None where the first one alone was kept.
        distance: of the video from those that the checkpoint knows, 1.0 at the limit; None where it is not known.

    Raises:
        StorageError: a number that is not finite, or sub-scores outside the grammar.
    """

    checkpoint: str
    thought: str
    sub_scores: dict[str, str] | None
    overall_score: float | None
    parse_note: str | None
    strict_format: bool
    reward: float | None
    standardised_reward: float | None
    reward_spread: float | None
    sub_score_votes: dict[str, dict[str, int]] | None
    truncated: bool
    seconds: float
    engine: str = ""
    thoughts: list[dict[str, Any]] | None = None
    distance: float | None = None

    def __post_init__(self) -> None:
        for name in ("overall_score", "reward", "standardised_reward", "reward_spread", "seconds", "distance"):
            value = getattr(self, name)
            if value is not None and not math.isfinite(value):
                raise StorageError(f"{name} is {value}: only finite numbers are kept")
        if not all(thought["reward"] is None or math.isfinite(thought["reward"]) for thought in self.thoughts or ()):
            raise StorageError("a thought has a reward that is not finite: only finite numbers are kept")
        scores, votes = self.sub_scores, self.sub_score_votes
        if scores is not None and not _is_complete(scores, [[value] for value in scores.values()]):
            raise StorageError(f"sub-scores outside the grammar: {scores}")
        if votes is not None and not _is_complete(votes, [list(count) for count in votes.values()]):
            raise StorageError(f"votes over sub-scores outside the grammar: {votes}")


@dataclass(frozen=True)
class StoredJudgement:
    """A judgement in the store, with the moment (UTC) at which it was made."""

    id: int
    question: Question
    record: JudgementRecord
    created_at: datetime


def find_judgement(session: Session, question: Question) -> StoredJudgement | None:
    """Return the stored answer to exactly this question, if there is one."""
    row = session.scalars(_same(question)).one_or_none()
    return None if row is None else _judgement(row)


def save_judgement(session: Session, question: Question, record: JudgementRecord) -> StoredJudgement:
    """Keep an answer. Where the question was answered in the meantime, that answer stays and is returned."""
    row = JudgementRow(
        video_id=question.video_id,
        prompt=question.prompt,
        prompt_hash=text_hash(question.prompt),
        fingerprint=question.fingerprint,
        mode=question.mode,
        k=question.k,
        seed=question.seed,
        **asdict(record),
    )
    return _judgement(insert_or_get(session, row, _same(question)))


def _same(question: Question) -> Select[Any]:
    return select(JudgementRow).where(
        JudgementRow.video_id == question.video_id,
        JudgementRow.prompt_hash == text_hash(question.prompt),
        JudgementRow.fingerprint == question.fingerprint,
        JudgementRow.mode == question.mode,
        JudgementRow.k == question.k,
        JudgementRow.seed == question.seed,
    )


def _is_complete(by_dimension: Mapping[str, object], values: list[list[str]]) -> bool:
    """Whether every dimension is there, and no value but the grammar's."""
    known = all(value in SUB_SCORES for group in values for value in group)
    return known and set(by_dimension) == set(DIMENSIONS)


def _judgement(row: JudgementRow) -> StoredJudgement:
    question = Question(row.video_id, row.prompt, row.fingerprint, row.mode, row.k, row.seed)
    record = JudgementRecord(
        checkpoint=row.checkpoint,
        thought=row.thought,
        sub_scores=row.sub_scores,
        overall_score=row.overall_score,
        parse_note=row.parse_note,
        strict_format=row.strict_format,
        reward=row.reward,
        standardised_reward=row.standardised_reward,
        reward_spread=row.reward_spread,
        sub_score_votes=row.sub_score_votes,
        truncated=row.truncated,
        seconds=row.seconds,
        engine=row.engine,
        thoughts=row.thoughts,
        distance=row.distance,
    )
    return StoredJudgement(id=row.id, question=question, record=record, created_at=row.created_at)


_STREAM = 1000


def thoughts_of_pairs(session: Session, fingerprints: Sequence[str] | None = None) -> dict[int, tuple[str, str]]:
    """Whole thoughts about both videos of a pair, had by the same one; the newest where there are several.

    Args:
        fingerprints: of these only, as in `storage.judgements.Question`; None for all.
    """
    thoughts: dict[int, tuple[str, str]] = {}
    for pair_id, thought_a, thought_b in session.execute(_both(fingerprints).execution_options(yield_per=_STREAM)):
        thoughts[pair_id] = (thought_a, thought_b)
    return thoughts


def _both(fingerprints: Sequence[str] | None) -> Select[Any]:
    a, b = aliased(JudgementRow), aliased(JudgementRow)
    columns: tuple[Any, ...] = (PairRow.id, a.thought, b.thought)
    statement = (
        select(*columns)
        .join(a, and_(a.video_id == PairRow.video_a_id, a.prompt_hash == PairRow.prompt_hash))
        .join(b, and_(b.video_id == PairRow.video_b_id, b.prompt_hash == PairRow.prompt_hash))
        .where(a.fingerprint == b.fingerprint)
        .order_by(a.id)
    )
    for side in (a, b):
        statement = statement.where(side.mode == "think", side.thought != "", side.truncated.is_(False))
    return statement if fingerprints is None else statement.where(a.fingerprint.in_(fingerprints))
