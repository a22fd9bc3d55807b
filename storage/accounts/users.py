"""The people of a team: accounts with a role.

A person signs in with a password, or by somebody who vouches for them (`identities.py`). Without both nobody can: such are
the annotators that an import names, and those whose invitation was not used yet. Accounts are never removed, since labels
name them; they are switched off.
"""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, get_args

from sqlalchemy import func, or_, select, update

from storage.accounts.credentials import hash_password
from storage.errors import LastLeadError, NameTakenError, NotInStoreError, StorageError
from storage.schema import Role, SignInRow, UserRow, utc_now
from storage.sql import insert_or_get

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

LONGEST_NAME = 80
# In the place of an issuer, which is an address.
GUESTS = "guests of a demo"
VISITORS = "visitors of the Judge page"


@dataclass(frozen=True)
class User:
    """A person.

    Attributes:
        can_sign_in: has a password, or somebody who vouches for them, and is active.
        is_guest: of a demo, see `storage.accounts.guests`.
        is_visitor: a browser that voted without an account, see `storage.accounts.visitors`.
    """

    id: int
    name: str
    role: Role
    active: bool
    can_sign_in: bool
    created_at: datetime
    is_guest: bool = False
    is_visitor: bool = False


def add_user(session: Session, name: str, role: Role, password: str | None = None) -> User:
    """Add a person; without a password one who can't sign in until invited.

    Raises:
        NameTakenError: somebody has this name, or one that reads the same.
        WeakPasswordError: too short, too long or easy to guess.
        StorageError: not a name, or not a role.
    """
    return add_hashed(session, name, role, None if password is None else hash_password(password, name))


def add_hashed(session: Session, name: str, role: Role, password_hash: str | None) -> User:
    """As `add_user`, with a password that was hashed before: hashing takes longer than a write lock should be held."""
    name, key = clean_name(name), name_key(name)
    check_role(role)
    row = UserRow(name=name, name_key=key, role=role, password_hash=password_hash, active=True)
    stored = insert_or_get(session, row, select(UserRow).where(UserRow.name_key == key))
    if stored is not row:
        raise NameTakenError(f"The name {name} is taken; choose another.")
    session.flush()
    return as_user(row)


def get_user(session: Session, user_id: int) -> User:
    """Return a person by id.

    Raises:
        NotInStoreError: there is none.
    """
    return as_user(user_row(session, user_id))


def find_user(session: Session, name: str) -> User | None:
    """Return the person of this name; case and compatibility forms of characters don't matter."""
    row = session.scalars(select(UserRow).where(UserRow.name_key == name_key(name))).one_or_none()
    return None if row is None else as_user(row)


def list_users(session: Session) -> tuple[User, ...]:
    """Everybody, in the order in which they came."""
    return tuple(as_user(row) for row in session.scalars(select(UserRow).order_by(UserRow.id)))


def has_lead(session: Session) -> bool:
    """Whether some active lead can sign in."""
    return session.scalar(select(func.count()).select_from(UserRow).where(*_IS_LEAD)) != 0


def set_active(session: Session, user_id: int, active: bool) -> User:
    """Switch an account on or off. Off: all its sign-ins end, its labels stay.

    Raises:
        NotInStoreError: there is no such person.
        LastLeadError: the last active lead can't be switched off.
    """
    row = _locked(session, user_id)
    if not active:
        _refuse_last_lead(session, row)
        end_sign_ins(session, user_id)
    row.active = active
    session.flush()
    return as_user(row)


def set_role(session: Session, user_id: int, role: Role) -> User:
    """Change the role of a person; it counts from their next request.

    Raises:
        NotInStoreError: there is no such person.
        LastLeadError: the last active lead has to stay one.
        StorageError: not a role.
    """
    check_role(role)
    row = _locked(session, user_id)
    if role != "lead":
        _refuse_last_lead(session, row)
    row.role = role
    session.flush()
    return as_user(row)


def end_sign_ins(session: Session, user_id: int, now: datetime | None = None) -> None:
    """Sign a person out everywhere."""
    open_ones = update(SignInRow).where(SignInRow.user_id == user_id, SignInRow.ended_at.is_(None))
    session.execute(open_ones.values(ended_at=now or utc_now()))


def clean_name(name: str) -> str:
    """Normalise a name for storing and showing: composed characters, single blanks.

    Raises:
        StorageError: empty, too long, or with characters that nobody sees.
    """
    name = " ".join(unicodedata.normalize("NFC", name).split())
    if not 1 <= len(name) <= LONGEST_NAME or len(name_key(name)) > 2 * LONGEST_NAME:
        raise StorageError(f"A name has 1 to {LONGEST_NAME} characters.")
    if any(map(_is_invisible, name)):
        raise StorageError("A name has only visible characters; this one holds an invisible one.")
    return name


def name_key(name: str) -> str:
    """Fold a name so that names which read alike are equal: NFKC, without case, surplus blanks, invisible characters."""
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", name).casefold())
    return "".join(character for character in " ".join(folded.split()) if not _is_invisible(character))


def check_role(role: str) -> None:
    """Refuse an unknown role.

    Raises:
        StorageError: not a role.
    """
    if role not in get_args(Role):
        raise StorageError(f"a role is one of {', '.join(get_args(Role))}; found {role!r}")


def user_row(session: Session, user_id: int) -> UserRow:
    """Return the stored row, for the other modules of this package.

    Raises:
        NotInStoreError: there is none.
    """
    row = session.get(UserRow, user_id)
    if row is None:
        raise NotInStoreError(f"there is no person {user_id}")
    return row


def as_user(row: UserRow) -> User:
    """Convert a row to the person as the app may see them."""
    return User(
        id=row.id,
        name=row.name,
        role=row.role,
        active=row.active,
        can_sign_in=row.active and _has_way_in(row),
        created_at=row.created_at,
        is_guest=row.issuer == GUESTS,
        is_visitor=row.issuer == VISITORS,
    )


_IS_LEAD = (
    UserRow.role == "lead",
    UserRow.active.is_(True),
    or_(UserRow.password_hash.is_not(None), UserRow.issuer.is_not(None)),
)


def _has_way_in(row: UserRow) -> bool:
    return row.password_hash is not None or row.issuer not in (None, VISITORS)


def _is_invisible(character: str) -> bool:
    return unicodedata.category(character)[0] == "C"


def _locked(session: Session, user_id: int) -> UserRow:
    """Load a person, and lock all leads in one order: two leads can't remove each other at the same moment."""
    everybody = select(UserRow).where((UserRow.role == "lead") | (UserRow.id == user_id)).order_by(UserRow.id)
    rows = session.scalars(everybody.with_for_update().execution_options(populate_existing=True)).all()
    for row in rows:
        if row.id == user_id:
            return row
    raise NotInStoreError(f"there is no person {user_id}")


def _refuse_last_lead(session: Session, row: UserRow) -> None:
    if not (row.role == "lead" and row.active and _has_way_in(row)):
        return
    if session.scalar(select(func.count()).select_from(UserRow).where(*_IS_LEAD, UserRow.id != row.id)) == 0:
        raise LastLeadError(f"{row.name} is the last lead: make somebody else lead first.")
