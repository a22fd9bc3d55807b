"""Accounts: people, how they sign in, and how they get in at first."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from sqlalchemy import CheckConstraint, ForeignKey, Index, String, Text
from sqlalchemy.orm import Mapped, mapped_column

from storage.schema.base import Base, UtcDateTime, at_most, utc_now

Role = Literal["lead", "annotator", "viewer"]


class UserRow(Base):
    """A person. Without a password hash and an issuer nobody can sign in: such are the annotators that an import names."""

    __tablename__ = "users"
    __table_args__ = (
        CheckConstraint("role IN ('lead', 'annotator', 'viewer')", name="role"),
        Index("uq_users_issuer_subject", "issuer", "subject", unique=True),
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(80))
    # The name without case and compatibility forms, so that nobody can take a name that reads like another.
    name_key: Mapped[str] = mapped_column(String(160), unique=True)
    role: Mapped[Role] = mapped_column(String(16))
    password_hash: Mapped[str | None] = mapped_column(Text, info=at_most(1_000))
    active: Mapped[bool] = mapped_column(default=True)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime, default=utc_now)
    # Who vouches for the person, and its unchanging name for them; see `storage.accounts.identities`.
    issuer: Mapped[str | None] = mapped_column(String(255))
    subject: Mapped[str | None] = mapped_column(String(255))


class InvitationRow(Base):
    """A one-time link: for a new account, or (with `user_id` from the start) for a new password.

    Attributes:
        revoked_at: when a lead ended it before it was used.
    """

    __tablename__ = "invitations"
    __table_args__ = (CheckConstraint("role IN ('lead', 'annotator', 'viewer')", name="role"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    token_hash: Mapped[str] = mapped_column(String(64), unique=True)
    role: Mapped[Role] = mapped_column(String(16))
    user_id: Mapped[int | None] = mapped_column(ForeignKey("users.id"))
    created_by_id: Mapped[int | None] = mapped_column(ForeignKey("users.id"))
    created_at: Mapped[datetime] = mapped_column(UtcDateTime, default=utc_now)
    expires_at: Mapped[datetime] = mapped_column(UtcDateTime)
    used_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    revoked_at: Mapped[datetime | None] = mapped_column(UtcDateTime)


class SignInRow(Base):
    """One browser that is signed in. The cookie holds the token, the table only its hash."""

    __tablename__ = "sign_ins"
    __table_args__ = (Index(None, "user_id"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    token_hash: Mapped[str] = mapped_column(String(64), unique=True)
    user_id: Mapped[int] = mapped_column(ForeignKey("users.id"))
    created_at: Mapped[datetime] = mapped_column(UtcDateTime, default=utc_now)
    expires_at: Mapped[datetime] = mapped_column(UtcDateTime)
    ended_at: Mapped[datetime | None] = mapped_column(UtcDateTime)


class SignInAttemptRow(Base):
    """A failed attempt to sign in, for the limit on them."""

    __tablename__ = "sign_in_attempts"
    __table_args__ = (Index(None, "name_key", "created_at"), Index(None, "address", "created_at"))

    id: Mapped[int] = mapped_column(primary_key=True)
    name_key: Mapped[str] = mapped_column(String(160))
    address: Mapped[str] = mapped_column(String(64))
    created_at: Mapped[datetime] = mapped_column(UtcDateTime, default=utc_now)
