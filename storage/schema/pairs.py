"""Videos, uploads of people without an account, and pairs."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import JSON, BigInteger, Double, ForeignKey, Index, String, Text, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column, relationship

from descore.prompt import PROMPT_CHARACTERS
from storage.schema.base import Base, UtcDateTime, at_most, utc_now


class VideoRow(Base):
    """A video file. `file` is relative to the managed folder; the browser only ever sees `public_id`."""

    __tablename__ = "videos"

    id: Mapped[int] = mapped_column(primary_key=True)
    public_id: Mapped[str] = mapped_column(String(32), unique=True)
    sha256: Mapped[str] = mapped_column(String(64), unique=True)
    file: Mapped[str] = mapped_column(Text, info=at_most(4_096))
    original_name: Mapped[str] = mapped_column(Text, info=at_most(1_000))
    width: Mapped[int]
    height: Mapped[int]
    fps: Mapped[float] = mapped_column(Double)
    duration: Mapped[float] = mapped_column(Double)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime, default=utc_now)


class UploadRow(Base):
    """A video that somebody without an account uploaded. Once its row is deleted, `video_id` is NULL until its file is, too.

    Attributes:
        origin: a hash of where it came from, see `storage.uploads.origin_key`.
        bytes: of the file and its copy for the browser.
    """

    __tablename__ = "uploads"
    __table_args__ = (Index(None, "origin"), Index(None, "created_at"))

    id: Mapped[int] = mapped_column(primary_key=True)
    video_id: Mapped[int | None] = mapped_column(ForeignKey("videos.id"), unique=True)
    sha256: Mapped[str] = mapped_column(String(64))
    file: Mapped[str] = mapped_column(Text, info=at_most(4_096))
    origin: Mapped[str] = mapped_column(String(64))
    bytes: Mapped[int] = mapped_column(BigInteger)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime, default=utc_now)


class PairRow(Base):
    """Two videos of one prompt. `source` says where the pair came from, for the lead only.

    The generators' names stay hidden until a label is saved.

    Attributes:
        facts: other columns of an imported file, to be given back on export (the visual and motion quality labels of
            VideoAlign, say).
    """

    __tablename__ = "pairs"
    __table_args__ = (
        UniqueConstraint("video_a_id", "video_b_id", "prompt_hash"),
        Index(None, "source"),
        Index(None, "video_b_id"),
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    video_a_id: Mapped[int] = mapped_column(ForeignKey("videos.id"))
    video_b_id: Mapped[int] = mapped_column(ForeignKey("videos.id"))
    prompt: Mapped[str] = mapped_column(Text, info=at_most(PROMPT_CHARACTERS))
    prompt_hash: Mapped[str] = mapped_column(String(64))
    source: Mapped[str] = mapped_column(String(200))
    created_at: Mapped[datetime] = mapped_column(UtcDateTime, default=utc_now)
    generator_a: Mapped[str | None] = mapped_column(String(200))
    generator_b: Mapped[str | None] = mapped_column(String(200))
    facts: Mapped[dict[str, Any]] = mapped_column(JSON, info=at_most(1_000_000), default=dict, server_default="{}")

    video_a: Mapped[VideoRow] = relationship(foreign_keys=[video_a_id], lazy="joined", innerjoin=True)
    video_b: Mapped[VideoRow] = relationship(foreign_keys=[video_b_id], lazy="joined", innerjoin=True)
