"""Votes of the Judge page: an append-only record.

A vote is never changed or removed. A person who votes again on a pair adds a vote that replaces the former
one, so the votes of one person on one pair form a chain whose end counts. A person is an account, in whatever browser, or
else a browser in which nobody is signed in. Each vote is a label too, see `storage.labelling.vote_labels`.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any, Literal, TypeAlias, get_args

from sqlalchemy import ColumnElement, Select, select
from sqlalchemy.orm import Session, aliased

from storage.errors import NotInStoreError, StorageError
from storage.labelling.vote_labels import label_vote
from storage.schema import Choice, PairRow, Side, UserRow, VoteRow
from storage.text_limits import check_texts

_later = aliased(VoteRow)
_REPLACED = select(_later.id).where(_later.replaces_id == VoteRow.id).exists()


@dataclass(frozen=True)
class ShownAnswer:
    """The model's answer that stood on the page when somebody voted.

    Attributes:
        mode: "think", "quick" or "k".
        k: its number of thoughts, 0 in the other modes.
        fingerprint: of the checkpoint; "" where the answer was not finished.
        verdict: A, B or tie; None where the answer was not finished, or has none.
        p_a: P(A preferred).
    """

    mode: str
    k: int = 0
    fingerprint: str = ""
    verdict: str | None = None
    p_a: float | None = None


Seen: TypeAlias = "ShownAnswer | Literal['nothing', 'unknown']"


@dataclass(frozen=True)
class Vote:
    """One vote. `choice` names the pair's video, whichever side it was shown on; `left_video` stood left.

    Attributes:
        voter: the random id of the browser.
        user_id, user_name: who was signed in with it; None for nobody.
        shown: the model's answer on the page.
    """

    id: int
    pair_id: int
    choice: Choice
    note: str
    voter: str
    left_video: Side
    replaces_id: int | None
    created_at: datetime
    user_id: int | None = None
    user_name: str | None = None
    shown: Seen = "unknown"


@dataclass(frozen=True)
class SavedVote:
    """The outcome of a submission. `is_new` is False where the same submission had arrived before."""

    vote: Vote
    is_new: bool


def save_vote(
    session: Session,
    *,
    pair_id: int,
    choice: Choice,
    voter: str,
    token: str,
    left_video: Side = "A",
    note: str = "",
    user_id: int | None = None,
    shown: Seen = "unknown",
) -> SavedVote:
    """Save a vote, once for each token, and with it a label.

    Args:
        voter: the random id of the browser.
        user_id: who is signed in with it. Their vote replaces their earlier one on this pair from any browser; else the vote
            of this browser from before they signed in.
        token: made new by the page for each submission. A retry or double click repeats it and saves nothing.
        shown: the model's answer that stood on the page.

    Raises:
        NotInStoreError: there is no such pair.
        TextError: a note, voter or token that is too long.
        StorageError: an unknown choice, no voter or token, or a token that came with another vote before.
    """
    if choice not in get_args(Choice) or left_video not in get_args(Side):
        choices = ", ".join(get_args(Choice))
        raise StorageError(f"a vote is one of {choices}; found {choice!r} (left: {left_video!r})")
    if not voter or not token:
        raise StorageError("a vote needs a voter and a token")
    check_texts(VoteRow, voter=voter, token=token, note=note)  # before they are looked for or compared
    # The lock orders votes on one pair where the database does not order all writers anyway (PostgreSQL).
    if session.scalar(select(PairRow.id).where(PairRow.id == pair_id).with_for_update()) is None:
        raise NotInStoreError(f"there is no pair {pair_id}")
    before = session.scalars(select(VoteRow).where(VoteRow.token == token)).one_or_none()
    if before is not None:
        if (before.pair_id, before.voter, before.choice, before.note) != (pair_id, voter, choice, note):
            raise StorageError(f"this form was sent before, as {before.choice}; reload the page to vote again")
        return SavedVote(_vote(session, before), is_new=False)
    replaced = current_vote(session, pair_id, voter, user_id)
    row = VoteRow(
        pair_id=pair_id,
        choice=choice,
        note=note,
        voter=voter,
        left_video=left_video,
        token=token,
        replaces_id=None if replaced is None else replaced.id,
        user_id=user_id,
        shown=asdict(shown) if isinstance(shown, ShownAnswer) else None if shown == "unknown" else {},
    )
    session.add(row)
    session.flush()
    label_vote(session, row)
    return SavedVote(_vote(session, row), is_new=True)


def current_vote(session: Session, pair_id: int, voter: str, user_id: int | None = None) -> Vote | None:
    """Return the vote on this pair that counts: of the account, else of the browser while nobody was signed in."""
    of_browser = (VoteRow.voter == voter, VoteRow.user_id.is_(None))
    whose: list[tuple[ColumnElement[bool], ...]] = [of_browser]
    if user_id is not None:
        whose.insert(0, (VoteRow.user_id == user_id,))
    for conditions in whose:
        row = session.scalars(_current().where(VoteRow.pair_id == pair_id, *conditions)).one_or_none()
        if row is not None:
            return _vote(session, row)
    return None


def current_votes(session: Session, pair_id: int) -> tuple[Vote, ...]:
    """List the votes on a pair that count: one of each person, oldest first."""
    return tuple(_vote(session, row) for row in session.scalars(_current().where(VoteRow.pair_id == pair_id)))


def all_votes(session: Session, pair_id: int) -> tuple[Vote, ...]:
    """Every vote ever saved on a pair, the replaced ones too, oldest first."""
    rows = session.scalars(select(VoteRow).where(VoteRow.pair_id == pair_id).order_by(VoteRow.id))
    return tuple(_vote(session, row) for row in rows)


def _current() -> Select[Any]:
    return select(VoteRow).where(~_REPLACED).order_by(VoteRow.id)


def _vote(session: Session, row: VoteRow) -> Vote:
    user = None if row.user_id is None else session.get(UserRow, row.user_id)
    return Vote(
        id=row.id,
        pair_id=row.pair_id,
        choice=row.choice,
        note=row.note,
        voter=row.voter,
        left_video=row.left_video,
        replaces_id=row.replaces_id,
        created_at=row.created_at,
        user_id=row.user_id,
        user_name=None if user is None else user.name,
        shown=_shown(row.shown),
    )


def _shown(stored: dict[str, Any] | None) -> Seen:
    if not stored:
        return "unknown" if stored is None else "nothing"
    return ShownAnswer(**stored)
