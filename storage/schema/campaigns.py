"""Campaigns: which pairs are labelled, by whom, how often, and the running totals that keep large ones quick.

The totals (`open_slots`, `labelled`, `consensus`, `disputed`, the counts of a member, the agreement patterns) follow from
assignments and labels. They are kept in the transaction that changes those, and `python -m storage check` computes them
again and compares.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

from sqlalchemy import (
    JSON,
    BigInteger,
    CheckConstraint,
    Double,
    ForeignKey,
    Index,
    String,
    Text,
    UniqueConstraint,
    false,
    text,
    true,
)
from sqlalchemy.orm import Mapped, mapped_column

from storage.schema.base import Base, Choice, UtcDateTime, at_most, utc_now

Ordering = Literal["random", "uncertain", "disagreement"]
CampaignStatus = Literal["open", "paused", "closed"]
Standing = Literal["qualifying", "active", "failed"]
PairState = Literal["open", "flagged", "dropped"]


class CampaignRow(Base):
    """A labelling campaign. `dimensions` is empty where the overall preference alone is asked.

    `visible` lists what is open before a label is saved ("generators", "thoughts", "rewards"); empty means blind.
    `origin` is "import" for the labels that came with a file: nobody is assigned there. The votes of the Judge page are such
    a campaign too (`holds_votes`). `counted` says whether its labels take part where nobody names campaigns: in training,
    agreement over all labels, figures.
    """

    __tablename__ = "campaigns"
    __table_args__ = (
        CheckConstraint("status IN ('open', 'paused', 'closed')", name="status"),
        CheckConstraint("ordering IN ('random', 'uncertain', 'disagreement')", name="ordering"),
        CheckConstraint("origin IN ('studio', 'import')", name="origin"),
        CheckConstraint("overlap >= 1", name="overlap"),
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(200), unique=True)
    status: Mapped[CampaignStatus] = mapped_column(String(8), default="open")
    origin: Mapped[Literal["studio", "import"]] = mapped_column(String(8), default="studio")
    dimensions: Mapped[list[str]] = mapped_column(JSON, info=at_most(1_000))
    overlap: Mapped[int]
    gold_share: Mapped[float] = mapped_column(Double)
    repeat_share: Mapped[float] = mapped_column(Double)
    ordering: Mapped[Ordering] = mapped_column(String(16))
    visible: Mapped[list[str]] = mapped_column(JSON, info=at_most(1_000))
    lease_seconds: Mapped[int]
    qualification_pairs: Mapped[int]
    qualification_pass: Mapped[float] = mapped_column(Double)
    seed: Mapped[str] = mapped_column(String(32))
    order_version: Mapped[int] = mapped_column(default=1)
    created_by_id: Mapped[int | None] = mapped_column(ForeignKey("users.id"))
    created_at: Mapped[datetime] = mapped_column(UtcDateTime, default=utc_now)
    holds_votes: Mapped[bool] = mapped_column(default=False, server_default=false())
    counted: Mapped[bool] = mapped_column(default=True, server_default=true())


class GuidelineRow(Base):
    """One version of a campaign's guidelines: {"intro": text, "dimensions": {name: {"definition", "example"}}}."""

    __tablename__ = "guidelines"
    __table_args__ = (UniqueConstraint("campaign_id", "version"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    campaign_id: Mapped[int] = mapped_column(ForeignKey("campaigns.id"))
    version: Mapped[int]
    content: Mapped[dict[str, Any]] = mapped_column(JSON, info=at_most(400_000))
    author_id: Mapped[int | None] = mapped_column(ForeignKey("users.id"))
    created_at: Mapped[datetime] = mapped_column(UtcDateTime, default=utc_now)


_QUEUED = text("open_slots > 0 AND state = 'open' AND NOT is_gold")


class CampaignPairRow(Base):
    """A pair as a member of a campaign.

    `position` orders the queue; `open_slots` is how many more people may get the pair now: overlap less labels less
    leases. A gold pair has no slots and no end: everybody may get it, once.
    """

    __tablename__ = "campaign_pairs"
    __table_args__ = (
        UniqueConstraint("campaign_id", "pair_id"),
        CheckConstraint("open_slots >= 0", name="open_slots"),
        CheckConstraint("state IN ('open', 'flagged', 'dropped')", name="state"),
        Index(
            "ix_campaign_pairs_queue",
            "campaign_id",
            "position",
            "id",
            sqlite_where=_QUEUED,
            postgresql_where=_QUEUED,
        ),
        Index(
            "ix_campaign_pairs_gold",
            "campaign_id",
            "position",
            "id",
            sqlite_where=text("is_gold"),
            postgresql_where=text("is_gold"),
        ),
        Index(
            "ix_campaign_pairs_disputed",
            "campaign_id",
            "id",
            sqlite_where=text("disputed"),
            postgresql_where=text("disputed"),
        ),
        Index("ix_campaign_pairs_pair", "pair_id"),
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    campaign_id: Mapped[int] = mapped_column(ForeignKey("campaigns.id"))
    pair_id: Mapped[int] = mapped_column(ForeignKey("pairs.id"))
    position: Mapped[int] = mapped_column(BigInteger)
    state: Mapped[PairState] = mapped_column(String(8), default="open")
    is_gold: Mapped[bool] = mapped_column(default=False)
    # {"choice": ..., "sub_scores": {"A": {...}, "B": {...}} or None, "explanation": text}
    gold: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True), info=at_most(100_000))
    open_slots: Mapped[int]
    labelled: Mapped[int] = mapped_column(default=0)
    consensus: Mapped[Choice | None] = mapped_column(String(8))
    disputed: Mapped[bool] = mapped_column(default=False)


class MemberRow(Base):
    """An annotator in a campaign: how far along the queue, and the totals that the lead sees."""

    __tablename__ = "members"
    __table_args__ = (
        UniqueConstraint("campaign_id", "annotator_id"),
        CheckConstraint("standing IN ('qualifying', 'active', 'failed')", name="standing"),
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    campaign_id: Mapped[int] = mapped_column(ForeignKey("campaigns.id"))
    annotator_id: Mapped[int] = mapped_column(ForeignKey("users.id"))
    standing: Mapped[Standing] = mapped_column(String(16))
    paused: Mapped[bool] = mapped_column(default=False)
    # Everything up to here in the queue was offered to this person, or could not be.
    cursor_position: Mapped[int] = mapped_column(BigInteger, default=-1)
    cursor_id: Mapped[int] = mapped_column(default=0)
    gold_cursor_position: Mapped[int] = mapped_column(BigInteger, default=-1)
    gold_cursor_id: Mapped[int] = mapped_column(default=0)
    repeat_cursor: Mapped[int] = mapped_column(default=0)
    order_version: Mapped[int] = mapped_column(default=1)
    served: Mapped[int] = mapped_column(default=0)
    # Totals over current labels; see storage/labelling/totals.py for what counts.
    labels: Mapped[int] = mapped_column(default=0)
    skips: Mapped[int] = mapped_column(default=0)
    flags: Mapped[int] = mapped_column(default=0)
    decided: Mapped[int] = mapped_column(default=0)
    left_choices: Mapped[int] = mapped_column(default=0)
    ties: Mapped[int] = mapped_column(default=0)
    gold_total: Mapped[int] = mapped_column(default=0)
    gold_right: Mapped[int] = mapped_column(default=0)
    repeat_total: Mapped[int] = mapped_column(default=0)
    repeat_same: Mapped[int] = mapped_column(default=0)
    compared: Mapped[int] = mapped_column(default=0)
    agreed: Mapped[int] = mapped_column(default=0)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime, default=utc_now)


class AgreementPatternRow(Base):
    """How many pairs of a campaign got the same counts of answers to one question.

    Attributes:
        item: "overall" or a dimension.
        pattern: for "overall" the numbers of A, B, tie, both bad, as in "2,0,1,0"; for a dimension those of 2, 1, 0, N/A for
            video A and for video B, as in "3,0,0,0|1,2,0,0". Only pairs with two or more answers. Krippendorff's alpha and
            its bootstrap over pairs need no more than this.
    """

    __tablename__ = "agreement_patterns"

    campaign_id: Mapped[int] = mapped_column(ForeignKey("campaigns.id"), primary_key=True)
    item: Mapped[str] = mapped_column(String(16), primary_key=True)
    pattern: Mapped[str] = mapped_column(String(100), primary_key=True)
    pairs: Mapped[int]


class ImportRow(Base):
    """A file that was taken in, so that the store can say where its pairs and labels came from."""

    __tablename__ = "imports"

    id: Mapped[int] = mapped_column(primary_key=True)
    source: Mapped[str] = mapped_column(String(200))
    format: Mapped[str] = mapped_column(String(32))
    file_name: Mapped[str] = mapped_column(Text, info=at_most(4_096))
    sha256: Mapped[str] = mapped_column(String(64))
    pairs_added: Mapped[int]
    labels_added: Mapped[int]
    created_by_id: Mapped[int | None] = mapped_column(ForeignKey("users.id"))
    created_at: Mapped[datetime] = mapped_column(UtcDateTime, default=utc_now)
