"""Notes of leads on runs: what somebody wants to be remembered about a training.

A note is replaced by a newer row, never overwritten; an empty one takes it away.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from sqlalchemy import func, select

from storage.schema import RunNoteRow, UserRow
from storage.training.runs import get_run

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

LONGEST_NOTE = 4_000  # characters


@dataclass(frozen=True)
class RunNote:
    """The newest note on a run.

    Attributes:
        by: name of the lead who wrote it.
    """

    run_id: int
    text: str
    by: str
    created_at: datetime


def write_note(session: Session, run_id: int, text: str, by: int) -> None:
    """Replace the note on a run; the same text again changes nothing.

    Args:
        text: surrounding blanks are left out; "" takes the note away.
        by: id of the lead.

    Raises:
        NotInStoreError: there is no such run.
        TextError: the text is too long.
    """
    get_run(session, run_id)
    newest = select(RunNoteRow.text).where(RunNoteRow.run_id == run_id).order_by(RunNoteRow.id.desc()).limit(1)
    if text.strip() != (session.scalar(newest) or ""):
        session.add(RunNoteRow(run_id=run_id, text=text.strip(), by_id=by))
        session.flush()


def run_notes(session: Session) -> Mapping[int, RunNote]:
    """Return the notes by the ids of their runs; those that were taken away are left out."""
    newest = select(func.max(RunNoteRow.id)).group_by(RunNoteRow.run_id)
    rows = select(RunNoteRow, UserRow.name).join(UserRow).where(RunNoteRow.id.in_(newest), RunNoteRow.text != "")
    return {row.run_id: RunNote(row.run_id, row.text, name, row.created_at) for row, name in session.execute(rows)}
