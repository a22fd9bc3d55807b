"""Notes of leads on runs: the newest counts, none is overwritten."""

from __future__ import annotations

import pytest
from sqlalchemy import text

from storage import Database, NotInStoreError, StorageError
from storage.accounts.users import add_user
from storage.errors import TextError
from storage.maintenance.integrity import check_store
from storage.training.run_notes import LONGEST_NOTE, run_notes, write_note
from tests.helpers.labelling import make_team
from tests.helpers.retraining import add_run, let_say, serve_base, snapshot_of


def test_the_newest_note_counts_and_an_empty_one_takes_it_away(database: Database) -> None:
    team = make_team(database, pairs=12, people=1, overlap=1)
    let_say(database, team, 0, "AB=x" * 3)
    snapshot = snapshot_of(database)
    with database.write() as session:
        base = serve_base(session)
        first, second = (add_run(session, base, snapshot).id for _ in range(2))
        mira, olu = (add_user(session, name, "lead").id for name in ("Mira", "Olu"))
        write_note(session, first, " too many steps ", mira)
        write_note(session, second, "with the new guidelines", olu)
        write_note(session, second, "with the new guidelines", mira)
        assert run_notes(session)[second].by == "Olu", "the same text again is no change"
        write_note(session, first, "too many steps: try 60", olu)
        note = run_notes(session)[first]
        assert (note.text, note.by) == ("too many steps: try 60", "Olu")
        write_note(session, first, "", mira)
        assert list(run_notes(session)) == [second]
        assert session.scalar(text("SELECT count(*) FROM run_notes")) == 4
    with database.write() as session, pytest.raises(NotInStoreError):
        write_note(session, 99, "?", mira)
    with pytest.raises(TextError), database.write() as session:
        write_note(session, first, "x" * (LONGEST_NOTE + 1), mira)
    for change in ("UPDATE run_notes SET text = ''", "DELETE FROM run_notes"):
        with pytest.raises(StorageError, match="append-only"), database.write() as session:
            session.execute(text(change))
    assert check_store(database) == ()
