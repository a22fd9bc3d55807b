"""The thoughts that the store holds for both videos of a pair, whoever had them: a checkpoint or a teacher.

known = thoughts_of_pairs(session)          # {pair id: (thought about A, thought about B)}
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Select, and_, select
from sqlalchemy.orm import Session, aliased

from storage.schema import JudgementRow, PairRow

_STREAM = 1000


def thoughts_of_pairs(session: Session, fingerprints: Sequence[str] | None = None) -> dict[int, tuple[str, str]]:
    """Whole thoughts about both videos of a pair, had by the same one; the newest where there are several.

    Args:
        fingerprints: of these only, as in `storage.judgements.Question`; None for all.
    """
    found: dict[int, tuple[str, str]] = {}
    for pair_id, thought_a, thought_b in session.execute(_both(fingerprints).execution_options(yield_per=_STREAM)):
        found[pair_id] = (thought_a, thought_b)
    return found


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
