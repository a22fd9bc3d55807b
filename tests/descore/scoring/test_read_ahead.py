"""Work ahead of whoever takes it: in order, bounded in number and in bytes."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from descore.scoring.read_ahead import read_ahead


@pytest.fixture
def threads() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(4)


def test_results_come_in_order_and_no_more_than_the_depth_is_begun(threads: ThreadPoolExecutor) -> None:
    begun: list[int] = []
    lock = threading.Lock()

    def work(number: int) -> int:
        with lock:
            begun.append(number)
        return number * number

    taken = 0
    for number, square in read_ahead(threads, work, range(50), depth=5):
        assert (number, square) == (taken, taken * taken)
        taken += 1
        assert len(begun) <= taken + 5
    assert taken == 50


def test_large_results_are_few(threads: ThreadPoolExecutor) -> None:
    waiting, most = 0, 0
    lock = threading.Lock()

    def work(_: int) -> bytes:
        nonlocal waiting, most
        with lock:
            waiting += 1
            most = max(most, waiting)
        return bytes(100)

    for _ in read_ahead(threads, work, range(30), depth=20, size=len, budget=350):
        with lock:
            waiting -= 1
    # What was begun before the first size was known, 20 at most, is all that may exceed the budget.
    assert waiting == 0
    assert most <= 20


def test_an_exception_comes_when_its_turn_comes(threads: ThreadPoolExecutor) -> None:
    results = read_ahead(threads, lambda number: 6 // number, [3, 2, 0, 1], depth=4)
    assert [next(results)[1], next(results)[1]] == [2, 3]
    with pytest.raises(ZeroDivisionError):
        next(results)
