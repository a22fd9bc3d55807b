"""How people get in at first: one-time links, for a new account or for a new password of one that exists.

The link holds a random token; the table holds only its hash. A link is used once, also when two browsers race.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from sqlalchemy import and_, not_, select, update
from sqlalchemy.orm import aliased

from storage.accounts.credentials import hash_password, new_token, token_hash
from storage.accounts.users import User, add_hashed, as_user, check_role, end_sign_ins, has_lead, user_row
from storage.errors import InvitationError, NotInStoreError, StorageError
from storage.schema import InvitationRow, Role, UserRow, utc_now

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from storage.database import Database

FIRST_LEAD_DAYS = 1.0
LONGEST_DAYS = 90
_IS_UNUSED = (InvitationRow.used_at.is_(None), InvitationRow.revoked_at.is_(None))


@dataclass(frozen=True)
class Invitation:
    """What a link is good for.

    Attributes:
        user: whose new password it sets; None for a new account.
    """

    role: Role
    user: User | None
    expires_at: datetime


@dataclass(frozen=True)
class MadeInvitation:
    """A link that somebody made, for the list of them; its token is nowhere.

    Attributes:
        role: of the person.
        person: whose new password it sets, or who made an account with it; None for a new account that nobody has made yet.
        for_password: it sets a new password, and makes no account.
        created_by: None for the console.
        used_at, revoked_at: when it ended before its time; both None for one that did not.
    """

    id: int
    role: Role
    person: str | None
    for_password: bool
    created_by: str | None
    created_at: datetime
    expires_at: datetime
    used_at: datetime | None
    revoked_at: datetime | None

    def is_open(self, now: datetime) -> bool:
        """Tell whether somebody could still use it."""
        return self.used_at is None and self.revoked_at is None and self.expires_at > now


def list_invitations(session: Session, past: int = 10, now: datetime | None = None) -> tuple[MadeInvitation, ...]:
    """List the links that are open, and the newest `past` of the others; the newest first."""
    person, maker = aliased(UserRow), aliased(UserRow)
    statement = (
        select(InvitationRow, person.name, person.created_at, maker.name)
        .outerjoin(person, person.id == InvitationRow.user_id)
        .outerjoin(maker, maker.id == InvitationRow.created_by_id)
        .order_by(InvitationRow.id.desc())
    )
    is_open = (*_IS_UNUSED, InvitationRow.expires_at > (now or utc_now()))
    others = session.execute(statement.where(not_(and_(*is_open))).limit(past)).all()
    rows = sorted([*session.execute(statement.where(*is_open)), *others], key=lambda row: -row[0].id)
    return tuple(
        MadeInvitation(
            id=row.id,
            role=row.role,
            person=name,
            # An account that a link made is younger than the link.
            for_password=since is not None and (row.used_at is None or since < row.created_at),
            created_by=by,
            created_at=row.created_at,
            expires_at=row.expires_at,
            used_at=row.used_at,
            revoked_at=row.revoked_at,
        )
        for row, name, since, by in rows
    )


def revoke(session: Session, invitation_id: int, now: datetime | None = None) -> None:
    """End a link that was not used; nobody can use it from now on.

    Raises:
        NotInStoreError: there is no such invitation.
        InvitationError: it was used, revoked or out of date already.
    """
    now = now or utc_now()
    unused = (InvitationRow.id == invitation_id, *_IS_UNUSED, InvitationRow.expires_at > now)
    ended = session.execute(update(InvitationRow).where(*unused).values(revoked_at=now).returning(InvitationRow.id))
    if ended.one_or_none() is None:
        if session.get(InvitationRow, invitation_id) is None:
            raise NotInStoreError(f"there is no invitation {invitation_id}")
        raise InvitationError("This invitation has ended already: it was used, revoked, or its time was over.")


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
        days: how long the link works.

    Raises:
        NotInStoreError: no such person.
        StorageError: not a role, a time out of range, or the person's account is switched off.
    """
    check_role(role)
    if not 0 < days <= LONGEST_DAYS:
        raise StorageError(f"an invitation lasts up to {LONGEST_DAYS} days; found {days:g}")
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
        InvitationError: unknown, used, revoked, expired, or for an account that is switched off.
    """
    row = session.scalars(select(InvitationRow).where(InvitationRow.token_hash == token_hash(token))).one_or_none()
    if row is None:
        raise InvitationError("This invitation is unknown. Check that the link was copied whole.")
    if row.used_at is not None:
        raise InvitationError("This invitation was used already. Sign in, or ask your lead for a new link.")
    if row.revoked_at is not None:
        raise InvitationError("This invitation was revoked. Ask your lead for a new link.")
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
    unused = (InvitationRow.token_hash == token_hash(token), *_IS_UNUSED)
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
