"""The loop that both stages share: resumed as if never stopped, right averages, bad numbers left out, signals."""

from __future__ import annotations

import os
import signal
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import torch
import torch.multiprocessing as multiprocessing
from accelerate import Accelerator

from tests.helpers.tiny_runs import largest_difference, tiny_config, tiny_pairs, tiny_run, tiny_stage
from trainer.config import OptimConfig, TrainConfig
from trainer.engine.loop import TrainingFailedError, train
from trainer.engine.metrics_log import read_metrics
from trainer.engine.optim import build_optimizers, rate_share
from trainer.engine.stop_signals import StopSignals

if TYPE_CHECKING:
    from trainer.paradigm import StageName

pytestmark = pytest.mark.training

STAGES: tuple[StageName, ...] = ("cold-start", "dual-rl")


def steps(config: TrainConfig, count: int, **changes: int) -> TrainConfig:
    return replace(
        config,
        cold_start=replace(config.cold_start, steps=count, **changes),
        dual_rl=replace(config.dual_rl, steps=count, **changes),
    )


@pytest.mark.parametrize("stage", STAGES)
def test_a_run_stopped_and_resumed_equals_the_straight_one_bit_for_bit(stage: StageName, tmp_path: Path) -> None:
    config, pairs = steps(tiny_config(), 3, pairs_per_step=2, micro_batch_pairs=2), tiny_pairs(4)
    straight, expected = tiny_run(stage, config, pairs, tmp_path / "straight", lora=True)
    first, _ = tiny_run(stage, config, pairs, tmp_path / "stopped", lora=True, stop_after=1)
    assert (first.steps, first.exit_code) == (2, 143)
    torch.manual_seed(99)  # whatever happened in between
    resumed, found = tiny_run(stage, config, pairs, tmp_path / "stopped", lora=True)
    assert (resumed.steps, resumed.exit_code) == (straight.steps, 0) == (3, 0)
    assert all(torch.equal(expected[name], found[name]) for name in expected)
    logs = [read_metrics(tmp_path / name / "run") for name in ("straight", "stopped")]
    assert [row["step"] for row in logs[1]] == [0, 1, 2]
    assert [row["loss"] for row in logs[0]] == [row["loss"] for row in logs[1]]


def test_dropout_is_part_of_what_the_resumed_run_repeats(tmp_path: Path) -> None:
    config, pairs = tiny_config(), tiny_pairs(4)
    _, one = tiny_run("cold-start", config, pairs, tmp_path / "one", lora=True)
    _, other = tiny_run("cold-start", replace(config, seed=1), pairs, tmp_path / "other", lora=True)
    assert largest_difference(one, other) > 0


@pytest.mark.parametrize("stage", STAGES)
def test_passes_of_one_pair_give_the_gradients_of_one_pass(stage: StageName, tmp_path: Path) -> None:
    pairs, found = tiny_pairs(4), []
    for per_pass in (1, 4):
        config = steps(tiny_config(), 1, micro_batch_pairs=per_pass)
        one = tiny_stage(stage, config, pairs, tmp_path / "frames", Accelerator(cpu=True))
        prepared = one.prepare(0)
        assert len(prepared.micro_batches) == 4 // per_pass
        for number, work in enumerate(prepared.micro_batches):
            if stage == "dual-rl":  # random thoughts are all equally bad
                count = len(work.batch.advantages)
                work.batch.advantages = torch.linspace(-1, 1, 16)[number * count : (number + 1) * count]
            one.loss(one.objective, work)[0].backward()
        found.append({name: p.grad for name, p in one.model.named_parameters() if p.grad is not None})
    assert found[0].keys() == found[1].keys()
    for name, gradient in found[1].items():
        torch.testing.assert_close(found[0][name], gradient, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("stage", STAGES)
def test_every_trained_weight_changes_and_no_frozen_one(stage: StageName, tmp_path: Path) -> None:
    config = tiny_config()
    accelerator = Accelerator(cpu=True)
    one = tiny_stage(stage, config, tiny_pairs(4), tmp_path / "frames", accelerator)
    before = {name: p.detach().clone() for name, p in one.model.named_parameters()}
    (tmp_path / "run").mkdir()
    train(one, config, tmp_path / "run", accelerator, StopSignals())
    for name, parameter in one.model.named_parameters():
        assert torch.equal(before[name], parameter.detach()) != parameter.requires_grad, name
    assert not any(p.requires_grad for name, p in one.model.named_parameters() if "visual" in name)


def test_a_number_that_is_not_finite_costs_the_step_its_update(tmp_path: Path) -> None:
    config = steps(tiny_config(), 3)
    accelerator = Accelerator(cpu=True)
    stage = tiny_stage("cold-start", config, tiny_pairs(4), tmp_path / "frames", accelerator)
    loss, seen, calls = stage.loss, [], iter(range(9))

    def once_infinite(objective, work):
        seen.append({name: p.detach().clone() for name, p in stage.model.named_parameters()})
        found, sums = loss(objective, work)
        return (found * float("nan"), sums) if next(calls) == 1 else (found, sums)

    stage.loss = once_infinite  # type: ignore[method-assign]
    (tmp_path / "run").mkdir()
    result = train(stage, config, tmp_path / "run", accelerator, StopSignals())
    assert (result.steps, result.skipped) == (3, 1)
    assert largest_difference(seen[0], seen[1]) > 0 == largest_difference(seen[1], seen[2])
    rows = read_metrics(tmp_path / "run")
    assert [row["skipped"] for row in rows] == [0, 1, 1]
    assert rows[1]["grad_norm"] is None


def test_a_gradient_that_is_not_finite_is_caught_as_well_and_five_in_a_row_end_the_run(tmp_path: Path) -> None:
    config = steps(tiny_config(), 9)
    accelerator = Accelerator(cpu=True)
    stage = tiny_stage("cold-start", config, tiny_pairs(4), tmp_path / "frames", accelerator)
    head = stage.model.require_scoring().head.weight
    head.register_hook(lambda gradient: gradient * float("inf"))
    before = {name: p.detach().clone() for name, p in stage.model.named_parameters()}
    (tmp_path / "run").mkdir()
    with pytest.raises(TrainingFailedError, match="last good checkpoint is kept"):
        train(stage, config, tmp_path / "run", accelerator, StopSignals())
    assert largest_difference(before, dict(stage.model.named_parameters())) == 0
    assert (tmp_path / "run" / "LATEST").read_text() == "step-000004\n"


def test_a_loss_that_is_not_finite_in_any_pass_costs_the_whole_update(tmp_path: Path) -> None:
    config = steps(tiny_config(), 1, micro_batch_pairs=1)
    accelerator = Accelerator(cpu=True)
    stage = tiny_stage("cold-start", config, tiny_pairs(4), tmp_path / "frames", accelerator)
    loss, calls = stage.loss, iter(range(4))

    def first_infinite(objective, work):
        found, sums = loss(objective, work)
        return (found * float("inf"), sums) if next(calls) == 0 else (found, sums)

    stage.loss = first_infinite  # type: ignore[method-assign]
    before = {name: p.detach().clone() for name, p in stage.model.named_parameters()}
    (tmp_path / "run").mkdir()
    assert train(stage, config, tmp_path / "run", accelerator, StopSignals()).skipped == 1
    assert largest_difference(before, dict(stage.model.named_parameters())) == 0
    assert all(p.grad is None for p in stage.model.parameters())


@pytest.mark.parametrize(("launched", "copy_after", "second_after"), [(False, 0.05, 0.15), (True, 0.9, 1.1)])
def test_the_first_signal_waits_for_the_step_and_the_second_does_not(
    launched: bool, copy_after: float, second_after: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    if launched:
        monkeypatch.setenv("LOCAL_RANK", "0")
    receiving, sending = os.pipe()
    child = os.fork()
    if child == 0:
        now = 100.0
        monkeypatch.setattr("trainer.engine.stop_signals.time.monotonic", lambda: now)
        with StopSignals() as stop:
            os.kill(os.getpid(), signal.SIGTERM)
            now = 100.0 + copy_after  # the launcher's copy of the same request, or that of `timeout`
            os.kill(os.getpid(), signal.SIGTERM)
            os.write(sending, b"alive" if stop.received and stop.exit_code == 143 else b"wrong")
            now = 100.0 + second_after
            os.kill(os.getpid(), signal.SIGTERM)
        os._exit(0)
    os.close(sending)
    with os.fdopen(receiving) as answer:
        assert answer.read() == "alive"
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status)
    assert os.WTERMSIG(status) == signal.SIGTERM


def test_learning_rates_warm_up_and_fall() -> None:
    def shares(**settings: object) -> list[float]:
        return [rate_share(step, 20, OptimConfig(lr=1, scoring_lr=1, **settings)) for step in range(20)]  # type: ignore[arg-type]

    assert shares(warmup_share=0.0) == [1.0] * 20
    warm = shares(warmup_share=0.2, schedule="linear")
    assert warm[:5] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0])
    assert warm[4:] == sorted(warm[4:], reverse=True)
    assert 0 < warm[-1] < 0.1
    cosine = shares(warmup_share=0.0, schedule="cosine")
    assert cosine[10] == pytest.approx(0.5)


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_query_token_and_head_have_a_rate_of_their_own(optimizer: str, tmp_path: Path) -> None:
    stage = tiny_stage("cold-start", tiny_config(), tiny_pairs(1), tmp_path, Accelerator(cpu=True))
    settings = OptimConfig(lr=1e-3, scoring_lr=7e-3, weight_decay=0.1, optimizer=optimizer)  # type: ignore[arg-type]
    groups = [group for one in build_optimizers(stage.model, settings) for group in one.param_groups]
    scoring = [group for group in groups if group["name"] == "scoring"]
    assert {id(p) for group in scoring for p in group["params"]} == {id(p) for p in stage.model.scoring.parameters()}
    assert {group["lr"] for group in scoring} == {7e-3}
    assert {group["weight_decay"] for group in scoring} == {0.0}
    trained = [p for p in stage.model.parameters() if p.requires_grad]
    assert sorted(id(p) for group in groups for p in group["params"]) == sorted(map(id, trained))


def _two_processes(rank: int, folder: Path, port: int) -> None:
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2"}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "ACCELERATE_USE_CPU": "true"}
    torch.set_num_threads(1)
    for stage in STAGES:
        _, weights = tiny_run(stage, steps(tiny_config(), 2, micro_batch_pairs=1), tiny_pairs(5), folder / stage)
        if rank == 0:
            torch.save(weights, folder / f"{stage}.pt")
    torch.distributed.destroy_process_group()


def test_two_processes_give_the_weights_of_one(tmp_path: Path) -> None:
    port = 20_000 + os.getpid() % 20_000
    multiprocessing.spawn(_two_processes, (tmp_path, port), nprocs=2)
    for stage in STAGES:
        started = tiny_stage(
            stage, tiny_config(), tiny_pairs(5), tmp_path / "frames", Accelerator(cpu=True)
        ).model.state_dict()
        _, expected = tiny_run(stage, steps(tiny_config(), 2), tiny_pairs(5), tmp_path / f"{stage} alone")
        found = torch.load(tmp_path / f"{stage}.pt")
        # Adam makes a visible step of a gradient that is only rounding, so single weights may differ by a little.
        assert largest_difference(expected, found) < 2e-4, stage
        change = sum(float((expected[name] - started[name]).detach().abs().sum()) for name in expected)
        apart = sum(float((expected[name] - found[name]).abs().sum()) for name in expected)
        assert apart < 1e-3 * change, stage
        # And it hides a gradient of the wrong size, which its norm does not.
        alone, both = (read_metrics(tmp_path / name / "run") for name in (f"{stage} alone", stage))
        for name in ("grad_norm", "loss", "margin", "accuracy", "pairs"):
            assert [row[name] for row in both] == pytest.approx([row[name] for row in alone], rel=2e-3, abs=1e-5), name
