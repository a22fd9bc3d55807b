"""Names of devices that one run takes together."""

from __future__ import annotations

import pytest

from storage.training.devices import lock_names, one_name, overlap, process_count, several


@pytest.mark.parametrize(
    ("device", "locks", "processes"),
    [
        ("cpu", ("cpu",), 1),
        ("cpu:0-1", ("cpu",), 2),
        ("cuda", ("cuda:0",), 1),
        ("cuda:3", ("cuda:3",), 1),
        ("cuda:0-3", ("cuda:0", "cuda:1", "cuda:2", "cuda:3"), 4),
        ("cuda:2-3", ("cuda:2", "cuda:3"), 2),
        ("slurm", ("slurm",), 1),
        ("", ("",), 1),
    ],
)
def test_a_name_stands_for_devices_and_processes(device: str, locks: tuple[str, ...], processes: int) -> None:
    assert lock_names(device) == locks
    assert process_count(device) == processes


def test_runs_are_in_each_others_way_where_they_share_a_device() -> None:
    assert overlap("cuda:0-7", "cuda:3")
    assert overlap("cuda:0-3", "cuda:2-5")
    assert overlap("cpu", "cpu:0-1")
    assert not overlap("cuda:0-3", "cuda:4")
    assert not overlap("cuda:0-7", "cpu")


def test_one_device_has_one_name() -> None:
    assert several("cuda", 8) == "cuda:0-7"
    assert several("cuda", 1) == one_name("cuda") == "cuda:0"
