"""Memory of a step: budgets of tokens, halved on all processes together where one of them ran out.

    budget, together = TokenBudget("forward_tokens", 16384), Together(accelerator)
    tokens = together(lambda: budget.tokens)                # in the place of a forward and backward under the budget

Where that raises `StepOutOfMemoryError`, `make_room([budget], error)` halves the budget for another attempt.
How much goes forward at a time changes no gradient beyond rounding, so a step that did not fit is done again in smaller
parts instead of ending the run.
"""

from __future__ import annotations

import gc
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from accelerate.utils.memory import clear_device_cache, should_reduce_batch_size

if TYPE_CHECKING:
    from accelerate import Accelerator

log = logging.getLogger(__name__)

SMALLEST = 64  # tokens; below that more parts save nothing
_SKIPPABLE = (RuntimeError, MemoryError)  # torch.OutOfMemoryError is a RuntimeError
Result = TypeVar("Result")
Guard = Callable[[Callable[[], Any]], Any]  # does work and returns its result, such as `Together`


def unguarded(work: Callable[[], Result]) -> Result:
    """Do work as if it were called directly."""
    return work()


class StepOutOfMemoryError(RuntimeError):
    """A process ran out of memory in a step; nothing was updated."""


@dataclass
class TokenBudget:
    """How many tokens go through a part of a step at a time.

    Attributes:
        name: of the setting, as the log and messages call it.
        configured: as the settings have it.
        tokens: by now, after halving.
    """

    name: str
    configured: int
    tokens: int = 0

    def __post_init__(self) -> None:
        self.tokens = self.tokens or self.configured

    def halve(self) -> bool:
        """Halve the tokens; False where they are few enough for more parts to save nothing."""
        if self.tokens // 2 < SMALLEST:
            return False
        self.tokens //= 2
        return True

    def kept(self) -> tuple[int, int]:
        """Return what a checkpoint of the run keeps."""
        return self.configured, self.tokens

    def restore(self, kept: Sequence[int] | None) -> None:
        """Take up the tokens of a checkpoint, unless the setting was changed since."""
        if kept is not None and kept[0] == self.configured:
            self.tokens = int(kept[1])


class Together:
    """Runs local work of a step on every process; where one of them runs out of memory, all of them stop there."""

    def __init__(self, accelerator: Accelerator, catches: bool = True) -> None:
        """Make one.

        Args:
            catches: False where work itself waits for the other processes, as with weights in pieces: whoever is lost there
                can't be waited for, and the error ends the run.
        """
        self._accelerator, self._catches = accelerator, catches

    def __call__(self, work: Callable[[], Result]) -> Result:
        """Do the work, in which no process may wait for another.

        Raises:
            StepOutOfMemoryError: on all processes, where it was too much for one.
        """
        if not self._catches:
            return work()
        result: list[Result] = []
        problem: str | None = None
        try:
            result.append(work())
        except _SKIPPABLE as error:
            if not is_out_of_memory(error):
                raise
            problem = str(error).strip().split("\n")[0]
        # Out of the handler, whose traceback holds on to the tensors.
        if self._is_anywhere(problem is not None):
            result.clear()
            gc.collect()
            clear_device_cache()
            raise StepOutOfMemoryError(problem or "another process ran out of memory")
        return result[0]

    def _is_anywhere(self, failed: bool) -> bool:
        if self._accelerator.num_processes == 1:
            return failed
        flag = torch.tensor(float(failed), device=self._accelerator.device)
        return bool(self._accelerator.reduce(flag, "sum") > 0)


def is_out_of_memory(error: BaseException) -> bool:
    """Tell an allocation that failed, on a GPU or on the CPU, from other errors."""
    return isinstance(error, (MemoryError, torch.OutOfMemoryError)) or (
        isinstance(error, Exception) and should_reduce_batch_size(error)
    )


def make_room(budgets: Sequence[TokenBudget], error: StepOutOfMemoryError) -> None:
    """Halve the budgets, so that the step can be done again.

    Raises:
        StepOutOfMemoryError: the same error, where none of them can be halved.
    """
    if not [budget for budget in budgets if budget.halve()]:
        raise error
    now = ", ".join(f"{budget.name} {budget.tokens}" for budget in budgets)
    log.warning("out of memory (%s); the step is done again with %s", error, now)
