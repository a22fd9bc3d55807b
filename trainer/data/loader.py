"""Loader of a step's pairs for one of several processes: reads them, and leaves out and names the bad ones.

    data = PairLoader(pairs, reader, accelerator, pairs_per_step=32, micro_batch_pairs=1, seed=0)
    for batch in data.micro_batches(step, read):
        batch.pairs, batch.read, batch.weight

The pairs of a step are divided by their expected cost, equally in number, so who has a pair follows from the pairs alone.
Every process gets the same number of micro-batches, as collectives need it: one that has fewer repeats one with weight 0.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Generic, TypeVar

import torch
from accelerate.utils import gather_object

from storage.atomic import write_atomic
from trainer.data.frames import BadPairError, PairReader
from trainer.data.pairs import TrainingPair, expected_cost, step_order
from trainer.sharing.work_queue import even_shares, from_main

if TYPE_CHECKING:
    from accelerate import Accelerator

log = logging.getLogger(__name__)

Read = TypeVar("Read")


@dataclass(frozen=True)
class MicroBatch(Generic[Read]):
    """Some pairs of a step.

    Attributes:
        read: the result of reading each pair.
        weight: 1, or 0 for a repeated one, which only keeps this process in step.
    """

    pairs: tuple[TrainingPair, ...]
    read: tuple[Read, ...]
    weight: float

    def items(self) -> Iterator[tuple[TrainingPair, Read]]:
        """Yield each pair with what was read of it."""
        yield from zip(self.pairs, self.read, strict=True)


class PairLoader(Generic[Read]):
    """Reads the pairs of each step on this process.

    Attributes:
        bad: pairs that can't be used: identity -> why.
    """

    def __init__(
        self,
        pairs: Sequence[TrainingPair],
        reader: PairReader,
        accelerator: Accelerator,
        *,
        pairs_per_step: int,
        micro_batch_pairs: int,
        seed: int,
        notes: Path | None = None,
    ) -> None:
        """Make a loader.

        Args:
            notes: a folder that keeps the reasons of pairs left out, so that a resumed run names them too.

        Raises:
            ValueError: there are no pairs, or fewer in a step than processes.
        """
        if not pairs:
            raise ValueError("there are no pairs to train on; label some, or give a table with --csv")
        if pairs_per_step < accelerator.num_processes:
            raise ValueError(f"{accelerator.num_processes} processes need as many pairs_per_step, not {pairs_per_step}")
        self.pairs = tuple(pairs)
        self.reader = reader
        self.bad: dict[str, str] = {}
        self._accelerator = accelerator
        self._notes = notes
        self._per_step, self._micro_batch_pairs, self._seed = pairs_per_step, micro_batch_pairs, seed
        # Settled by one process: files may look different from another machine.
        self._costs = from_main(accelerator, lambda: {pair.identity: expected_cost(pair) for pair in self.pairs})

    def micro_batches(self, step: int, read: Callable[[TrainingPair], Read]) -> list[MicroBatch[Read]]:
        """Read the micro-batches of this process; an empty list where no process could read a pair of this step.

        Args:
            read: reads a pair; where it raises `BadPairError`, the pair is left out.

        Raises:
            ValueError: not one of all pairs can be used.
        """
        order = step_order(self.pairs, step, self._per_step, self._seed)
        mine = self._mine(order)
        good = [(pair, content) for pair in mine if (content := self._try(pair, read)) is not None]
        self.reader.expect(self._mine(step_order(self.pairs, step + 1, self._per_step, self._seed)))
        size = self._micro_batch_pairs
        batches = [
            MicroBatch(tuple(pair for pair, _ in chunk), tuple(content for _, content in chunk), 1.0)
            for chunk in (good[first : first + size] for first in range(0, len(good), size))
        ]
        most = max(gather_object([len(batches)]))
        if len(batches) < most:
            spare = batches[-1] if batches else self._borrowed(order, read)
            batches += [MicroBatch(spare.pairs, spare.read, 0.0)] * (most - len(batches))
        if most == 0 and len(set(gather_object(list(self.bad)))) == len(self.pairs):
            raise ValueError(f"none of the {len(self.pairs)} pairs can be used; such as {self.problems()[0]}")
        return batches

    def total(self, *values: float) -> list[float]:
        """Sum numbers over all processes."""
        local = torch.tensor(values, dtype=torch.float64, device=self._accelerator.device)
        totals: list[float] = self._accelerator.reduce(local, "sum").tolist()
        return totals

    def problems(self) -> list[str]:
        """List why pairs were left out, on all processes, before an interruption as well."""
        reasons = set(gather_object(list(self.bad.values())))
        for path in self._notes.glob("left-out-*.json") if self._notes is not None else ():
            reasons |= _noted(path)
        return sorted(reasons)

    def _mine(self, order: Sequence[TrainingPair]) -> Sequence[TrainingPair]:
        if self._accelerator.num_processes == 1:
            return order
        shares = even_shares([self._costs[pair.identity] for pair in order], self._accelerator.num_processes)
        return [order[index] for index in shares[self._accelerator.process_index]]

    def _try(self, pair: TrainingPair, read: Callable[[TrainingPair], Read]) -> Read | None:
        if pair.identity in self.bad:
            return None
        try:
            return read(pair)
        except BadPairError as error:
            log.warning("left out: %s", error)
            self._leave_out(pair, str(error))
            return None

    def _leave_out(self, pair: TrainingPair, why: str) -> None:
        self.bad[pair.identity] = why
        if self._notes is not None:
            path = self._notes / f"left-out-{self._accelerator.process_index:05d}.json"
            write_atomic(path, json.dumps(sorted({why, *_noted(path)}), indent=1))

    def _borrowed(self, order: Sequence[TrainingPair], read: Callable[[TrainingPair], Read]) -> MicroBatch[Read]:
        """Read a pair of another process, since all of this one's are bad."""
        pair, content = next((pair, content) for pair in order if (content := self._try(pair, read)) is not None)
        return MicroBatch((pair,), (content,), 0.0)


def _noted(path: Path) -> set[str]:
    return set(json.loads(path.read_text("utf-8"))) if path.exists() else set()
