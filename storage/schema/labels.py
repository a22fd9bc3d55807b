"""Assignments (who has which pair, and until when), drafts, and labels as append-only revisions."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

from sqlalchemy import (
    JSON,
    CheckConstraint,
    Double,
    ForeignKey,
    Index,
    String,
    Text,
    UniqueConstraint,
    text,
)
from sqlalchemy.orm import Mapped, mapped_column

from storage.schema.base import Base, Choice, Side, UtcDateTime, at_most, utc_now

Kind = Literal["work", "repeat", "gold", "qualification", "adjudication", "import"]
AssignmentState = Literal["leased", "labelled", "skipped", "flagged", "returned"]
Action = Literal["label", "skip", "flag", "withdraw"]
Strength = Literal["slightly", "clearly"]

_LEASED = text("state = 'leased'")
_OPEN = text("state IN ('leased', 'returned')")
_LABELLED = text("state = 'labelled'")


class AssignmentRow(Base):
    """One pair given to one annotator. `token` is the only name that a browser knows it by.

    Attributes:
        round: 0 for the first time (work, gold, qualification, import), 1 for the planned repeat, 2 for adjudication; with
            it the constraint says that nobody gets a pair twice. A vote of the Judge page is in 0 with video A on the left,
            in 1 with video B.
        finished_at: when it was last labelled, skipped or flagged; it stays when that is taken back.
        seconds: time on task of the current label, none for an adjudication.
    """

    __tablename__ = "assignments"
    __table_args__ = (
        UniqueConstraint("campaign_pair_id", "annotator_id", "round"),
        CheckConstraint("state IN ('leased', 'labelled', 'skipped', 'flagged', 'returned')", name="state"),
        CheckConstraint("kind IN ('work', 'repeat', 'gold', 'qualification', 'adjudication', 'import')", name="kind"),
        CheckConstraint("left_video IN ('A', 'B')", name="left_video"),
        Index("ix_assignments_annotator", "campaign_id", "annotator_id", "id"),
        Index("ix_assignments_finished", "campaign_id", "annotator_id", "finished_at"),
        Index("ix_assignments_open", "campaign_id", "annotator_id", "id", sqlite_where=_OPEN, postgresql_where=_OPEN),
        Index("ix_assignments_lease", "campaign_id", "expires_at", sqlite_where=_LEASED, postgresql_where=_LEASED),
        Index(
            "ix_assignments_seconds",
            "campaign_id",
            "annotator_id",
            "seconds",
            sqlite_where=_LABELLED,
            postgresql_where=_LABELLED,
        ),
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    token: Mapped[str] = mapped_column(String(32), unique=True)
    campaign_id: Mapped[int] = mapped_column(ForeignKey("campaigns.id"))
    campaign_pair_id: Mapped[int] = mapped_column(ForeignKey("campaign_pairs.id"))
    pair_id: Mapped[int] = mapped_column(ForeignKey("pairs.id"))
    annotator_id: Mapped[int] = mapped_column(ForeignKey("users.id"))
    kind: Mapped[Kind] = mapped_column(String(16))
    round: Mapped[int]
    left_video: Mapped[Side] = mapped_column(String(1))
    state: Mapped[AssignmentState] = mapped_column(String(8))
    guideline_version: Mapped[int]
    leased_at: Mapped[datetime] = mapped_column(UtcDateTime, default=utc_now)
    expires_at: Mapped[datetime] = mapped_column(UtcDateTime)
    finished_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    # When the model's view, or who made the videos, was first shown to this person.
    revealed_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    seconds: Mapped[float | None] = mapped_column(Double)


class DraftRow(Base):
    """What is filled in but not submitted; written over as the person goes on."""

    __tablename__ = "drafts"

    assignment_id: Mapped[int] = mapped_column(ForeignKey("assignments.id"), primary_key=True)
    content: Mapped[dict[str, Any]] = mapped_column(JSON, info=at_most(40_000))
    updated_at: Mapped[datetime] = mapped_column(UtcDateTime, default=utc_now)


class LabelRow(Base):
    """One revision. Rows are only ever added: the database itself refuses UPDATE and DELETE here.

    choice, sub_scores and marks name the pair's videos A and B, whichever stood left. action "withdraw" takes a label back
    (undo); "skip" and "flag" carry a reason and no choice.

    Attributes:
        sub_scores: {"A": {"subject": "2", ...}, "B": {...}}, empty where none were asked.
        marks: [{"video": "A", "time": seconds}].
        playback: {"A": {"watched": share, "plays": n}, "B": ...}.
    """

    __tablename__ = "labels"
    __table_args__ = (
        UniqueConstraint("annotator_id", "token"),
        CheckConstraint("action IN ('label', 'skip', 'flag', 'withdraw')", name="action"),
        CheckConstraint("(action = 'label') = (choice IS NOT NULL)", name="choice_of_label"),
        CheckConstraint("choice IN ('A', 'B', 'tie', 'both_bad')", name="choice"),
        CheckConstraint("strength IN ('slightly', 'clearly')", name="strength"),
        CheckConstraint("left_video IN ('A', 'B')", name="left_video"),
        Index("ix_labels_assignment", "assignment_id", "id"),
        Index("ix_labels_campaign", "campaign_id", "id"),
        Index("ix_labels_campaign_pair", "campaign_pair_id"),
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    assignment_id: Mapped[int] = mapped_column(ForeignKey("assignments.id"))
    campaign_id: Mapped[int] = mapped_column(ForeignKey("campaigns.id"))
    campaign_pair_id: Mapped[int] = mapped_column(ForeignKey("campaign_pairs.id"))
    pair_id: Mapped[int] = mapped_column(ForeignKey("pairs.id"))
    annotator_id: Mapped[int] = mapped_column(ForeignKey("users.id"))
    action: Mapped[Action] = mapped_column(String(8))
    choice: Mapped[Choice | None] = mapped_column(String(8))
    strength: Mapped[Strength | None] = mapped_column(String(8))
    sub_scores: Mapped[dict[str, Any]] = mapped_column(JSON, info=at_most(10_000))
    marks: Mapped[list[Any]] = mapped_column(JSON, info=at_most(100_000))
    note: Mapped[str] = mapped_column(Text, info=at_most(20_000))
    reason: Mapped[str] = mapped_column(Text, info=at_most(20_000))
    left_video: Mapped[Side] = mapped_column(String(1))
    visible: Mapped[list[str]] = mapped_column(JSON, info=at_most(1_000))
    guideline_version: Mapped[int]
    seconds: Mapped[float] = mapped_column(Double)
    playback: Mapped[dict[str, Any]] = mapped_column(JSON, info=at_most(10_000))
    token: Mapped[str] = mapped_column(String(64))
    replaces_id: Mapped[int | None] = mapped_column(ForeignKey("labels.id"), unique=True)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime, default=utc_now)
