"""The tables. Rows never leave this package: its functions return frozen dataclasses.

    videos       one file by content hash
    pairs        two videos and the prompt that both were made from
    judgements   what a checkpoint said of a video
    votes        what a person said of a pair, append-only

A change here needs a migration in `storage/migrations/versions`; a test compares the two.
"""

from __future__ import annotations

import hashlib
from datetime import datetime, timezone
from typing import Any, Literal

from sqlalchemy import (
    JSON,
    BigInteger,
    CheckConstraint,
    DateTime,
    Dialect,
    Double,
    ForeignKey,
    Index,
    MetaData,
    String,
    Text,
    UniqueConstraint,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship
from sqlalchemy.types import TypeDecorator

Mode = Literal["think", "quick", "k"]
Choice = Literal["A", "B", "tie", "both_bad"]
Side = Literal["A", "B"]

NAMING = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_name)s",
    "pk": "pk_%(table_name)s",
}


def utc_now() -> datetime:
    """The present moment, with its time zone."""
    return datetime.now(timezone.utc)


def text_hash(text: str) -> str:
    """sha256 (hex) of a prompt without surrounding blanks, since the judge's instruction strips them too."""
    return hashlib.sha256(text.strip().encode()).hexdigest()


class UtcDateTime(TypeDecorator[datetime]):
    """A moment in UTC, the same on databases with time zones (PostgreSQL) and without (SQLite).

    Naive datetimes are refused: nobody could say later which moment they meant.
    """

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError(f"{value} has no time zone")
        moment = value.astimezone(timezone.utc)
        return moment.replace(tzinfo=None) if dialect.name == "sqlite" else moment

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        if value.tzinfo is None:
            return value.replace(tzinfo=timezone.utc)
        return value.astimezone(timezone.utc)


class Base(DeclarativeBase):
    """Typed declarative base; constraints are named, so that later migrations can alter them."""

    metadata = MetaData(naming_convention=NAMING)


class VideoRow(Base):
    """A video file. `file` is relative to the managed folder; the browser only ever sees `public_id`."""

    __tablename__ = "videos"

    id: Mapped[int] = mapped_column(primary_key=True)
    public_id: Mapped[str] = mapped_column(String(32), unique=True)
    sha256: Mapped[str] = mapped_column(String(64), unique=True)
    file: Mapped[str] = mapped_column(Text)
    original_name: Mapped[str] = mapped_column(Text)
    width: Mapped[int]
    height: Mapped[int]
    fps: Mapped[float] = mapped_column(Double)
    duration: Mapped[float] = mapped_column(Double)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime, default=utc_now)


class PairRow(Base):
    """Two videos of one prompt. `source` says where the pair came from, for the lead only."""

    __tablename__ = "pairs"
    __table_args__ = (UniqueConstraint("video_a_id", "video_b_id", "prompt_hash"), Index(None, "source"))

    id: Mapped[int] = mapped_column(primary_key=True)
    video_a_id: Mapped[int] = mapped_column(ForeignKey("videos.id"))
    video_b_id: Mapped[int] = mapped_column(ForeignKey("videos.id"))
    prompt: Mapped[str] = mapped_column(Text)
    prompt_hash: Mapped[str] = mapped_column(String(64))
    source: Mapped[str] = mapped_column(String(200))
    created_at: Mapped[datetime] = mapped_column(UtcDateTime, default=utc_now)

    video_a: Mapped[VideoRow] = relationship(foreign_keys=[video_a_id], lazy="joined", innerjoin=True)
    video_b: Mapped[VideoRow] = relationship(foreign_keys=[video_b_id], lazy="joined", innerjoin=True)


class JudgementRow(Base):
    """One video judged by one checkpoint in one mode. `k` and `seed` are 0 where the mode does not sample."""

    __tablename__ = "judgements"
    __table_args__ = (
        UniqueConstraint("video_id", "prompt_hash", "fingerprint", "mode", "k", "seed", name="uq_judgements_question"),
        CheckConstraint("mode IN ('think', 'quick', 'k')", name="mode"),
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    video_id: Mapped[int] = mapped_column(ForeignKey("videos.id"))
    prompt: Mapped[str] = mapped_column(Text)
    prompt_hash: Mapped[str] = mapped_column(String(64))
    checkpoint: Mapped[str] = mapped_column(Text)
    fingerprint: Mapped[str] = mapped_column(String(128))
    mode: Mapped[Mode] = mapped_column(String(8))
    k: Mapped[int]
    seed: Mapped[int] = mapped_column(BigInteger)
    thought: Mapped[str] = mapped_column(Text)
    sub_scores: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True))
    overall_score: Mapped[float | None] = mapped_column(Double)
    parse_note: Mapped[str | None] = mapped_column(Text)
    strict_format: Mapped[bool]
    reward: Mapped[float | None] = mapped_column(Double)
    standardised_reward: Mapped[float | None] = mapped_column(Double)
    reward_spread: Mapped[float | None] = mapped_column(Double)
    sub_score_votes: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True))
    truncated: Mapped[bool]
    seconds: Mapped[float] = mapped_column(Double)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime, default=utc_now)


class VoteRow(Base):
    """A person's vote on a pair. A changed mind is a new row that names the one it replaces."""

    __tablename__ = "votes"
    __table_args__ = (
        CheckConstraint("choice IN ('A', 'B', 'tie', 'both_bad')", name="choice"),
        CheckConstraint("left_video IN ('A', 'B')", name="left_video"),
        Index(None, "pair_id", "voter"),
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    pair_id: Mapped[int] = mapped_column(ForeignKey("pairs.id"))
    choice: Mapped[Choice] = mapped_column(String(8))
    note: Mapped[str] = mapped_column(Text)
    voter: Mapped[str] = mapped_column(String(64))
    left_video: Mapped[Side] = mapped_column(String(1))
    token: Mapped[str] = mapped_column(String(64), unique=True)
    replaces_id: Mapped[int | None] = mapped_column(ForeignKey("votes.id"), unique=True)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime, default=utc_now)
