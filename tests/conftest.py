"""Settings and fixtures that tests of all folders share: stores on both databases, and one PostgreSQL server."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from storage import Database, open_database
from tests.helpers.paths import ROOT
from tests.helpers.postgresql import NoPostgresqlError, Server, postgresql_server

# Tests open stores of their own; none of them may ever reach the one that somebody works with.
os.environ.pop("DATABASE_URL", None)
os.environ.pop("DESCORE_HOME", None)

# No time limit for a single hypothesis example, since machines are shared.
settings.register_profile("shared machine", deadline=None)
settings.load_profile("shared machine")

_MIGRATED = "migrated"
_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def postgresql() -> Iterator[Server]:
    """One PostgreSQL server for the whole run, started by the first test that asks; skipped where there is none."""
    try:
        with postgresql_server() as server:
            server.skip_the_disk()
            yield server
    except NoPostgresqlError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def migrated(postgresql: Server, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The name of a PostgreSQL database with all tables and nothing in them, to be copied."""
    open_database(postgresql.create(_MIGRATED), home=tmp_path_factory.mktemp("home")).close()
    return _MIGRATED


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    """An empty store; each test that uses it runs on SQLite and on PostgreSQL."""
    if request.param == "sqlite":
        opened = open_database(home=tmp_path / "home")
        yield opened
        opened.close()
        return
    server: Server = request.getfixturevalue("postgresql")
    template: str = request.getfixturevalue("migrated")
    name = f"test{next(_numbers)}"
    opened = open_database(server.create(name, template), home=tmp_path / "home")
    yield opened
    opened.close()
    server.drop(name)


@pytest.fixture(params=["sqlite", "postgresql"])
def empty_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The URL of a database without any tables yet, for tests of opening one."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'store.db'}"
        return
    server: Server = request.getfixturevalue("postgresql")
    name = f"empty{next(_numbers)}"
    yield server.create(name)
    server.drop(name)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark tests by what they need, so that `make fast` can leave them out."""
    for item in items:
        assert isinstance(item, pytest.Function)
        if "browser" in item.path.relative_to(ROOT).parts:
            item.add_marker("browser")
        parameters = item.callspec.params.values() if hasattr(item, "callspec") else ()
        if "postgresql" in item.fixturenames or "postgresql" in parameters:
            item.add_marker("postgresql")
