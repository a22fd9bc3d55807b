"""How many threads of the CPU model calls get."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch

from descore import DeScore
from descore.modeling import cpu_threads
from descore.modeling.cpu_threads import set_threads
from tests.helpers.studios import talkative_checkpoint


@pytest.fixture
def two_threads(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The machine gives two, and has back what it gave."""
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    monkeypatch.setattr(cpu_threads, "_ALL", 2)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("two_threads")
def test_a_small_model_gets_one_and_a_large_one_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    judge = DeScore.from_pretrained(talkative_checkpoint(tmp_path / "checkpoint", thought_tokens=4))
    set_threads(judge.model)
    with ThreadPoolExecutor(1) as another:
        assert another.submit(torch.get_num_threads).result() == 1, "also in the threads of judgements"
    monkeypatch.setattr(cpu_threads, "SMALL", 0)
    set_threads(judge.model)
    assert torch.get_num_threads() == 2
