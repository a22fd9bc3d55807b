"""Scores of other reward models on the same pairs, from files.

save_external(session, "VideoScore2", [ExternalScore(pair.id, reward_a=3.1, reward_b=2.7)])
by_pair = external_scores(session, "VideoScore2")
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from sqlalchemy import func, select

from storage.errors import StorageError
from storage.schema import ExternalScoreRow, PairRow, utc_now
from storage.sql import EXTERNAL_SCORES, for_dialect, upsert

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

_LONGEST_NAME = 100
_AT_ONCE = 1000
_SAVE = upsert(EXTERNAL_SCORES, ("reward_a", "reward_b", "sub_scores", "imported_at"))


@dataclass(frozen=True)
class ExternalScore:
    """A pair's two rewards by one model, on whatever scale it has.

    Attributes:
        sub_scores: {"A": {name: number}, "B": ...} or None.
    """

    pair_id: int
    reward_a: float
    reward_b: float
    sub_scores: Mapping[str, Any] | None = field(default=None, hash=False)


def save_external(session: Session, scorer: str, rows: Iterable[ExternalScore]) -> int:
    """Keep a model's scores; those of the same pairs that were there before are replaced. Returns how many.

    Raises:
        StorageError: no name, a pair that is not in the store, or a reward that is not finite.
    """
    scorer = " ".join(scorer.split())
    if not 1 <= len(scorer) <= _LONGEST_NAME:
        raise StorageError(f"a reward model needs a name of at most {_LONGEST_NAME} characters")
    by_pair = {row.pair_id: row for row in rows}
    wrong = [row.pair_id for row in by_pair.values() if not (math.isfinite(row.reward_a) and math.isfinite(row.reward_b))]
    if wrong:
        raise StorageError(f"rewards that are no finite numbers: pairs {_some(wrong)}")
    _require_pairs(session, sorted(by_pair))
    now = utc_now()
    values = [
        {
            "scorer": scorer,
            "pair_id": row.pair_id,
            "reward_a": row.reward_a,
            "reward_b": row.reward_b,
            "sub_scores": None if row.sub_scores is None else dict(row.sub_scores),
            "imported_at": now,
        }
        for row in by_pair.values()
    ]
    if values:
        session.execute(for_dialect(session, _SAVE), values)
    return len(values)


def external_scores(session: Session, scorer: str) -> dict[int, ExternalScore]:
    """Return a model's scores by pair id."""
    rows = session.scalars(
        select(ExternalScoreRow).where(ExternalScoreRow.scorer == scorer).order_by(ExternalScoreRow.pair_id)
    )
    return {row.pair_id: ExternalScore(row.pair_id, row.reward_a, row.reward_b, row.sub_scores) for row in rows}


def scorers(session: Session) -> dict[str, int]:
    """How many pairs each model scored, by name."""
    counts = select(ExternalScoreRow.scorer, func.count()).group_by(ExternalScoreRow.scorer)
    return dict(session.execute(counts.order_by(ExternalScoreRow.scorer)).tuples().all())


def _require_pairs(session: Session, pair_ids: list[int]) -> None:
    known: set[int] = set()
    for start in range(0, len(pair_ids), _AT_ONCE):
        known.update(session.scalars(select(PairRow.id).where(PairRow.id.in_(pair_ids[start : start + _AT_ONCE]))))
    missing = [pair_id for pair_id in pair_ids if pair_id not in known]
    if missing:
        raise StorageError(f"there are no pairs {_some(missing)}")


def _some(numbers: list[int]) -> str:
    return ", ".join(map(str, numbers[:5])) + (f" and {len(numbers) - 5} more" if len(numbers) > 5 else "")
