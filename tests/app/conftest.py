"""Fixtures of the app tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from gradio_client import Client

from tests.helpers.studios import Running, running_studio


@pytest.fixture(scope="session")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """One app for all tests of this folder."""
    with running_studio(tmp_path_factory.mktemp("studio")) as app:
        yield app


@pytest.fixture(scope="session")
def client(running: Running) -> Client:
    """A program that talks to it."""
    return Client(running.url, verbose=False)
