"""A server of a tiny random checkpoint for the tests of this folder."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.helpers.judging_server import RunningServer, judging_server
from tests.helpers.tiny import tiny_judge, tiny_video


@pytest.fixture(scope="module")
def server() -> Iterator[RunningServer]:
    with judging_server(tiny_judge()) as running:
        yield running


@pytest.fixture(scope="module")
def client(server: RunningServer) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=server.url, timeout=120) as client:
        yield client


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("clips")
    return [tiny_video(folder / f"{number}.mp4", number) for number in range(3)]
