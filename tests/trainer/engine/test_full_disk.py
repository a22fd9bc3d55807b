"""A disk without room, by the real limit of a process on the size of its files: a sentence, nothing half, and on it goes."""

from __future__ import annotations

import resource
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from descore.checkpoints.disk_space import is_without_room
from descore.errors import CheckpointError
from tests.helpers.tiny import tiny_judge
from tests.helpers.tiny_runs import largest_difference, tiny_config, tiny_pairs, tiny_run
from trainer.engine.checkpoints import RunCheckpoints
from trainer.engine.loop import TrainingFailedError


@contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.training
# Room for the log alone; for the weights too, but not for the optimizer's two numbers a weight.
@pytest.mark.parametrize("size", [50_000, 900_000])
def test_a_run_whose_checkpoint_has_no_room_says_so_and_goes_on_later(size: int, tmp_path: Path) -> None:
    config, pairs = tiny_config(), tiny_pairs(4)
    _, expected = tiny_run("cold-start", config, pairs, tmp_path / "roomy")
    first = replace(config, cold_start=replace(config.cold_start, steps=2))
    with (
        files_of_at_most(size),
        pytest.raises(TrainingFailedError, match="after step 1 could not be saved: there is no room"),
    ):
        tiny_run("cold-start", first, pairs, tmp_path / "full")
    assert not list((tmp_path / "full" / "run" / "checkpoints").iterdir())
    result, found = tiny_run("cold-start", first, pairs, tmp_path / "full")
    assert result.steps == 2
    assert largest_difference(expected, found) == 0


def test_the_checkpoints_before_stay(tmp_path: Path) -> None:
    checkpoints = RunCheckpoints(tmp_path, keep=2)
    checkpoints.save(1, lambda folder: (folder / "weights").write_bytes(b"one"))
    with pytest.raises(Exception, match="no room"), files_of_at_most(1000):
        checkpoints.save(2, lambda folder: (folder / "weights").write_bytes(bytes(5000)))
    newest = checkpoints.newest()
    assert newest is not None
    assert newest.step == 1
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["step-000001"]


def test_a_checkpoint_folder_without_room_leaves_what_was_there(tmp_path: Path) -> None:
    judge = tiny_judge()
    folder = judge.save_pretrained(tmp_path / "checkpoint")
    before = {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}
    with files_of_at_most(100_000), pytest.raises(CheckpointError, match="no room left"):
        judge.save_pretrained(folder)
    assert {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()} == before
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint"]


@pytest.mark.parametrize(
    ("error", "is_full"),
    [
        (OSError(28, "No space left on device"), True),
        (RuntimeError("Error while serializing: I/O error: No space left on device (os error 28)"), True),
        (OSError(13, "Permission denied"), False),
        (ValueError("the folder is taken"), False),
    ],
)
def test_a_full_disk_is_told_from_other_faults(error: Exception, is_full: bool) -> None:
    assert is_without_room(error) == is_full
