"""Settings and fixtures that tests of all folders share: stores on both databases, and one PostgreSQL server."""

from __future__ import annotations

import gc
import itertools
import os
import shutil
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from argon2 import PasswordHasher
from hypothesis import settings

from storage import Database, open_database
from storage.accounts import credentials
from tests.helpers.paths import ROOT
from tests.helpers.postgresql import NoPostgresqlError, Server, postgresql_server

# Tests open stores of their own; none of them may ever reach the one that somebody works with.
os.environ.pop("DATABASE_URL", None)
os.environ.pop("DESCORE_HOME", None)

# No time limit for a single hypothesis example, since machines are shared.
settings.register_profile("shared machine", deadline=None)
settings.load_profile("shared machine")

# While some thousand modules are imported the garbage collector finds nothing, and takes a quarter of the time.
gc.disable()

_MIGRATED = "migrated"
_BACKENDS = ("sqlite", "postgresql")
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


@pytest.fixture(scope="session")
def migrated_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder with an empty SQLite store, to be copied: quicker than to make the tables again."""
    home = tmp_path_factory.mktemp("migrated")
    open_database(home=home).close()
    return home


@contextmanager
def _empty_store(request: pytest.FixtureRequest, home: Path) -> Iterator[Database]:
    """An empty store on the database that the fixture's parameter names."""
    if request.param == "sqlite":
        shutil.copytree(request.getfixturevalue("migrated_home"), home)
        with closing(open_database(home=home)) as opened:
            yield opened
        return
    server: Server = request.getfixturevalue("postgresql")
    template: str = request.getfixturevalue("migrated")
    name = f"test{next(_numbers)}"
    with closing(open_database(server.create(name, template), home=home)) as opened:
        yield opened
    server.drop(name)


@pytest.fixture(params=_BACKENDS)
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    """An empty store; each test that uses it runs on SQLite and on PostgreSQL."""
    with _empty_store(request, tmp_path / "home") as opened:
        yield opened


@pytest.fixture(scope="module", params=_BACKENDS)
def shared_database(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Database]:
    """As `database`, but one for all tests of a module: what one of them writes, the others find."""
    with _empty_store(request, tmp_path_factory.mktemp("shared") / "home") as opened:
        yield opened


@pytest.fixture
def sqlite_database(migrated_home: Path, tmp_path: Path) -> Iterator[Database]:
    """An empty store on SQLite alone, for tests of what does not depend on the database."""
    home = Path(shutil.copytree(migrated_home, tmp_path / "home"))
    with closing(open_database(home=home)) as opened:
        yield opened


@pytest.fixture
def other(migrated_home: Path, tmp_path: Path) -> Iterator[Database]:
    """A second empty store, of somebody else, on SQLite."""
    home = Path(shutil.copytree(migrated_home, tmp_path / "other home"))
    with closing(open_database(home=home)) as opened:
        yield opened


@pytest.fixture(params=_BACKENDS)
def empty_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The URL of a database without any tables yet, for tests of opening one."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'store.db'}"
        return
    server: Server = request.getfixturevalue("postgresql")
    name = f"empty{next(_numbers)}"
    yield server.create(name)
    server.drop(name)


@pytest.fixture
def quick_hashes(monkeypatch: pytest.MonkeyPatch) -> None:
    """The cheapest argon2id: for modules that sign in hundreds of times."""
    monkeypatch.setattr(credentials, "hasher", PasswordHasher(time_cost=1, memory_cost=8, parallelism=1))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark tests by what they need, so that `make fast` can leave them out."""
    for item in items:
        assert isinstance(item, pytest.Function)
        if "browser" in item.path.relative_to(ROOT).parts:
            item.add_marker("browser")
        parameters = item.callspec.params.values() if hasattr(item, "callspec") else ()
        if "postgresql" in item.fixturenames or "postgresql" in parameters:
            item.add_marker("postgresql")


def pytest_collection_finish() -> None:
    """Collect garbage again from here on, but never what the imports made."""
    gc.freeze()
    gc.enable()
