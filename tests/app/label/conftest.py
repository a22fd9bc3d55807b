"""An app of its own for the tests of labelling: their rounds stay open, and what is in an open round is hidden elsewhere."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.helpers.studios import Running, running_studio


@pytest.fixture(scope="package")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """One app for all tests of this folder."""
    with running_studio(tmp_path_factory.mktemp("label")) as app:
        yield app
