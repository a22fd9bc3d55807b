"""Work shared by real processes: each piece once, the longest first, and no waiting that a time limit ends."""

from __future__ import annotations

import itertools
import time
from pathlib import Path

import pytest
import torch
from accelerate import Accelerator

from tests.helpers.gloo import run_together
from tests.helpers.waiting import wait_until
from trainer.sharing.accelerator import TIME_LIMIT, collective_time_limit, make_accelerator
from trainer.sharing.shared_store import OtherProcessFailedError
from trainer.sharing.work_queue import WorkQueue, even_shares, from_main, longest_first

_PIECES = 7
_LIMIT = 6.0  # seconds


def test_one_process_does_everything_the_longest_first_and_knows_what_comes_next() -> None:
    seen, told = [], []
    queue = WorkQueue([1, 5, 3], Accelerator(cpu=True), sizes=[2, 2, 1], on_progress=lambda *at: told.append(at))
    with queue:
        for index in queue:
            seen.append((index, queue.upcoming))
    assert seen == [(1, 2), (2, 0), (0, None)]
    assert told == [(2, 5), (3, 5), (5, 5)]
    assert queue.complete
    assert queue.gathered([(1, "b"), (2, "c"), (0, "a")]) == ["a", "b", "c"]


def test_a_closed_queue_gives_nothing_more_and_is_not_complete() -> None:
    done = []
    with WorkQueue([1, 1, 1], Accelerator(cpu=True)) as queue:
        for index in queue:
            done.append(index)
            queue.close()
    assert done == [0]
    assert not queue.complete


def test_no_work_is_complete_at_once() -> None:
    with WorkQueue([], Accelerator(cpu=True)) as queue:
        assert list(queue) == []
    assert queue.complete


def test_equal_costs_keep_their_order() -> None:
    assert longest_first([1.0, 3.0, 1.0, 3.0]) == [1, 3, 0, 2]


@pytest.mark.parametrize("processes", [1, 2, 3, 8])
@pytest.mark.parametrize("costs", [[1.0] * 8, [8, 7, 6, 5, 4, 3, 2, 1, 1], [100, 1, 1, 1, 1, 1], []])
def test_shares_are_equal_in_number_and_hold_everything_once(costs: list[float], processes: int) -> None:
    shares = even_shares(costs, processes)
    assert sorted(itertools.chain(*shares)) == list(range(len(costs)))
    sizes = [len(share) for share in shares]
    assert max(sizes) - min(sizes) <= 1
    assert all(share == sorted(share) for share in shares)


def test_shares_level_the_cost_where_strides_would_not() -> None:
    costs = [9.0, 1.0] * 4
    loads = [sum(costs[index] for index in share) for share in even_shares(costs, 2)]
    assert loads == [20.0, 20.0]
    assert [sum(costs[rank::2]) for rank in range(2)] == [36.0, 4.0]


def _in_a_group(rank: int, folder: Path) -> None:
    """Do everything that is tried in several processes, since each of them needs seconds to start."""
    (folder / f"{rank}.imported").touch()
    wait_until(lambda: all((folder / f"{each}.imported").exists() for each in range(2)), "the other process")
    accelerator = make_accelerator()
    group = torch.distributed.group.WORLD
    assert group is not None
    limit = group._get_backend(accelerator.device).options._timeout.total_seconds()
    value = from_main(accelerator, lambda: f"from {rank}")
    (folder / f"{rank}.group").write_text(f"{limit} {value}")
    for name, work in {"unequal": _unequal, "closed": _one_closes, "failed": _one_fails}.items():
        (folder / name).mkdir(exist_ok=True)
        work(rank, folder / name, accelerator)


def _unequal(rank: int, folder: Path, accelerator: Accelerator) -> None:
    """One piece takes until all others are done, and then for longer than the group's time limit."""
    results = []
    others = [folder / f"{index}.done" for index in range(1, _PIECES)]
    with WorkQueue([100.0] + [1.0] * (_PIECES - 1), accelerator) as queue:
        for index in queue:
            if index == 0:
                # With strides some of these would wait for this very process.
                wait_until(lambda: all(path.exists() for path in others), "all other pieces")
                time.sleep(1.2 * collective_time_limit().total_seconds())
            (folder / f"{index}.done").write_text(str(rank))
            results.append((index, f"result {index}"))
    everything = queue.gathered(results)
    (folder / f"{rank}.results").write_text(f"{queue.complete} {everything}")


def _one_closes(rank: int, folder: Path, accelerator: Accelerator) -> None:
    done = 0
    with WorkQueue([1.0] * 50, accelerator) as queue:
        for _ in queue:
            done += 1
            if rank == 0:
                queue.close()
                (folder / "closed").touch()
            wait_until((folder / "closed").exists, "the close")
    (folder / f"{rank}.txt").write_text(f"{queue.complete} {done <= 1}")


def _one_fails(rank: int, folder: Path, accelerator: Accelerator) -> None:
    try:
        with WorkQueue([1.0] * 2, accelerator) as queue:
            for index in queue:
                if index == 0:
                    raise ValueError(f"no such video on {rank}")
    except (ValueError, OtherProcessFailedError) as error:
        (folder / f"{type(error).__name__}.txt").write_text(str(error))


@pytest.fixture(scope="module")
def group(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("group")
    run_together(_in_a_group, 2, folder, **{TIME_LIMIT: str(_LIMIT / 3600)})
    return folder


@pytest.mark.slow
def test_the_group_has_the_time_limit_and_hears_the_main_process(group: Path) -> None:
    assert [(group / f"{rank}.group").read_text() for rank in range(2)] == [f"{_LIMIT} from 0"] * 2


@pytest.mark.slow
def test_a_process_with_long_work_keeps_nobody_waiting_into_the_time_limit(group: Path) -> None:
    by = [(group / "unequal" / f"{index}.done").read_text() for index in range(_PIECES)]
    assert set(by[1:]) == {"1" if by[0] == "0" else "0"}
    expected = f"True {[f'result {index}' for index in range(_PIECES)]}"
    assert [(group / "unequal" / f"{rank}.results").read_text() for rank in range(2)] == [expected] * 2


@pytest.mark.slow
def test_a_stop_on_one_process_ends_the_work_of_all(group: Path) -> None:
    assert [(group / "closed" / f"{rank}.txt").read_text() for rank in range(2)] == ["False True"] * 2


@pytest.mark.slow
def test_who_waits_for_a_process_that_failed_stops(group: Path) -> None:
    assert (group / "failed" / "ValueError.txt").read_text().startswith("no such video on")
    assert "another process of this run failed" in (group / "failed" / "OtherProcessFailedError.txt").read_text()
