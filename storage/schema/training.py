"""Retraining: checkpoints, the serving one, runs with their data and notes; scores of other models; statistics of videos."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

from sqlalchemy import JSON, BigInteger, CheckConstraint, Double, ForeignKey, Index, String, Text
from sqlalchemy.orm import Mapped, mapped_column

from storage.schema.base import Base, UtcDateTime, at_most, utc_now

RunKind = Literal["train", "score"]
RunState = Literal["queued", "running", "finished", "failed", "cancelled", "lost"]
Start = Literal["current", "base"]
RunPlace = Literal["here", "slurm", "elsewhere"]
Part = Literal["new", "replay", "held_out"]
PromotionAction = Literal["start", "promote", "automatic", "roll_back"]


class CheckpointRow(Base):
    """A checkpoint that served or was trained here.

    Attributes:
        location: what a command line takes: "bundled", a Hub id, a folder; one inside the data folder begins with "./".
        fingerprint: of its content.
        metrics: split -> name -> number, from its manifest.
        gate: the comparison that decided.
        disk_bytes: of its own folder, 0 where it takes no room of ours.
    """

    __tablename__ = "checkpoints"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(200), unique=True)
    location: Mapped[str] = mapped_column(Text, info=at_most(4_096))
    fingerprint: Mapped[str] = mapped_column(String(128), unique=True)
    parent_id: Mapped[int | None] = mapped_column(ForeignKey("checkpoints.id"))
    # The two tables name each other: this end is added when both are there.
    run_id: Mapped[int | None] = mapped_column(ForeignKey("runs.id", use_alter=True))
    stage: Mapped[str | None] = mapped_column(String(16))
    snapshot_hash: Mapped[str | None] = mapped_column(String(64))
    settings: Mapped[dict[str, Any]] = mapped_column(JSON, info=at_most(1_000_000))
    code_version: Mapped[str] = mapped_column(Text, info=at_most(1_000))
    metrics: Mapped[dict[str, Any]] = mapped_column(JSON, info=at_most(1_000_000))
    gate: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True), info=at_most(10_000_000))
    disk_bytes: Mapped[int] = mapped_column(BigInteger)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime, default=utc_now)
    deleted_at: Mapped[datetime | None] = mapped_column(UtcDateTime)


class PromotionRow(Base):
    """What served from when on: the last row says what serves now. The database refuses UPDATE and DELETE here."""

    __tablename__ = "promotions"
    __table_args__ = (CheckConstraint("action IN ('start', 'promote', 'automatic', 'roll_back')", name="action"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    checkpoint_id: Mapped[int] = mapped_column(ForeignKey("checkpoints.id"))
    action: Mapped[PromotionAction] = mapped_column(String(16))
    by_id: Mapped[int | None] = mapped_column(ForeignKey("users.id"))
    created_at: Mapped[datetime] = mapped_column(UtcDateTime, default=utc_now)


class RunRow(Base):
    """A training or a scoring in a process of its own.

    Attributes:
        folder: relative to the data folder.
        counts: how many pairs of each part its snapshot has, with "labels" and "annotators".
        snapshot: how these were chosen, see `storage.training.snapshot_config`.
        progress: {"stage", "step", "steps", "done", "total", "seconds_left"}.
        place: where it runs.
        job: what names it there: SLURM's number of the job, or the folder of its pack; "" on this machine.
    """

    __tablename__ = "runs"
    __table_args__ = (
        CheckConstraint("kind IN ('train', 'score')", name="kind"),
        CheckConstraint("state IN ('queued', 'running', 'finished', 'failed', 'cancelled', 'lost')", name="state"),
        CheckConstraint("start IN ('current', 'base')", name="start"),
        Index("ix_runs_state", "state", "device"),
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    kind: Mapped[RunKind] = mapped_column(String(8))
    state: Mapped[RunState] = mapped_column(String(16), default="queued")
    name: Mapped[str] = mapped_column(String(200))
    stages: Mapped[list[str]] = mapped_column(JSON, info=at_most(1_000))
    start: Mapped[Start] = mapped_column(String(8))
    parent_id: Mapped[int | None] = mapped_column(ForeignKey("checkpoints.id"))
    rival_id: Mapped[int | None] = mapped_column(ForeignKey("checkpoints.id"))
    preset: Mapped[str] = mapped_column(String(100))
    overrides: Mapped[list[str]] = mapped_column(JSON, info=at_most(100_000))
    request: Mapped[dict[str, Any]] = mapped_column(JSON, info=at_most(1_000_000))
    device: Mapped[str] = mapped_column(String(32))
    folder: Mapped[str] = mapped_column(Text, info=at_most(4_096))
    snapshot: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True), info=at_most(1_000_000))
    snapshot_hash: Mapped[str | None] = mapped_column(String(64))
    last_label_id: Mapped[int]
    counts: Mapped[dict[str, int]] = mapped_column(JSON, info=at_most(10_000))
    auto_promote: Mapped[bool]
    created_by_id: Mapped[int | None] = mapped_column(ForeignKey("users.id"))
    created_at: Mapped[datetime] = mapped_column(UtcDateTime, default=utc_now)
    started_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    ended_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    pid: Mapped[int | None]
    host: Mapped[str | None] = mapped_column(Text, info=at_most(1_000))
    cancel_requested_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    exit_code: Mapped[int | None]
    message: Mapped[str] = mapped_column(Text, info=at_most(100_000), default="")
    progress: Mapped[dict[str, Any]] = mapped_column(JSON, info=at_most(100_000), default=dict)
    candidate_id: Mapped[int | None] = mapped_column(ForeignKey("checkpoints.id"))
    verdict: Mapped[str | None] = mapped_column(Text, info=at_most(10_000))
    place: Mapped[RunPlace] = mapped_column(String(16), default="here", server_default="here")
    job: Mapped[str] = mapped_column(Text, info=at_most(4_096), default="", server_default="")


class RunPairRow(Base):
    """A pair in the data of a run as it was then. The database refuses UPDATE and DELETE here.

    Attributes:
        identity: the same whichever video is A.
        label: +1 A preferred, -1 B, 0 a tie.
        label_ids: the revisions behind it.
    """

    __tablename__ = "run_pairs"
    __table_args__ = (
        CheckConstraint("part IN ('new', 'replay', 'held_out')", name="part"),
        CheckConstraint("label IN (-1, 0, 1)", name="label"),
    )

    run_id: Mapped[int] = mapped_column(ForeignKey("runs.id"), primary_key=True)
    pair_id: Mapped[int] = mapped_column(ForeignKey("pairs.id"), primary_key=True)
    part: Mapped[Part] = mapped_column(String(8))
    identity: Mapped[str] = mapped_column(String(64))
    label: Mapped[int]
    strength: Mapped[float] = mapped_column(Double)
    sub_scores: Mapped[dict[str, Any]] = mapped_column(JSON, info=at_most(10_000))
    label_ids: Mapped[list[int]] = mapped_column(JSON, info=at_most(100_000))


class RunNoteRow(Base):
    """What a lead wrote about a run; the newest row counts. The database refuses UPDATE and DELETE here.

    Attributes:
        text: "" where the note was taken away.
    """

    __tablename__ = "run_notes"
    __table_args__ = (Index(None, "run_id"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    run_id: Mapped[int] = mapped_column(ForeignKey("runs.id"))
    text: Mapped[str] = mapped_column(Text, info=at_most(4_000))
    by_id: Mapped[int] = mapped_column(ForeignKey("users.id"))
    created_at: Mapped[datetime] = mapped_column(UtcDateTime, default=utc_now)


class ExternalScoreRow(Base):
    """What another reward model gave a pair's videos, from a file."""

    __tablename__ = "external_scores"

    scorer: Mapped[str] = mapped_column(String(100), primary_key=True)
    pair_id: Mapped[int] = mapped_column(ForeignKey("pairs.id"), primary_key=True)
    reward_a: Mapped[float] = mapped_column(Double)
    reward_b: Mapped[float] = mapped_column(Double)
    sub_scores: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True), info=at_most(10_000))
    imported_at: Mapped[datetime] = mapped_column(UtcDateTime, default=utc_now)


class VideoStatsRow(Base):
    """What can be measured of a video without a model; see `storage.analysis.video_stats`."""

    __tablename__ = "video_facts"

    video_id: Mapped[int] = mapped_column(ForeignKey("videos.id"), primary_key=True)
    sharpness: Mapped[float] = mapped_column(Double)
    brightness: Mapped[float] = mapped_column(Double)
    motion: Mapped[float] = mapped_column(Double)
    frames: Mapped[int]
    file_bytes: Mapped[int] = mapped_column(BigInteger)
