"""Judgements of videos by checkpoints."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

from sqlalchemy import JSON, BigInteger, CheckConstraint, Double, ForeignKey, Index, String, Text, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from descore.prompt import PROMPT_CHARACTERS
from storage.schema.base import Base, UtcDateTime, at_most, utc_now

Mode = Literal["think", "quick", "k"]


class JudgementRow(Base):
    """One video judged by one checkpoint in one mode. `k` and `seed` are 0 where the mode does not sample."""

    __tablename__ = "judgements"
    __table_args__ = (
        UniqueConstraint("video_id", "prompt_hash", "fingerprint", "mode", "k", "seed", name="uq_judgements_question"),
        CheckConstraint("mode IN ('think', 'quick', 'k')", name="mode"),
        Index("ix_judgements_fingerprint", "fingerprint", "mode"),
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    video_id: Mapped[int] = mapped_column(ForeignKey("videos.id"))
    prompt: Mapped[str] = mapped_column(Text, info=at_most(PROMPT_CHARACTERS))
    prompt_hash: Mapped[str] = mapped_column(String(64))
    checkpoint: Mapped[str] = mapped_column(Text, info=at_most(1_000))
    fingerprint: Mapped[str] = mapped_column(String(128))
    mode: Mapped[Mode] = mapped_column(String(8))
    k: Mapped[int]
    seed: Mapped[int] = mapped_column(BigInteger)
    thought: Mapped[str] = mapped_column(Text, info=at_most(1_000_000))
    sub_scores: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True), info=at_most(10_000))
    overall_score: Mapped[float | None] = mapped_column(Double)
    parse_note: Mapped[str | None] = mapped_column(Text, info=at_most(1_000_000))
    strict_format: Mapped[bool]
    reward: Mapped[float | None] = mapped_column(Double)
    standardised_reward: Mapped[float | None] = mapped_column(Double)
    reward_spread: Mapped[float | None] = mapped_column(Double)
    sub_score_votes: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True), info=at_most(10_000))
    truncated: Mapped[bool]
    seconds: Mapped[float] = mapped_column(Double)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime, default=utc_now)
    engine: Mapped[str] = mapped_column(String(128), default="", server_default="")
    thoughts: Mapped[list[dict[str, Any]] | None] = mapped_column(JSON(none_as_null=True), info=at_most(16_000_000))
    distance: Mapped[float | None] = mapped_column(Double)
