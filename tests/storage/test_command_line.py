"""`python -m storage`, as one calls it."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from storage import Database, open_database
from storage.__main__ import main
from storage.accounts.invitations import accept_invitation
from storage.accounts.users import add_user, list_users
from storage.votes import save_vote
from tests.helpers.paths import ROOT
from tests.helpers.stores import make_pair, url_of

if TYPE_CHECKING:
    from tests.helpers.postgresql import Server

PASSWORD = "a long enough password"


@pytest.fixture
def store(request: pytest.FixtureRequest, database: Database, monkeypatch: pytest.MonkeyPatch) -> Database:
    """The command finds the test's store, as it finds the app's."""
    monkeypatch.setenv("DATABASE_URL", url_of(database))
    monkeypatch.setenv("DESCORE_HOME", str(database.home))
    if database.engine.dialect.name == "postgresql":
        server: Server = request.getfixturevalue("postgresql")
        monkeypatch.setenv("PATH", f"{server.programs}{os.pathsep}{os.environ['PATH']}")
    return database


def test_backup_check_and_restore(
    store: Database, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with store.write() as session:
        save_vote(session, pair_id=make_pair(session).id, choice="A", voter="v", token="t")
    assert main(["check"]) == 0
    assert capsys.readouterr().out == "all is well\n"
    assert main(["backup", str(tmp_path / "backups"), "--json"]) == 0
    made = json.loads(capsys.readouterr().out)
    assert Path(made["path"]).stat().st_size == made["size"] > 0
    assert main(["restore", made["path"]]) == 2
    assert "already" in capsys.readouterr().err
    if store.engine.dialect.name == "sqlite":
        monkeypatch.delenv("DATABASE_URL")
        monkeypatch.setenv("DESCORE_HOME", str(tmp_path / "new"))
        assert main(["restore", made["path"]]) == 1  # the videos of this test have no files
        assert capsys.readouterr().err.count("is not in videos/ beside the backup") == 2
        assert main(["check", "--json"]) == 0
        assert json.loads(capsys.readouterr().out) == {"violations": []}
        assert main(["check", "--videos"]) == 1
        assert "2 violations" in capsys.readouterr().out


def test_videos_that_can_not_be_copied_are_told(store: Database, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with store.write() as session:
        make_pair(session)
    assert main(["backup", str(tmp_path / "backups"), "--videos"]) == 1
    said = capsys.readouterr()
    assert "0 videos in" in said.out
    assert said.err.count("storage: video ") == 2


@pytest.mark.slow
def test_the_link_lets_a_lead_in_who_is_locked_out(store: Database, capsys: pytest.CaptureFixture[str]) -> None:
    with store.write() as session:
        lead = add_user(session, "Ada", "lead", PASSWORD)
    assert main(["invite", "--role", "lead", "--name", "ada"]) == 0
    path = capsys.readouterr().out.strip()
    assert path.startswith("/invite/")
    same = accept_invitation(store, path.removeprefix("/invite/"), "Ada", PASSWORD + "!")
    assert same.id == lead.id
    assert main(["invite"]) == 0
    other = accept_invitation(store, capsys.readouterr().out.strip().removeprefix("/invite/"), "Bob", PASSWORD)
    assert other.role == "lead"
    with store.read() as session:
        assert [person.name for person in list_users(session)] == ["Ada", "Bob"]
    assert main(["invite", "--name", "Nobody"]) == 2
    assert "nobody is called Nobody" in capsys.readouterr().err


@pytest.mark.slow
def test_a_violation_is_an_exit_code(tmp_path: Path) -> None:
    open_database(f"sqlite:///{tmp_path / 'descore.db'}", home=tmp_path).close()
    with sqlite3.connect(tmp_path / "descore.db") as connection:
        connection.execute("INSERT INTO drafts VALUES (7, '{}', '2026-01-01 00:00:00.000000')")
    environment = {**os.environ, "DESCORE_HOME": str(tmp_path)}
    command = [sys.executable, "-m", "storage", "check", "--json"]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 1, done.stderr
    (violation,) = json.loads(done.stdout)["violations"]
    assert violation == {
        "rule": "foreign keys",
        "message": "drafts.assignment_id names assignments that are gone: 7",
    }


def test_a_store_that_is_not_there_is_not_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DESCORE_HOME", str(tmp_path / "nowhere"))
    for command in (["check"], ["backup", str(tmp_path / "backups")]):
        assert main(command) == 2
        assert "there is no store" in capsys.readouterr().err
    assert not (tmp_path / "nowhere").exists()
    assert not (tmp_path / "backups").exists()
