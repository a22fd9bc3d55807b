"""A step that does not fit into memory is done again in smaller parts, on all processes, and the run ends as ever."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest import mock

import pytest
import torch
from accelerate import Accelerator
from torch import multiprocessing

from descore.modeling.model import DeScoreModel
from tests.helpers.tiny_runs import largest_difference, tiny_config, tiny_pairs, tiny_run
from trainer.engine.loop import TrainingFailedError
from trainer.engine.memory import StepOutOfMemoryError, Together, TokenBudget, is_out_of_memory, make_room
from trainer.engine.metrics_log import read_metrics
from trainer.rollouts.in_chunks import _ChunkWork

if TYPE_CHECKING:
    from trainer.config import TrainConfig
    from trainer.paradigm import StageName


def config_of(stage: StageName, steps: int, tokens: int) -> TrainConfig:
    config = tiny_config()
    name = "cold_start" if stage == "cold-start" else "dual_rl"
    return replace(config, **{name: replace(getattr(config, name), steps=steps, forward_tokens=tokens)}, anchors=0)


@contextmanager
def memory_for(slots: int) -> Iterator[list[int]]:
    """Fail as a GPU does where more than `slots` slots of rollouts, or of pairs, go forward at a time; count that."""
    failures = [0]
    rollouts, pairs = _ChunkWork.forward, DeScoreModel.forward

    def check(asked: int) -> None:
        if asked > slots:
            failures[0] += 1
            raise torch.OutOfMemoryError(f"CUDA out of memory. Tried to allocate {asked} slots")

    def rollout_forward(self: Any, start: int, end: int, *rest: Any, **more: Any) -> Any:
        check(len(self._rows) * (end - start))
        return rollouts(self, start, end, *rest, **more)

    def pair_forward(self: Any, inputs: Any, *rest: Any) -> Any:
        check(inputs["input_ids"].numel())
        return pairs(self, inputs, *rest)

    with mock.patch.object(_ChunkWork, "forward", rollout_forward), mock.patch.object(DeScoreModel, "forward", pair_forward):
        yield failures


@pytest.mark.training
@pytest.mark.parametrize(("stage", "slots"), [("dual-rl", 100), ("cold-start", 400)])
def test_a_step_that_did_not_fit_is_done_again_in_smaller_parts(stage: StageName, slots: int, tmp_path: Path) -> None:
    _, expected = tiny_run(stage, config_of(stage, 3, 4096), tiny_pairs(4), tmp_path / "roomy")
    with memory_for(slots) as failures:
        result, found = tiny_run(stage, config_of(stage, 3, 4096), tiny_pairs(4), tmp_path / "tight")
    rows = read_metrics(tmp_path / "tight" / "run")
    assert result.steps == 3
    assert rows[0]["out_of_memory"] == failures[0] > 0, "later steps know the budget"
    assert rows[0]["forward_tokens"] == rows[2]["forward_tokens"] == 4096 >> failures[0]
    assert largest_difference(expected, found) < 2e-4
    for name in ("loss", "grad_norm", "accuracy"):
        roomy = [row[name] for row in read_metrics(tmp_path / "roomy" / "run")]
        assert [row[name] for row in rows] == pytest.approx(roomy, rel=1e-3, abs=1e-6), name


@pytest.mark.training
def test_where_no_part_is_small_enough_the_run_ends_with_a_sentence(tmp_path: Path) -> None:
    with memory_for(1), pytest.raises(TrainingFailedError, match="not enough memory for this step, however small"):
        tiny_run("dual-rl", config_of("dual-rl", 1, 256), tiny_pairs(2), tmp_path)


@pytest.mark.training
def test_a_resumed_run_goes_on_with_the_budget_that_fitted(tmp_path: Path) -> None:
    config = config_of("dual-rl", 3, 4096)
    with memory_for(100) as before:
        tiny_run("dual-rl", config, tiny_pairs(2), tmp_path, stop_after=1)
    with memory_for(100) as after:
        tiny_run("dual-rl", config, tiny_pairs(2), tmp_path)
    assert before[0] > 0
    assert after[0] == 0
    assert read_metrics(tmp_path / "run")[-1]["out_of_memory"] == before[0]


def _rank(rank: int, folder: Path, port: int) -> None:
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2"}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "ACCELERATE_USE_CPU": "true"}
    torch.set_num_threads(1)
    config = config_of("dual-rl", 2, 4096)
    config = replace(config, dual_rl=replace(config.dual_rl, pairs_per_step=8))
    with memory_for(100 if rank == 1 else 10**9):
        _, weights = tiny_run("dual-rl", config, tiny_pairs(8), folder)
    torch.save(weights, folder / f"{rank}.pt")
    torch.distributed.destroy_process_group()


@pytest.mark.training
@pytest.mark.endurance  # two processes that load torch
def test_all_processes_halve_where_one_ran_out(tmp_path: Path) -> None:
    multiprocessing.spawn(_rank, (tmp_path, 20_000 + (os.getpid() + 7) % 20_000), nprocs=2)
    one, other = (torch.load(tmp_path / f"{rank}.pt") for rank in (0, 1))
    assert largest_difference(one, other) == 0
    assert read_metrics(tmp_path / "run")[0]["out_of_memory"] > 0


def test_budgets_halve_down_to_a_bound_and_are_kept() -> None:
    budget = TokenBudget("forward_tokens", 300)
    error = StepOutOfMemoryError("too much")
    make_room([budget], error)
    make_room([budget], error)
    assert budget.tokens == 75
    with pytest.raises(StepOutOfMemoryError, match="too much"):
        make_room([budget], error)
    again, other = TokenBudget("forward_tokens", 300), TokenBudget("forward_tokens", 600)
    again.restore(budget.kept())
    other.restore(budget.kept())
    assert (again.tokens, other.tokens) == (75, 600), "a changed setting counts"


@pytest.mark.parametrize(
    ("error", "is_memory"),
    [
        (torch.OutOfMemoryError("CUDA out of memory."), True),
        (RuntimeError("[enforce fail at alloc_cpu.cpp:121] . DefaultCPUAllocator: can't allocate memory"), True),
        (MemoryError(), True),
        (RuntimeError("shapes cannot be multiplied"), False),
        (ValueError("no pairs"), False),
    ],
)
def test_failed_allocations_are_told_from_other_errors(error: Exception, is_memory: bool) -> None:
    assert is_out_of_memory(error) == is_memory
    together = Together(Accelerator(cpu=True))

    def work() -> None:
        raise error

    with pytest.raises(StepOutOfMemoryError if is_memory else type(error)):
        together(work)
