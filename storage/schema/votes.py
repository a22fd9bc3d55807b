"""Votes of the Judge page."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import JSON, CheckConstraint, ForeignKey, Index, String, Text
from sqlalchemy.orm import Mapped, mapped_column

from storage.schema.base import Base, Choice, Side, UtcDateTime, at_most, utc_now


class VoteRow(Base):
    """A person's vote on a pair. A changed mind is a new row that names the one it replaces.

    Attributes:
        voter: the random id of the browser.
        user_id: who was signed in with it; NULL for nobody.
        shown: the model's answer on the page, see `storage.votes.ShownAnswer`; {} for none, NULL where it is not known.
    """

    __tablename__ = "votes"
    __table_args__ = (
        CheckConstraint("choice IN ('A', 'B', 'tie', 'both_bad')", name="choice"),
        CheckConstraint("left_video IN ('A', 'B')", name="left_video"),
        Index(None, "pair_id", "voter"),
        Index(None, "pair_id", "user_id"),
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    pair_id: Mapped[int] = mapped_column(ForeignKey("pairs.id"))
    choice: Mapped[Choice] = mapped_column(String(8))
    note: Mapped[str] = mapped_column(Text, info=at_most(1_000))
    voter: Mapped[str] = mapped_column(String(64))
    left_video: Mapped[Side] = mapped_column(String(1))
    token: Mapped[str] = mapped_column(String(64), unique=True)
    replaces_id: Mapped[int | None] = mapped_column(ForeignKey("votes.id"), unique=True)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime, default=utc_now)
    user_id: Mapped[int | None] = mapped_column(ForeignKey("users.id"))
    shown: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True), info=at_most(1_000))
