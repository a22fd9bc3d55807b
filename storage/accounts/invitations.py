"""How people get in at first: one-time links, for a new account or for a new password of one that exists.

The link holds a random token; the table holds only its hash. A link is used once, also when two browsers race.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from sqlalchemy import select, update

from storage.accounts.credentials import hash_password, new_token, token_hash
from storage.accounts.users import User, add_hashed, as_user, check_role, end_sign_ins, has_lead, user_row
from storage.errors import InvitationError, StorageError
from storage.schema import InvitationRow, Role, utc_now

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from storage.database import Database

FIRST_LEAD_DAYS = 1.0


@dataclass(frozen=True)
class Invitation:
    """What a link is good for.

    Attributes:
        user: whose new password it sets; None for a new account.
    """

    role: Role
    user: User | None
    expires_at: datetime


def invite(
    session: Session,
    role: Role,
    *,
    created_by: int | None,
    user_id: int | None = None,
    days: float = 7,
    now: datetime | None = None,
) -> str:
    """Make a one-time link's token; it is nowhere kept and can't be read again.

    Args:
        role: of the new account; a person that exists keeps their own.
        created_by: the lead who invites; None for the console.
        user_id: this person gets a new password instead, such as an annotator that an import named.

    Raises:
        NotInStoreError: no such person.
        StorageError: not a role, or the person's account is switched off.
    """
    check_role(role)
    now = now or utc_now()
    if user_id is not None:
        person = user_row(session, user_id)
        if not person.active:
            raise StorageError(f"the account of {person.name} is switched off; switch it on first")
        role = person.role
    token = new_token()
    row = InvitationRow(
        token_hash=token_hash(token),
        role=role,
        user_id=user_id,
        created_by_id=created_by,
        created_at=now,
        expires_at=now + timedelta(days=days),
    )
    session.add(row)
    session.flush()
    return token


def invite_first_lead(session: Session) -> str | None:
    """Make the token of a one-day link for the first lead; None where a lead can sign in already.

    Only the newest of these links works.
    """
    if has_lead(session):
        return None
    from_console = (InvitationRow.created_by_id.is_(None), InvitationRow.role == "lead", InvitationRow.used_at.is_(None))
    session.execute(update(InvitationRow).where(*from_console).values(used_at=utc_now()))
    return invite(session, "lead", created_by=None, days=FIRST_LEAD_DAYS)


def read_invitation(session: Session, token: str, now: datetime | None = None) -> Invitation:
    """Read an invitation without using it up.

    Raises:
        InvitationError: unknown, used, expired, or for an account that is switched off.
    """
    row = session.scalars(select(InvitationRow).where(InvitationRow.token_hash == token_hash(token))).one_or_none()
    if row is None:
        raise InvitationError("This invitation is unknown. Check that the link was copied whole.")
    if row.used_at is not None:
        raise InvitationError("This invitation was used already. Sign in, or ask your lead for a new link.")
    if row.expires_at <= (now or utc_now()):
        raise InvitationError("This invitation has expired. Ask your lead for a new link.")
    # A new account is entered here when the link is used, so an unused link that names somebody is for a new password.
    person = None if row.user_id is None else as_user(user_row(session, row.user_id))
    if person is not None and not person.active:
        raise InvitationError("This account is switched off. Ask your lead.")
    return Invitation(person.role if person else row.role, person, row.expires_at)


def accept_invitation(database: Database, token: str, name: str, password: str, now: datetime | None = None) -> User:
    """Make the account (or set the new password) and use the link up.

    The password is hashed before the store is locked. A new password signs the person out everywhere.

    Args:
        name: of the new account; not looked at for a new password.

    Raises:
        InvitationError: as `read_invitation`, also if another browser was quicker.
        NameTakenError, WeakPasswordError, StorageError: the name or password can't be used; the link stays good.
    """
    now = now or utc_now()
    with database.read() as session:
        invitation = read_invitation(session, token, now)
    password_hash = hash_password(password, invitation.user.name if invitation.user else name)
    with database.write() as session:
        invitation = read_invitation(session, token, now)
        if invitation.user is None:
            user = add_hashed(session, name, invitation.role, password_hash)
            use_invitation(session, token, user.id, now)
            return user
        use_invitation(session, token, invitation.user.id, now)
        return set_password_hash(session, invitation.user.id, password_hash, now)


def use_invitation(session: Session, token: str, user_id: int, now: datetime | None = None) -> None:
    """Use a link up for the account that it opened.

    Raises:
        InvitationError: somebody else used it in this very moment (PostgreSQL waits here for the other).
    """
    unused = (InvitationRow.token_hash == token_hash(token), InvitationRow.used_at.is_(None))
    used = update(InvitationRow).where(*unused).values(used_at=now or utc_now(), user_id=user_id)
    if session.execute(used.returning(InvitationRow.id)).one_or_none() is None:
        raise InvitationError("This invitation was used already. Sign in, or ask your lead for a new link.")


def set_password_hash(session: Session, user_id: int, password_hash: str, now: datetime | None = None) -> User:
    """Give a person a new password: other links for one and all open sign-ins of this person end."""
    now = now or utc_now()
    row = user_row(session, user_id)
    row.password_hash = password_hash
    others = (InvitationRow.user_id == user_id, InvitationRow.used_at.is_(None))
    session.execute(update(InvitationRow).where(*others).values(used_at=now))
    end_sign_ins(session, user_id, now)
    session.flush()
    return as_user(row)
