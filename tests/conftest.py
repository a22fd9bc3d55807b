"""What the tests of all folders share."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from tests.postgresql import NoPostgresql, Server, postgresql_server

# Tests open stores of their own; none of them may ever reach the one that somebody works with.
os.environ.pop("DATABASE_URL", None)
os.environ.pop("DESCORE_HOME", None)


@pytest.fixture(scope="session")
def postgresql() -> Iterator[Server]:
    """One PostgreSQL server for the whole run, started by the first test that asks; skipped where there is none."""
    try:
        with postgresql_server() as server:
            server.skip_the_disk()
            yield server
    except NoPostgresql as error:
        pytest.skip(str(error))
