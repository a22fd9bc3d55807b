"""The journal: what is committed stands in it, and comes back into an empty store once, whatever happened to the file."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import select

from storage import Database, open_database
from storage.accounts.identities import Identity, sign_in_as
from storage.accounts.invitations import accept_invitation, invite
from storage.accounts.users import add_user, set_role
from storage.campaigns.campaign import CampaignConfig, Gold, create_campaign, set_status
from storage.campaigns.guidelines import DEFAULT_GUIDELINES
from storage.errors import JournalConflictError, JournalError, StorageError
from storage.journal import journal_file
from storage.journal.journal import JOURNAL, VIDEOS, keep_journal
from storage.journal.kept_rows import KEPT, Namer
from storage.journal.read_back import ReadBack, read_back, read_records
from storage.labelling.adjudication import adjudicate
from storage.labelling.assignments import history, save_draft
from storage.labelling.submit import undo
from storage.maintenance.integrity import check_store
from storage.schema import Base, CampaignRow, LabelRow, UserRow, VoteRow
from storage.votes import save_vote
from tests.helpers.labelling import Team, answer, flag, label_next, new_submission, save, skip, take
from tests.helpers.stores import make_pair

if TYPE_CHECKING:
    from storage.pairs import Pair

# What is not in the journal: see docs/space.md.
DERIVED = {"cursor_position", "cursor_id", "gold_cursor_position", "gold_cursor_id", "repeat_cursor"}


class Space:
    """A data folder that is empty at each start, and a dataset that outlasts it."""

    def __init__(self, empty: Path, folder: Path) -> None:
        self._empty, self._folder, self._starts = empty, folder, 0
        self.dataset = folder / "dataset"

    @property
    def files(self) -> list[Path]:
        return sorted((self.dataset / JOURNAL).glob("*.jsonl"))

    def start(self, home: Path | None = None) -> tuple[Database, ReadBack]:
        """Open a store in an empty data folder (or the one given), with what the dataset holds."""
        self._starts += 1
        if home is None:
            home = Path(shutil.copytree(self._empty, self._folder / f"home {self._starts}"))
        database = open_database(home=home)
        outcome = read_back(database, read_records(self.files))
        return keep_journal(database, self.dataset, outcome.records), outcome


@pytest.fixture
def space(migrated_home: Path, tmp_path: Path) -> Space:
    return Space(migrated_home, tmp_path)


@pytest.fixture
def first(space: Space) -> Iterator[Database]:
    database, _ = space.start()
    with closing(database):
        yield database


def with_files(database: Database, pair: Pair) -> Pair:
    """The pair, whose videos get files."""
    for video in (pair.video_a, pair.video_b):
        path = database.home / "videos" / video.file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(video.sha256.encode())
    return pair


def team_of(database: Database, pairs: int = 8, people: int = 3, **settings: Any) -> Team:
    """A campaign of pairs with files, the last pair gold, as in `make_team`."""
    chosen = {"name": "spring", "dimensions": (), "gold_share": 0.2, "repeat_share": 0.2, "overlap": 2} | settings
    with database.write() as session:
        ids = tuple(with_files(database, make_pair(session, f"{i}a", f"{i}b")).id for i in range(pairs))
        team = tuple(add_user(session, f"annotator {i}", "annotator").id for i in range(people))
        gold = {ids[-1]: Gold("A")}
        campaign = create_campaign(session, CampaignConfig(**chosen), ids, DEFAULT_GUIDELINES, created_by=None, gold=gold)
    return Team(campaign, team, ids)


def vote(database: Database, pair_id: int, token: str, choice: Any = "A", voter: str = "Ada") -> None:
    with database.write() as session:
        save_vote(session, pair_id=pair_id, choice=choice, voter=voter, token=token)


def rows_of(database: Database) -> dict[str, list[Any]]:
    """All rows of the kept tables with names in place of ids, what is computed from them too, by name."""
    with database.read() as session:
        namer = Namer(session)
        rows = {}
        for kept in KEPT.values():
            columns = [column for column in kept.table.columns if column.name not in {"id", *DERIVED}]
            rows[kept.name] = sorted(
                (repr(namer.name_of(kept, row)), {one.name: namer.value(one, getattr(row, one.name)) for one in columns})
                for row in session.execute(select(kept.table))
            )
        patterns = Base.metadata.tables["agreement_patterns"]
        rows["agreement"] = sorted(tuple(row) for row in session.execute(select(patterns).where(patterns.c.pairs != 0)))
        return rows


def tokens(database: Database) -> list[str]:
    with database.read() as session:
        is_vote = select(CampaignRow.id).where(CampaignRow.holds_votes)
        labels = session.scalars(select(LabelRow.token).where(LabelRow.campaign_id.not_in(is_vote)))
        return [*labels, *session.scalars(select(VoteRow.token))]


def work(database: Database, team: Team) -> None:
    """Everything that people do in a campaign: labels, a skip, a flag, an edit, an undo, a decision, votes."""
    with database.write() as session:
        for annotator in team.people:
            label_next(session, team, annotator)
        label_next(session, team, team.people[0], answer("B", note="“a — z”"))
        label_next(session, team, team.people[1], skip())
        label_next(session, team, team.people[2], flag())
        done = history(session, team.campaign.id, team.people[0])[0]
        assert done.label is not None
        save(session, done, answer("tie"), edits=done.label.id)
        undo(session, team.campaign.id, team.people[1], new_submission())
        lead = add_user(session, "Lea", "lead").id
        adjudicate(session, team.campaign.id, team.pairs[0], lead, new_submission(), answer("A"))
    for number, choice in enumerate(("A", "B", "tie")):
        vote(database, team.pairs[0], f"vote {number}", choice)


@pytest.mark.slow
def test_everything_is_the_same_after_three_restarts(space: Space, first: Database) -> None:
    team = team_of(first)
    work(first, team)
    with first.write() as session:
        token = invite(session, "annotator", created_by=None)
    accept_invitation(first, token, "Neda", "four words of nonsense")
    before = rows_of(first)
    for restart in range(3):
        database, outcome = space.start()
        with closing(database):
            assert outcome.labels == len(before["labels"])
            assert outcome.votes == 3
            assert rows_of(database) == before, f"restart {restart}"
            assert check_store(database, videos=False) == ()
            assert len(space.files) == 1, "a start that brings nothing new writes nothing"


@pytest.mark.slow  # each label waits for the disk twice
def test_work_goes_on_where_it_was_at_each_restart(space: Space, first: Database) -> None:
    team, database, given = team_of(first, pairs=30), first, set[tuple[int, str]]()
    for _ in range(3):
        for person in team.people:
            for _ in range(4):
                with database.write() as session:
                    assignment = take(session, team, person)
                    if assignment.kind == "work":
                        pair = (person, assignment.pair.video_a.sha256)
                        assert pair not in given, "nobody gets a pair twice"
                        given.add(pair)
                    save(session, assignment)
        with database.write() as session:
            held = take(session, team, team.people[0]).token
        before = tokens(database)
        database, _ = space.start()
        assert tokens(database) == before
        assert len(set(before)) == len(before)
        assert check_store(database) == ()
        with database.write() as session:
            assert take(session, team, team.people[0]).token == held, "what lay before somebody still does"
        with database.write() as session:
            save(session, take(session, team, team.people[0]))
    assert len(space.files) == 4, "one file a start"
    database.close()


def test_reading_back_again_changes_nothing(space: Space, first: Database) -> None:
    team = team_of(first)
    work(first, team)
    before = rows_of(first)
    for _ in range(2):
        outcome = read_back(first, read_records(space.files))
        assert (outcome.labels, outcome.votes) == (0, 0)
        assert rows_of(first) == before


def test_votes_of_accounts_replace_each_other_as_before(space: Space, first: Database) -> None:
    with first.write() as session:
        pair = with_files(first, make_pair(session))
        ada = add_user(session, "Ada", "annotator").id
        for token, voter, user in (("1", "home", None), ("2", "home", ada), ("3", "work", ada), ("4", "work", None)):
            save_vote(session, pair_id=pair.id, choice="A", voter=voter, token=token, user_id=user)
    before = rows_of(first)["votes"]
    second, _ = space.start()
    with closing(second):
        assert rows_of(second)["votes"] == before
        with second.write() as session:
            ada = session.scalars(select(UserRow.id).where(UserRow.name == "Ada")).one()
            saved = save_vote(session, pair_id=pair.id, choice="B", voter="elsewhere", token="5", user_id=ada).vote
            assert saved.replaces_id is not None
        assert check_store(second) == ()
    outcome = read_back(first, read_records(space.files))
    assert (outcome.votes, check_store(first)) == (1, ())


def test_a_store_that_had_labels_before_puts_them_into_the_journal(space: Space, sqlite_database: Database) -> None:
    team = team_of(sqlite_database)
    work(sqlite_database, team)
    before = rows_of(sqlite_database)
    sqlite_database.close()
    space.start(sqlite_database.home)[0].close()
    restored, _ = space.start()
    with closing(restored):
        assert rows_of(restored) == before


def test_the_clips_of_what_people_said_lie_beside_the_journal(space: Space, first: Database) -> None:
    with first.write() as session:
        judged = with_files(first, make_pair(session, "seen", "voted"))
        with_files(first, make_pair(session, "uploaded", "and left"))
    assert not (space.dataset / VIDEOS).exists(), "what nobody voted on is not kept"
    vote(first, judged.id, "one")
    kept = {path.relative_to(space.dataset / VIDEOS).as_posix() for path in (space.dataset / VIDEOS).rglob("*.mp4")}
    assert kept == {judged.video_a.file, judged.video_b.file}


def test_a_file_that_a_kill_has_cut_is_read_up_to_its_last_whole_line(space: Space, first: Database) -> None:
    with first.write() as session:
        pair = with_files(first, make_pair(session))
    vote(first, pair.id, "kept")
    vote(first, pair.id, "cut", "B")
    content = space.files[0].read_bytes()
    space.files[0].write_bytes(content[:-20])
    database, outcome = space.start()
    with closing(database):
        assert tokens(database) == ["kept"]
        assert "ends in the middle of line 3" in outcome.notes[0]


def test_a_journal_from_before_a_column_was_added_is_read(space: Space, first: Database) -> None:
    with first.write() as session:
        add_user(session, "Ada", "viewer")
        add_user(session, "Bea", "viewer")
    text = space.files[0].read_text("utf-8")
    older = ',"issuer":null,"subject":null'
    assert text.count(older) == 2
    space.files[0].write_text(text.replace(older, "", 1), "utf-8")
    restored, _ = space.start()
    with closing(restored):
        assert rows_of(restored) == rows_of(first)


def test_one_person_of_a_provider_is_one_account(space: Space, first: Database) -> None:
    """Two apps that ran at once gave the newcomer two names."""
    second, _ = space.start()
    for database, name in ((first, "Ada"), (second, "Ada Lovelace")):
        sign_in_as(database, Identity("https://sso.example.org", "8841", name))
    restored, _ = space.start()
    with closing(second), closing(restored):
        assert [key for key, _ in rows_of(restored)["users"]] == ["'ada'"]


def of_vote(line: bytes, old: bytes, new: bytes) -> bytes:
    """Change the record of a vote; its label stands in the same line."""
    start = line.index(b'"in":"votes"')
    return line[:start] + line[start:].replace(old, new, 1)


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda lines: [lines[0], lines[1][:-5], *lines[2:]], "line 2: this line is damaged"),
        (lambda lines: [b"{}", *lines[1:]], "is no journal of this program"),
        (lambda lines: [lines[0], *lines[2:]], "line 2: .* belongs to "),
        (lambda lines: [*lines[:2], lines[2].replace(b'"in":"votes"', b'"in":"moods"')], "moods, which this version"),
        (lambda lines: [*lines[:2], lines[2].replace(b'"note":', b'"mood":')], "with mood, which this version"),
        (lambda lines: [*lines[:2], of_vote(lines[2], b'"choice":"B",', b"")], "it has no choice of votes"),
    ],
)
def test_a_damaged_journal_is_refused_in_one_sentence(
    space: Space, first: Database, damage: Callable[[list[bytes]], list[bytes]], reason: str
) -> None:
    with first.write() as session:
        pair = with_files(first, make_pair(session))
    vote(first, pair.id, "kept")
    vote(first, pair.id, "cut", "B")
    lines = space.files[0].read_bytes().splitlines()
    space.files[0].write_bytes(b"\n".join(damage(lines)) + b"\n")
    with pytest.raises(JournalError, match=reason):
        space.start()


def test_one_vote_given_in_two_ways_is_a_conflict(space: Space, first: Database) -> None:
    with first.write() as session:
        pair = with_files(first, make_pair(session))
    vote(first, pair.id, "one")
    other = space.files[0].with_name("9999.jsonl")
    other.write_text(space.files[0].read_text("utf-8").replace('"choice":"A"', '"choice":"B"'), "utf-8")
    with pytest.raises(JournalConflictError, match=r"9999\.jsonl, line 2: votes one differs from an earlier line"):
        space.start()
    with pytest.raises(JournalConflictError, match="differs from the one in the store"):
        read_back(first, read_records([other]))


def test_what_two_apps_wrote_at_once_is_all_there(space: Space, first: Database) -> None:
    """A new app may read the dataset before the old one has pushed its last minutes."""
    team = team_of(first, gold_share=0.0, repeat_share=0.0)
    with first.write() as session:
        label_next(session, team, team.people[0])
    second, _ = space.start()
    with first.write() as session:  # both give the same pair to the same person
        ours = take(session, team, team.people[0])
        save(session, ours, answer("A"))
        label_next(session, team, team.people[1])
    with second.write() as session:
        theirs = take(session, team, team.people[0])
        save(session, theirs, answer("B"))
    assert ours.pair.video_a.sha256 == theirs.pair.video_a.sha256
    assert ours.token != theirs.token
    for database in (first, second):
        vote(database, team.pairs[0], f"vote of {database.home.name}")
    third, _ = space.start()
    with closing(second), closing(third):
        assert {*tokens(first), *tokens(second)} == set(tokens(third))
        assert len(tokens(third)) == len(set(tokens(third)))
        assert check_store(third) == ()
        before = rows_of(third)
        again, _ = space.start()
        with closing(again):
            assert rows_of(again) == before


def test_nothing_is_acknowledged_that_is_not_in_the_journal(
    space: Space, first: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    with first.write() as session:
        pair = with_files(first, make_pair(session))
    vote(first, pair.id, "one")

    def full(handle: int, content: bytes) -> int:
        if len(content) > 10:
            return real(handle, content[:10])
        raise OSError(28, "No space left on device")

    real = journal_file.os.write
    with monkeypatch.context() as context:
        context.setattr(journal_file.os, "write", full)
        with pytest.raises(JournalError, match="No space left on device"):
            vote(first, pair.id, "two", "B")
        with pytest.raises(JournalError, match="nothing can be saved"):  # also where the store has it: a retry
            vote(first, pair.id, "two", "B")
    vote(first, pair.id, "two", "B")
    database, outcome = space.start()
    with closing(database):
        assert tokens(database) == ["one", "two"]
        assert outcome.notes == ()


def test_what_is_rolled_back_leaves_no_line(space: Space, first: Database) -> None:
    with first.write() as session:
        pair = with_files(first, make_pair(session))
    vote(first, pair.id, "one")
    with pytest.raises(RuntimeError), first.write() as session:
        save_vote(session, pair_id=pair.id, choice="B", voter="Bea", token="undone")
        add_user(session, "Nobody", "viewer")
        session.flush()
        raise RuntimeError
    with first.write() as session:
        add_user(session, "Somebody", "viewer")
    assert "undone" not in space.files[0].read_text("utf-8")
    assert "Nobody" not in space.files[0].read_text("utf-8")
    assert "Somebody" in space.files[0].read_text("utf-8")


def test_a_draft_is_no_line_and_a_changed_role_is_one(space: Space, first: Database) -> None:
    team = team_of(first)
    with first.write() as session:
        token = take(session, team, team.people[0]).token
    lines = len(space.files[0].read_bytes().splitlines())
    for note in "abc":
        with first.write() as session:
            save_draft(session, token, team.people[0], {"note": note})
    assert len(space.files[0].read_bytes().splitlines()) == lines
    with first.write() as session:
        set_role(session, team.people[0], "viewer")
        set_status(session, team.campaign.id, "paused")
    rows = json.loads(space.files[0].read_text("utf-8").splitlines()[-1])["rows"]
    assert [(row["in"], row["key"]) for row in rows] == [("users", "annotator 0"), ("campaigns", "spring")]


def test_a_journal_is_for_sqlite(database: Database, tmp_path: Path) -> None:
    if database.engine.dialect.name == "sqlite":
        keep_journal(database, tmp_path / "dataset")
        return
    with pytest.raises(StorageError, match="for a SQLite store"):
        keep_journal(database, tmp_path / "dataset")
