"""Links to pairs that somebody shared."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import JSON, CheckConstraint, ForeignKey, Index, String
from sqlalchemy.orm import Mapped, mapped_column

from storage.schema.base import Base, UtcDateTime, at_most, utc_now
from storage.schema.judgements import Mode


class ShareRow(Base):
    """A link to a pair and to what the model said of it. The link holds the token, the table only its hash.

    Attributes:
        mode, k, fingerprint: of the judgements that are shown, as in `JudgementRow`.
        verdict: P(A preferred), the outcome and the scale that they were told with: another checkpoint may serve by then.
        maker: a hash of the random id of the browser that made it, which may end it.
        origin: a hash of where it was made, for the limit; see `storage.uploads.origin_key`.
    """

    __tablename__ = "shares"
    __table_args__ = (
        CheckConstraint("mode IN ('think', 'quick', 'k')", name="mode"),
        Index(None, "pair_id"),
        Index(None, "origin", "created_at"),
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    token_hash: Mapped[str] = mapped_column(String(64), unique=True)
    pair_id: Mapped[int] = mapped_column(ForeignKey("pairs.id"))
    mode: Mapped[Mode] = mapped_column(String(8))
    k: Mapped[int]
    fingerprint: Mapped[str] = mapped_column(String(128))
    verdict: Mapped[dict[str, Any]] = mapped_column(JSON, info=at_most(10_000))
    maker: Mapped[str] = mapped_column(String(64))
    origin: Mapped[str] = mapped_column(String(64))
    created_at: Mapped[datetime] = mapped_column(UtcDateTime, default=utc_now)
    expires_at: Mapped[datetime] = mapped_column(UtcDateTime)
    ended_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
