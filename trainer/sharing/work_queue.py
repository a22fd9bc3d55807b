"""Work that the processes of a run share: whoever is free takes the next piece, and the longest come first.

    with WorkQueue([3.0, 1.0], accelerator) as queue:                 # expected costs of two pieces
        results = [(index, f"piece {index}") for index in queue]      # each index on one process alone
    everything = queue.gathered(results)                              # on all processes, in the order of the pieces

Who does a piece varies from run to run, so what comes out must depend on the piece alone. Work whose place must not vary, as
the pairs of a training step, is divided ahead by `even_shares`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, TypeVar

from accelerate.utils import gather_object

from trainer.sharing.shared_store import OtherProcessFailedError, SharedStore

if TYPE_CHECKING:
    from accelerate import Accelerator

Result = TypeVar("Result")
_TAKEN, _DONE, _CLOSED, _END = "taken", "done", "closed", "end"


class WorkQueue:
    """A queue of pieces of work, made by every process at the same point.

    Attributes:
        upcoming: the piece that this process does after the one in hand if all are equally fast, a guess by which its files
            can be read ahead; None for none. Nobody owns it: a piece that takes long must hold up no other.
        complete: after the `with` block, whether all pieces were done; the same on every process.
    """

    def __init__(
        self,
        costs: Sequence[float],
        accelerator: Accelerator,
        sizes: Sequence[int] | None = None,
        on_progress: Callable[[int, int], None] = lambda *_: None,
    ) -> None:
        """Make a queue; the main process settles the order.

        Args:
            costs: how long each piece is expected to take, in any unit.
            sizes: what each piece counts for in `on_progress`; by default 1.
            on_progress: called with what is done by all processes, and the total.
        """
        self._sizes = [1] * len(costs) if sizes is None else list(sizes)
        self._on_progress, self._told = on_progress, 0
        self._store = SharedStore(accelerator)
        self._order = self._store.from_main("order", lambda: longest_first(costs))
        self._processes = accelerator.num_processes
        self.upcoming: int | None = None
        self.complete = False

    def __enter__(self) -> WorkQueue:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if kind is not None:
            self.close()
            self._store.fail()
            return
        self._store.meet(_END, self._tell)
        self._tell()
        self.complete = self._store.add(_DONE, 0) == sum(self._sizes)

    def __iter__(self) -> Iterator[int]:
        """Yield the pieces that this process does, the longest first, until none is left or the queue is closed."""
        while not self._store.add(_CLOSED, 0):
            place = self._store.add(_TAKEN) - 1
            if place >= len(self._order):
                return
            following = place + self._processes
            self.upcoming = self._order[following] if following < len(self._order) else None
            index = self._order[place]
            yield index
            self._store.add(_DONE, self._sizes[index])
            self._tell()

    def close(self) -> None:
        """Let no process take another piece; those in hand are finished."""
        self._store.add(_CLOSED)

    def gathered(self, results: Sequence[tuple[int, Result]]) -> list[Result]:
        """Gather the results of all processes, in the order of the work; every process takes part.

        Args:
            results: index and result of each piece that this process did.
        """
        everything: list[tuple[int, Result]] = gather_object(list(results))
        return [result for _, result in sorted(everything, key=lambda entry: entry[0])]

    def _tell(self) -> None:
        done = self._store.add(_DONE, 0)
        if done > self._told:
            self._told = done
            self._on_progress(done, sum(self._sizes))


def longest_first(costs: Sequence[float]) -> list[int]:
    """Return the indices of the costs, the largest first, equal ones in their order."""
    return sorted(range(len(costs)), key=lambda index: -costs[index])


def even_shares(costs: Sequence[float], processes: int) -> list[list[int]]:
    """Divide work among processes ahead: equal in number up to one, and in cost as far as that allows.

    The longest piece goes to the process with the least work so far that has room for one (longest processing time first).

    Returns:
        For each process the indices of its pieces, in their order; the shares follow from the costs alone.
    """
    shares: list[list[int]] = [[] for _ in range(processes)]
    loads = [0.0] * processes
    least, larger = divmod(len(costs), processes)
    for index in longest_first(costs):
        full = sum(len(share) > least for share in shares) >= larger
        room = [rank for rank in range(processes) if len(shares[rank]) < least + (not full)]
        rank = min(room, key=lambda each: (loads[each], len(shares[each]), each))
        shares[rank].append(index)
        loads[rank] += costs[index]
    return [sorted(share) for share in shares]


def from_main(accelerator: Accelerator, make: Callable[[], Result]) -> Result:
    """Return what `make` returns on the main process, on all of them; every process takes part."""
    return SharedStore(accelerator).from_main("value", make)


__all__ = ["OtherProcessFailedError", "WorkQueue", "even_shares", "from_main", "longest_first"]
