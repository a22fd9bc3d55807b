"""A store with one pair and the base checkpoint, which other processes can open too."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from storage import Database, open_database
from storage.training.model_registry import promote, register_checkpoint
from tests.helpers.paths import ROOT
from tests.helpers.stores import make_pair


@pytest.fixture
def database(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Database]:
    monkeypatch.delenv("DATABASE_URL", raising=False)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    database = open_database(home=tmp_path)
    with database.write() as session:
        base = register_checkpoint(session, name="bundled v1", location="bundled", fingerprint="base")
        promote(session, base.id, "start")
        make_pair(session)
    yield database
    database.close()
