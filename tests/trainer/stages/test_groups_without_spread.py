"""Groups without an advantage: kept in the token mean, left out of it, or sampled again, in one process and in two."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch
from accelerate import Accelerator
from torch import multiprocessing

from tests.helpers.tiny_runs import largest_difference, tiny_config, tiny_model, tiny_pairs, tiny_run, tiny_stage
from tests.trainer.objectives.test_dual_objective import CONFIG, make_pairs
from trainer.engine.metrics_log import read_metrics
from trainer.objectives.dual_objective import DualObjective
from trainer.objectives.dual_objective_config import DualObjectiveConfig
from trainer.objectives.group_rewards import GroupRewards
from trainer.objectives.rollout_batch import (
    RLPair,
    RolloutBatch,
    batch_logprobs,
    build_batch,
    sample_pairs,
)
from trainer.objectives.rollout_reward import RolloutReward
from trainer.rollouts.sampling import OwnSampler, SampledThoughts
from trainer.stages.dual_rl import RLStage

if TYPE_CHECKING:
    from collections.abc import Sequence

    from descore.modeling.model import DeScoreModel
    from trainer.config import TrainConfig

pytestmark = pytest.mark.training

# Videos 0 and 3 have a spread; all rollouts of 1 got the same reward, and of 2 nothing is known.
TOTALS, KNOWN, TEACHES = ((0.1, 0.5, 0.9), (0.4,) * 3, (0.2, 0.3, 0.9), (0.8, 0.8, 0.2)), (True, True, False, True), [0, 3]


def rewards_of(videos: Sequence[int]) -> GroupRewards:
    scores = tuple(tuple(RolloutReward(total, 1.0, 1.0, total) for total in TOTALS[video]) for video in videos)
    return GroupRewards(scores, tuple(KNOWN[video] for video in videos))


def ready(model: DeScoreModel, batch: RolloutBatch, config: DualObjectiveConfig) -> RolloutBatch:
    """Give a batch a reference that has moved, and an engine that is not the trained model."""
    now = batch_logprobs(model, batch, config)
    batch.reference = now + 0.1 * torch.cos(batch.rollouts.tokens)
    batch.sampler_logprobs, batch.by_trained_model = now + 0.3 * torch.sin(batch.rollouts.tokens), False
    return batch


def gradients_of(model: DeScoreModel, batch: RolloutBatch, config: DualObjectiveConfig) -> dict[str, torch.Tensor]:
    model.zero_grad()
    DualObjective(model, config).backward(batch, budget=20)
    return {name: parameter.grad.clone() for name, parameter in model.named_parameters() if parameter.grad is not None}


def close(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> bool:
    names = found.keys() | expected.keys()
    pairs = [(found.get(name, torch.zeros(1)), expected.get(name, torch.zeros(1))) for name in names]
    return all((a - b).norm() <= 1e-5 * b.norm() + 1e-7 for a, b in pairs)


def test_leaving_out_gives_the_gradient_of_the_batch_without_those_groups() -> None:
    model, pairs = tiny_model(), make_pairs()
    config = replace(CONFIG, bt_weight=0.0, beta=0.1, groups_without_spread="leave_out")
    sampled = sample_pairs(model, pairs, 0, config)
    whole = ready(model, build_batch(model, pairs, sampled, config, rewards=rewards_of(range(4))), config)
    rows = [row for pair in pairs for row in pair.rows]
    few = [RLPair("few", (rows[TEACHES[0]], rows[TEACHES[1]]), ({}, {}), label=1)]
    kept = build_batch(
        model, few, sampled.of_videos(TEACHES), replace(config, groups_without_spread="keep"), rewards=rewards_of(TEACHES)
    )
    kept = ready(model, kept, config)
    assert whole.tokens == kept.tokens < int(whole.rollouts.mask.sum())
    assert whole.left_out == 2
    expected = gradients_of(model, kept, config)
    assert close(gradients_of(model, whole, config), expected)
    whole.learnt = None  # as "keep" has it: other divisor, and the KL of all
    assert not close(gradients_of(model, whole, config), expected)


def test_keeping_makes_the_policys_gradient_smaller_by_the_share_of_tokens_left_out() -> None:
    model, pairs = tiny_model(), make_pairs()
    config = replace(CONFIG, bt_weight=0.0, beta=0.0, groups_without_spread="leave_out")
    sampled = sample_pairs(model, pairs, 0, config)
    batch = build_batch(model, pairs, sampled, config, rewards=rewards_of(range(4)))
    left_out = gradients_of(model, batch, config)
    share = batch.tokens / int(batch.rollouts.mask.sum())
    batch.learnt = None
    assert close(gradients_of(model, batch, config), {name: share * gradient for name, gradient in left_out.items()})


def test_where_all_groups_are_left_out_bradley_terry_trains_alone() -> None:
    model, pairs = tiny_model(), make_pairs()
    config = replace(CONFIG, beta=0.1, groups_without_spread="leave_out")
    sampled = sample_pairs(model, pairs, 0, config)
    nothing = GroupRewards(rewards_of(range(4)).scores, (False,) * 4)
    batch = ready(model, build_batch(model, pairs, sampled, config, rewards=nothing), config)
    assert (batch.tokens, batch.left_out) == (0, 4)
    found = gradients_of(model, batch, config)
    batch.reference = None
    assert close(found, gradients_of(model, batch, replace(config, groups_without_spread="keep")))
    assert any(gradient.any() for gradient in found.values())


# ---- sampling again ------------------------------------------------------------------------------------------------


class Watched(OwnSampler):
    """The real engine, with the seeds of each call."""

    def __init__(self, model: DeScoreModel) -> None:
        super().__init__(model)
        self.calls: list[list[str]] = []

    def __call__(self, model: DeScoreModel, rows: Any, seeds: Sequence[str], **settings: Any) -> SampledThoughts:
        self.calls.append(list(seeds))
        return super().__call__(model, rows, seeds, **settings)


def config_of(**changes: Any) -> TrainConfig:
    """Settings in which only the length of a rollout differs, and many groups have no spread."""
    config = tiny_config(**{name: changes.pop(name) for name in ("paradigm",) if name in changes})
    objective = replace(
        config.dual_rl.objective, **{"groups_without_spread": "sample_again", **changes.pop("objective", {})}
    )
    return replace(config, dual_rl=replace(config.dual_rl, objective=objective, **changes))


def stage_of(folder: Path, **changes: Any) -> tuple[RLStage, Watched]:
    stage = tiny_stage("dual-rl", config_of(**changes), tiny_pairs(4), folder, Accelerator(cpu=True))
    assert isinstance(stage, RLStage)
    stage._sampler = sampler = Watched(stage.model)
    return stage, sampler


def by_seed(stage: RLStage, step: int = 0) -> dict[str, tuple[tuple[int, ...], ...]]:
    """The thoughts of a step by pair and side."""
    found = {}
    encoded = stage.data.micro_batches(step, lambda pair: pair)
    for batch, work in zip(encoded, stage.prepare(step).micro_batches, strict=True):
        for index, pair in enumerate(batch.pairs):
            for side in (0, 1):
                found[f"0/{pair.identity}/{'AB'[side]}"] = work.batch.thoughts.ids[2 * index + side]
    return found


def test_only_groups_without_spread_are_sampled_again_and_no_more_often_than_the_bound(tmp_path: Path) -> None:
    plain, _ = stage_of(tmp_path, objective={"groups_without_spread": "keep"})
    first = by_seed(plain)
    totals = plain.prepare(0).micro_batches[0].batch
    stage, sampler = stage_of(tmp_path, objective={"extra_samplings": 2})
    prepared = stage.prepare(0)
    started, *others = sampler.calls
    batch = prepared.micro_batches[0].batch
    lacking = [
        seed
        for seed, group in zip(started, torch.tensor([s.total for s in totals.scores]).reshape(8, 2), strict=True)
        if group[0] == group[1]
    ]
    assert 0 < len(lacking) < 8, "some groups, and not all"
    assert others[0] == [f"{seed}/again-1" for seed in lacking]
    assert len(others) <= 2
    assert all(set(later) <= {seed.replace("again-1", "again-2") for seed in others[0]} for later in others[1:])
    again = by_seed(stage)
    of_stage = {seed.split("/", 1)[1]: seed for seed in started}
    changed = {seed for name, seed in of_stage.items() if again[name] != first[name]}
    assert changed
    assert changed <= set(lacking), "the others keep their first samples"
    figures = prepared.sums
    assert figures["no_spread"] == len(lacking), "of the first samples, as with every setting"
    assert figures["sampled_again"] == sum(map(len, others))
    assert figures["groups_left_out"] == batch.left_out == sum(not group.any() for group in batch.advantages.reshape(8, 2))


def test_what_is_sampled_again_hangs_on_step_and_pair_alone(tmp_path: Path) -> None:
    together, apart = stage_of(tmp_path)[0], stage_of(tmp_path, micro_batch_pairs=1)[0]
    assert by_seed(together) == by_seed(apart) == by_seed(together)
    alone, sampler = stage_of(tmp_path, pairs_per_step=1, micro_batch_pairs=1)
    mine = by_seed(alone)
    assert mine.items() <= by_seed(together).items()
    assert any("again" in seed for call in sampler.calls for seed in call)
    assert by_seed(together, step=1) != by_seed(together)


def test_groups_that_no_sampling_could_change_are_not_sampled_again(tmp_path: Path) -> None:
    stage, sampler = stage_of(tmp_path)
    stage.data.pairs = tuple(replace(pair, sub_scores=({}, {})) for pair in stage.data.pairs)
    prepared = stage.prepare(0)
    assert len(sampler.calls) == 1
    assert prepared.sums["groups_left_out"] == 8
    assert (prepared.sums["groups"], prepared.sums["no_spread"]) == (0, 0)
    generative, sampler = stage_of(tmp_path, paradigm="generative")
    generative.data.pairs = tuple(replace(pair, label=0) for pair in generative.data.pairs)
    generative.prepare(0)
    assert len(sampler.calls) == 1, "a tie rewards no rollout"


def test_the_generative_baseline_samples_again_too(tmp_path: Path) -> None:
    stage, sampler = stage_of(tmp_path, paradigm="generative", objective={"extra_samplings": 1})
    prepared = stage.prepare(0)
    assert [len(call) for call in sampler.calls] == [8, 8], "random thoughts have no score"
    assert prepared.sums["groups_left_out"] == 8


def test_a_run_that_was_stopped_goes_on_bit_for_bit(tmp_path: Path) -> None:
    config = config_of(steps=3)
    _, expected = tiny_run("dual-rl", config, tiny_pairs(4), tmp_path / "whole")
    tiny_run("dual-rl", config, tiny_pairs(4), tmp_path / "stopped", stop_after=0)
    _, found = tiny_run("dual-rl", config, tiny_pairs(4), tmp_path / "stopped")
    assert largest_difference(expected, found) == 0
    rows = read_metrics(tmp_path / "stopped" / "run")
    assert sum(row["sampled_again"] for row in rows) > 0
    assert [row["left_out"] for row in rows] == [row["left_out"] for row in read_metrics(tmp_path / "whole" / "run")]


def uneven_pairs() -> list[Any]:
    """Two pairs, of one of which nothing is known: whichever process has it samples once."""
    known, unknown = tiny_pairs(2)
    return [known, replace(unknown, sub_scores=({}, {}))]


def uneven_config() -> TrainConfig:
    return config_of(steps=3, pairs_per_step=2, micro_batch_pairs=1)


def _rank(rank: int, folder: Path, port: int) -> None:
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2"}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "ACCELERATE_USE_CPU": "true"}
    torch.set_num_threads(1)
    calls: list[int] = []
    sample = OwnSampler.__call__

    def counted(self: OwnSampler, model: DeScoreModel, rows: Any, seeds: Sequence[str], **settings: Any) -> SampledThoughts:
        calls.append(len(seeds))
        return sample(self, model, rows, seeds, **settings)

    OwnSampler.__call__ = counted  # type: ignore[method-assign]
    _, weights = tiny_run("dual-rl", uneven_config(), uneven_pairs(), folder)
    torch.save(weights, folder / f"{rank}.pt")
    (folder / f"{rank}.json").write_text(json.dumps(calls))
    torch.distributed.destroy_process_group()


@pytest.mark.endurance  # two processes that load torch
def test_two_processes_that_sample_another_number_of_times_train_as_one(tmp_path: Path) -> None:
    multiprocessing.spawn(_rank, (tmp_path, 20_000 + (os.getpid() + 11) % 20_000), nprocs=2)
    one, other = (json.loads((tmp_path / f"{rank}.json").read_text()) for rank in (0, 1))
    assert len(one) != len(other), "they needed another number of samplings"
    _, alone = tiny_run("dual-rl", uneven_config(), uneven_pairs(), tmp_path / "alone")
    for rank in (0, 1):
        assert largest_difference(alone, torch.load(tmp_path / f"{rank}.pt")) < 2e-4
    rows = [read_metrics(folder / "run") for folder in (tmp_path, tmp_path / "alone")]
    for name in ("left_out", "sampled_again", "no_spread", "entropy", "repetition", "cut_off"):
        assert [row[name] for row in rows[0]] == pytest.approx([row[name] for row in rows[1]]), name


def test_an_extra_sampling_is_the_least() -> None:
    with pytest.raises(ValueError, match="extra_samplings must be at least 1"):
        DualObjectiveConfig(extra_samplings=0)
