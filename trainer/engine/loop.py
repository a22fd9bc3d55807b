"""The training loop of both stages: steps, gradients over micro-batches and processes, checkpoints, logs, stop signals.

    result = train(stage, config, run_folder, accelerator, stop)

A stage prepares the micro-batches of a step and computes their losses; the loop does the rest. A step is
    prepare     this process's micro-batches (rollouts are sampled here)
    gradients   over all micro-batches of all processes; a number that is not finite costs the step its update
    update      of the weights; a step that did not fit into memory is done again in smaller parts
    log, and a checkpoint every `save_every` steps
Killed at any moment, it goes on from the newest whole checkpoint, on a CPU bit for bit as if nothing had happened.
"""

from __future__ import annotations

import hashlib
import logging
import math
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import torch
from accelerate import Accelerator, DistributedType
from torch import nn

from trainer.engine.checkpoints import CheckpointNotSavedError, RunCheckpoints
from trainer.engine.gradients import mean_gradients
from trainer.engine.memory import Guard, StepOutOfMemoryError, Together, TokenBudget, make_room
from trainer.engine.metrics_log import RunLog, memory_gb
from trainer.engine.optim import build_optimizers, rate_share, set_rates
from trainer.engine.train_state import Progress, is_sharded, load_state, random_states, save_state, seed_everything

if TYPE_CHECKING:
    from trainer.config import OptimConfig, TrainConfig
    from trainer.engine.precision import Precision
    from trainer.engine.stop_signals import StopSignals

log = logging.getLogger(__name__)

SKIPPED_IN_ROW = 5
LARGEST = "largest_"  # begins the names of figures of which the largest counts, and not the sum
Result = TypeVar("Result")


class TrainingFailedError(RuntimeError):
    """The run can't go on; the message says why and what to do. The last good checkpoint is kept."""


@dataclass
class PreparedStep:
    """The work of one step.

    Attributes:
        micro_batches: of this process, as many as on every other one.
        sums: figures that are known before the losses.
    """

    micro_batches: Sequence[Any]
    sums: dict[str, float] = field(default_factory=dict)


class Stage(Protocol):
    """A stage, as the loop sees it."""

    name: str
    steps: int
    updates_per_step: int
    model: nn.Module
    objective: nn.Module
    optim: OptimConfig
    precision: Precision
    budgets: Sequence[TokenBudget]

    def prepare(self, step: int, together: Guard) -> PreparedStep:
        """Prepare the micro-batches of a step; what takes much memory is done by `together`."""

    def backward(self, work: Any) -> dict[str, torch.Tensor]:
        """Add the gradients of one micro-batch's `loss` to those of the weights, and return its sums for the log.

        It goes forward in parts as the budgets have it, and waits for no other process.
        """

    def loss(self, objective: nn.Module, work: Any) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """Compute the loss of one micro-batch and sums for the log, which always have the same names.

        Of a figure whose name begins with `LARGEST` the largest is kept in the place of the sum.

        The losses of all micro-batches of all processes, averaged over the processes, are the loss of the step.
        """

    def figures(self, sums: Mapping[str, float]) -> dict[str, float | None]:
        """Turn the sums over all micro-batches and processes into figures for the log."""


@dataclass(frozen=True)
class RunResult:
    """The end of a run.

    Attributes:
        steps: steps done.
        skipped: steps without an update, because a number was not finite.
        exit_code: 0 when all steps are done, 130 or 143 after a signal.
        seconds: of this process.
        figures: of the last step.
    """

    steps: int
    skipped: int
    exit_code: int
    seconds: float
    figures: dict[str, Any]


def train(
    stage: Stage,
    config: TrainConfig,
    run_folder: Path,
    accelerator: Accelerator,
    stop: StopSignals,
    after_step: Callable[[int], dict[str, float]] | None = None,
    is_over: Callable[[], bool] = lambda: False,
) -> RunResult:
    """Train the stage's model in place, from the newest whole checkpoint of `run_folder` on if there is one.

    Args:
        after_step: called after each step with its number, for further figures (none where they are not due).
        is_over: asked before each step; True ends the stage as if all steps were done.

    Raises:
        TrainingFailedError: numbers were not finite several times in a row, a step does not fit into memory, or the disk
            is full. The last good checkpoint is kept, from which the next call goes on.
    """
    began = time.monotonic()
    loop = _Loop(stage, config, run_folder, accelerator, stop)
    first = loop.progress.steps
    with RunLog(run_folder, accelerator, stage.name, first, stage.steps, config.log_every) as metrics:
        for step in range(first, stage.steps):
            if is_over():
                break
            figures = loop.step(step)
            if after_step is not None:
                figures |= after_step(step)
            metrics.write(step, figures)
            if loop.stopping or (step + 1) % config.save_every == 0 or step + 1 == stage.steps or is_over():
                loop.save()
            if loop.stopping:
                break
    done = loop.progress
    code = stop.exit_code if stop.agreed(accelerator) and done.steps < stage.steps else 0
    return RunResult(done.steps, done.skipped, code, time.monotonic() - began, loop.last)


class _Loop:
    """The state of one run."""

    def __init__(
        self, stage: Stage, config: TrainConfig, run_folder: Path, accelerator: Accelerator, stop: StopSignals
    ) -> None:
        self.stage, self.accelerator, self.stop = stage, accelerator, stop
        self.stopping = False
        self.last: dict[str, Any] = {}
        self._run_folder = run_folder
        self._checkpoints = RunCheckpoints(run_folder, config.keep)
        optimizers = build_optimizers(stage.model, stage.optim)
        if accelerator.distributed_type == DistributedType.DEEPSPEED and len(optimizers) > 1:
            raise ValueError("DeepSpeed takes one optimizer; set optim.optimizer to adamw, or run with DDP")
        self._sharded = is_sharded(accelerator)
        if self._sharded:
            self._objective, *self._optimizers = accelerator.prepare(stage.objective, *optimizers)
        else:  # gradients are summed over processes after the last backward, so nothing needs to wrap the model
            self._objective, self._optimizers = stage.objective, [accelerator.prepare(each) for each in optimizers]
        self._weights = [parameter for parameter in self._objective.parameters() if parameter.requires_grad]
        self._together = Together(accelerator, catches=not self._sharded)
        seed_everything(_stable_seed(config.seed, stage.name, accelerator.process_index))
        newest = self._checkpoints.newest()
        if newest is None:
            self.progress = Progress()
        else:
            self.progress = load_state(newest.folder, accelerator, stage.model, self._optimizers)
            for budget in stage.budgets:
                budget.restore(self.progress.budgets.get(budget.name))
        accelerator.wait_for_everyone()

    def step(self, step: int) -> dict[str, Any]:
        """Do one step and return its figures."""
        started = time.monotonic()
        share = rate_share(step, self.stage.steps, self.stage.optim)
        set_rates(self._optimizers, share)
        self._objective.train()
        prepared = self._with_room(lambda: self.stage.prepare(step, self._together))
        sums, norm = dict(prepared.sums), 0.0
        # Where all of a step's videos are bad there is nothing to do, on every process.
        if not prepared.micro_batches:
            sums, _ = self._agree(sums, finite=True)
        for update in range(self.stage.updates_per_step if prepared.micro_batches else 0):
            work = prepared if update == 0 else PreparedStep(prepared.micro_batches)
            update_sums, norm = self._with_room(partial(self._update, work))
            sums |= update_sums
        self.progress.steps = step + 1
        seconds = time.monotonic() - started
        self.last = {
            **self.stage.figures(sums),
            "grad_norm": norm,
            "lr": share * self.stage.optim.lr,
            "skipped": self.progress.skipped,
            "tokens_per_second": sums.get("tokens", 0.0) / seconds,
            "seconds": seconds,
            "memory_gb": memory_gb(self.accelerator.device),
            "out_of_memory": self.progress.out_of_memory,
            **{budget.name: budget.tokens for budget in self.stage.budgets},
        }
        return dict(self.last)

    def save(self) -> None:
        """Write a checkpoint; every process takes part.

        Raises:
            TrainingFailedError: on all processes, where the disk is full.
        """
        self.progress.budgets = {budget.name: budget.kept() for budget in self.stage.budgets}
        accelerator, states = self.accelerator, random_states()
        pieces = self._run_folder / ".sharded.partial"
        if self._sharded:
            if accelerator.is_main_process:  # what a kill in the middle of this left behind
                shutil.rmtree(pieces, ignore_errors=True)
            accelerator.wait_for_everyone()
            accelerator.save_state(str(pieces))
        accelerator.wait_for_everyone()

        def write(folder: Path) -> None:
            if pieces.exists():
                shutil.move(pieces, folder / "sharded")
            save_state(folder, accelerator, self.stage.model, self._optimizers, self.progress, states)

        problem = ""
        if accelerator.is_main_process:
            try:
                self._checkpoints.save(self.progress.steps, write)
            except CheckpointNotSavedError as error:
                problem = str(error)
        failed = accelerator.reduce(torch.tensor(float(bool(problem)), device=accelerator.device), "sum")
        if failed > 0:
            raise TrainingFailedError(problem or "the main process could not save the run's checkpoint")

    def _update(self, prepared: PreparedStep) -> tuple[dict[str, float], float]:
        """Do one update of the weights; return the summed figures and the norm of the gradients."""
        sums, finite = (self._sharded_gradients if self._sharded else self._gradients)(prepared)
        norm = self._move() if finite else math.nan
        self._count(math.isfinite(norm))
        return sums, norm

    def _gradients(self, prepared: PreparedStep) -> tuple[dict[str, float], bool]:
        """Compute the gradients of all micro-batches of all processes; return the summed figures, and whether all is finite.

        Raises:
            StepOutOfMemoryError: a process ran out of memory; there are no gradients then.
        """
        sums = dict(prepared.sums)

        def local() -> None:
            for work in prepared.micro_batches:
                with self.stage.precision.step():
                    parts = self.stage.backward(work)
                for name, value in parts.items():
                    sums[name] = combined(name, sums.get(name, 0.0), float(value))

        try:
            self._together(local)
        except StepOutOfMemoryError:
            for optimizer in self._optimizers:
                optimizer.zero_grad()
            raise
        sums, finite = self._agree(sums, math.isfinite(sums["loss"]))
        if finite:
            mean_gradients(self._weights, self.accelerator)
        return sums, finite

    def _sharded_gradients(self, prepared: PreparedStep) -> tuple[dict[str, float], bool]:
        """`_gradients` where weights lie in pieces over the processes, which all go forward and backward together."""
        sums, finite = dict(prepared.sums), True
        for number, work in enumerate(prepared.micro_batches):
            last = number == len(prepared.micro_batches) - 1
            self.accelerator.sync_gradients = last
            with ExitStack() as around:
                around.enter_context(self.stage.precision.step())
                around.enter_context(nullcontext() if last else self.accelerator.no_sync(self._objective))
                with self.stage.precision.autocast():
                    loss, parts = self.stage.loss(self._objective, work)
                for name, value in parts.items():
                    sums[name] = combined(name, sums.get(name, 0.0), float(value))
                finite = finite and bool(torch.isfinite(loss))
                if last:
                    sums, finite = self._agree(sums, finite)
                # A pass before the last goes backward whatever its loss: where weights lie in pieces, the other processes
                # wait for this one in it.
                if finite or not last:
                    self.accelerator.backward(loss)
        return sums, finite

    def _with_room(self, work: Callable[[], Result]) -> Result:
        """Do a part of a step, again with halved budgets as long as it does not fit into memory.

        Raises:
            TrainingFailedError: it does not fit however small its parts are.
        """
        while True:
            try:
                return work()
            except StepOutOfMemoryError as error:
                self.progress.out_of_memory += 1
                try:
                    make_room(self.stage.budgets, error)
                except StepOutOfMemoryError as last:
                    raise TrainingFailedError(
                        f"there is not enough memory for this step, however small its parts are ({last}); the last good "
                        "checkpoint is kept. Free memory, allow shorter prompts, or take a smaller model"
                    ) from last

    def _move(self) -> float:
        """Clip the gradients and step; without the step, where they are not finite."""
        norm = self.accelerator.clip_grad_norm_(self._weights, self.stage.optim.max_grad_norm)
        size = 0.0 if norm is None else float(norm)
        if math.isfinite(size):
            for optimizer in self._optimizers:
                optimizer.step()
        return size

    def _count(self, finite: bool) -> None:
        for optimizer in self._optimizers:
            optimizer.zero_grad()
        if finite:
            self.progress.skipped_in_row = 0
            return
        self.progress.skipped += 1
        self.progress.skipped_in_row += 1
        log.warning("a loss or gradient is not finite; this update is left out")
        if self.progress.skipped_in_row >= SKIPPED_IN_ROW:
            raise TrainingFailedError(
                f"{SKIPPED_IN_ROW} updates in a row gave numbers that are not finite; the last good checkpoint is kept. "
                "Lower the learning rates, or compute with model.precision=fp32"
            )

    def _agree(self, sums: dict[str, float], finite: bool) -> tuple[dict[str, float], bool]:
        """Sum over all processes; learn whether all their numbers are finite, and whether one of them is to stop."""
        names = sorted(sums)
        values = [*(sums[name] for name in names), float(not finite), float(self.stop.received)]
        local = torch.tensor(values, dtype=torch.float64, device=self.accelerator.device)
        *whole, bad, stop = self.accelerator.reduce(local, "sum").tolist()
        self.stopping |= stop > 0
        agreed = dict(zip(names, whole, strict=True))
        if largest := [name for name in names if name.startswith(LARGEST)]:
            own = torch.tensor([[sums[name] for name in largest]], dtype=torch.float64, device=self.accelerator.device)
            agreed |= dict(zip(largest, self.accelerator.gather(own).amax(0).tolist(), strict=True))
        return agreed, bad == 0


def combined(name: str, one: float, other: float) -> float:
    """Put a figure of two parts of a step together: the sum, and the larger one where its name says so."""
    return max(one, other) if name.startswith(LARGEST) else one + other


def _stable_seed(*parts: object) -> int:
    digest = hashlib.sha256("/".join(map(str, parts)).encode()).digest()
    return int.from_bytes(digest[:4], "little")
