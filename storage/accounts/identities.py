"""Accounts whose identity somebody else vouches for: a lab's OpenID provider, or Hugging Face.

    signed_in = sign_in_as(database, Identity("https://sso.example.org", "8841", "Ada"))

An account is found by issuer and subject, which no provider gives to two people; names change and can be chosen freely. So
a name that is taken here makes no difference to whose account it is: the newcomer gets another one.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from sqlalchemy import Select, select
from sqlalchemy.exc import IntegrityError

from storage.accounts.invitations import read_invitation, use_invitation
from storage.accounts.sessions import SignedIn, open_sign_in
from storage.accounts.users import LONGEST_NAME, check_role, clean_name, name_key, user_row
from storage.errors import InvitationError, StorageError
from storage.schema import Role, UserRow
from storage.sql import insert_or_get
from storage.text_limits import check_texts

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from storage.database import Database

UNNAMED = "Somebody"


@dataclass(frozen=True)
class Identity:
    """A person as a provider knows them.

    Attributes:
        issuer: the provider's address.
        subject: its unchanging name for the person.
        name: that they go by; it need not be unique, or a name at all.
    """

    issuer: str
    subject: str
    name: str


def sign_in_as(database: Database, identity: Identity, role: Role = "annotator", invitation: str | None = None) -> SignedIn:
    """Sign in the person of an identity, with a new account the first time.

    Args:
        role: of a new account; that of a known one stays as it is.
        invitation: the token of a link that the person accepts in this way. The account gets its role, unless it is a
            lead's; a link that names an account makes that account the identity's.

    Raises:
        TextError: an issuer or subject that is too long.
        InvitationError: the invitation is no longer good, or its account and the identity's are two.
        StorageError: no issuer or subject, or the account is switched off.
    """
    if not identity.issuer or not identity.subject:
        raise StorageError("an identity needs an issuer and a subject")
    with database.write() as session:
        check_texts(UserRow, issuer=identity.issuer, subject=identity.subject)
        if invitation is None:
            row = _known(session, identity) or _add(session, identity, role)
        else:
            row = _invited(session, identity, invitation)
        return open_sign_in(session, row.id)


def _invited(session: Session, identity: Identity, token: str) -> UserRow:
    """Use an invitation up: for the account that it names, that of the identity, or a new one."""
    invitation, known = read_invitation(session, token), _known(session, identity)
    if invitation.user is None:
        row = known or _add(session, identity, invitation.role)
        if row.role != "lead":
            row.role = invitation.role
    else:
        row = user_row(session, invitation.user.id)
        if known is not None and known.id != row.id:
            raise InvitationError(f"This invitation is for {row.name}; the account that you came with is {known.name}'s.")
        if known is None and row.issuer is not None:
            raise InvitationError(f"{row.name} signs in with another account already. Ask your lead.")
        row.issuer, row.subject = identity.issuer, identity.subject
        session.flush()
    use_invitation(session, token, row.id)
    return row


def _known(session: Session, identity: Identity) -> UserRow | None:
    row: UserRow | None = session.scalars(_of(identity)).one_or_none()
    return row


def _of(identity: Identity) -> Select[Any]:
    return select(UserRow).where(UserRow.issuer == identity.issuer, UserRow.subject == identity.subject)


def _add(session: Session, identity: Identity, role: Role) -> UserRow:
    """Add an account under the identity's name, or the first one like it that is free."""
    check_role(role)
    for name in _names(identity):
        key = name_key(name)
        if session.scalar(select(UserRow.id).where(UserRow.name_key == key)) is not None:
            continue
        row = UserRow(name=name, name_key=key, role=role, issuer=identity.issuer, subject=identity.subject, active=True)
        try:
            stored = insert_or_get(session, row, _of(identity))
        except IntegrityError:  # the name was taken in between
            continue
        session.flush()
        return stored
    raise AssertionError("there is always one more name")


def _names(identity: Identity) -> Iterator[str]:
    try:
        own = clean_name(identity.name[:LONGEST_NAME])
    except StorageError:
        own = UNNAMED
    yield own
    host = (urlsplit(identity.issuer).hostname or identity.issuer)[: LONGEST_NAME // 2]
    for number in itertools.count(1):
        where = f" ({host})" if number == 1 else f" ({host}, {number})"
        yield clean_name(own[: LONGEST_NAME - len(where)] + where)
