"""`python app.py --demo`: which folder it takes, what it leaves alone, and that the pages say so."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from app.demo_store import NOTICE, demo_home
from app.label_dataset import keep_labels
from app.serving.serving import Serving
from app.studio import notices
from storage import Database, StorageError
from storage.data_home import data_home
from storage.demo_store import begin_demo, finish_demo


def test_a_finished_store_is_opened_again_and_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgresql://nobody@nowhere/own")
    monkeypatch.setenv("DESCORE_HOME", str(tmp_path / "own"))
    begin_demo(tmp_path / "demo")
    finish_demo(tmp_path / "demo")
    with demo_home(tmp_path / "demo") as home:
        assert home == tmp_path / "demo" == data_home()
        assert "DATABASE_URL" not in os.environ
    assert not (tmp_path / "own").exists()


def test_a_folder_with_somebodys_store_is_refused_untouched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DESCORE_HOME", "before")
    (tmp_path / "descore.db").write_text("mine")
    with pytest.raises(StorageError, match="name an empty or new folder"), demo_home(tmp_path):
        pass
    assert [entry.name for entry in tmp_path.iterdir()] == ["descore.db"]
    assert os.environ["DESCORE_HOME"] == "before"


def test_the_pages_of_a_demo_store_say_that_it_is_one(sqlite_database: Database) -> None:
    kept, serving = keep_labels(sqlite_database), object.__new__(Serving)
    assert NOTICE not in notices(kept, serving)
    (sqlite_database.home / "demo.json").write_text('{"finished": true}')
    assert notices(kept, serving).startswith(NOTICE)
