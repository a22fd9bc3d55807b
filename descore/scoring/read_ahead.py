"""Work of threads that runs ahead of whoever takes its results, in order and within bounds.

from concurrent.futures import ThreadPoolExecutor

with ThreadPoolExecutor() as threads:
    for number, text in read_ahead(threads, str, [1, 2, 3], depth=2):
        print(number, text)
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from concurrent.futures import Executor, Future

Item = TypeVar("Item")
Result = TypeVar("Result")


def read_ahead(
    threads: Executor,
    work: Callable[[Item], Result],
    items: Iterable[Item],
    depth: int,
    size: Callable[[Result], int] = lambda _: 0,
    budget: int = 0,
) -> Iterator[tuple[Item, Result]]:
    """Yield each item with its result, in order; an exception of the work is raised when its item's turn comes.

    Args:
        threads: what runs the work.
        work: called with each item.
        items: may wait themselves.
        depth: items at most that are worked on or wait for being taken.
        size: bytes of a result.
        budget: bytes at most that wait, where `size` is given; items under work count as the largest result so far. One
            item is always worked on, however large.
    """
    pending: deque[tuple[Item, Future[Result]]] = deque()
    largest = 0

    def is_full() -> bool:
        nonlocal largest
        done = [size(future.result()) for _, future in pending if future.done() and future.exception() is None]
        largest = max([largest, *done])
        waiting = sum(done) + largest * (len(pending) - len(done))
        return len(pending) >= depth or (budget > 0 and waiting + largest > budget)

    try:
        for item in items:
            while pending and is_full():
                first, future = pending.popleft()
                yield first, future.result()
            pending.append((item, threads.submit(work, item)))
        while pending:
            first, future = pending.popleft()
            yield first, future.result()
    finally:
        for _, future in pending:
            future.cancel()
