"""Stage 1: what is masked, what the loss is, and what a bad or missing piece costs."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import torch
from accelerate import Accelerator

from tests.helpers.tiny_runs import tiny_config, tiny_pairs, tiny_stage
from trainer.data.loader import PairLoader
from trainer.stages.baselines import without_thoughts
from trainer.stages.cold_start import ColdStartStage, is_masked

if TYPE_CHECKING:
    from trainer.config import TrainConfig
    from trainer.data.pairs import TrainingPair

pytestmark = pytest.mark.training


def stage_of(folder: Path, pairs: list[TrainingPair], **changes: object) -> ColdStartStage:
    config = tiny_config()
    cold = replace(config.cold_start, pairs_per_step=len(pairs), micro_batch_pairs=len(pairs), **changes)  # type: ignore[arg-type]
    return stage_with(folder, pairs, replace(config, cold_start=cold))


def stage_with(folder: Path, pairs: list[TrainingPair], config: TrainConfig) -> ColdStartStage:
    stage = tiny_stage("cold-start", config, pairs, folder, Accelerator(cpu=True))
    assert isinstance(stage, ColdStartStage)
    return stage


def test_half_of_the_pairs_lose_their_thoughts_and_not_always_the_same() -> None:
    drawn = [[is_masked(f"pair-{index}", step, 0, 0.5) for index in range(400)] for step in range(2)]
    assert all(160 < sum(one) < 240 for one in drawn)
    assert 120 < sum(a != b for a, b in zip(*drawn, strict=True)) < 280


@pytest.mark.parametrize(("probability", "expected"), [(0.0, 0), (1.0, 4)])
def test_masking_takes_the_thoughts_of_both_videos(probability: float, expected: int, tmp_path: Path) -> None:
    stage = stage_of(tmp_path, tiny_pairs(4), mask_probability=probability)
    [batch] = stage.prepare(0).micro_batches
    thought_tokens = batch.inputs["thought_mask"].sum(-1).reshape(4, 2)
    assert ((thought_tokens == 0).all(1)).sum() == expected
    assert ((thought_tokens > 0).all(1)).sum() == 4 - expected


def test_the_loss_is_bradley_terry_of_the_pairs_with_a_preference(tmp_path: Path) -> None:
    pairs = tiny_pairs(3)
    pairs[2] = replace(pairs[2], label=0)
    stage = stage_of(tmp_path, pairs, anchor_weight=0.0, mask_probability=0.0)
    [batch] = stage.prepare(0).micro_batches
    loss, sums = stage.loss(stage.objective, batch)
    rewards = stage.model.rewards(batch.inputs).detach().reshape(3, 2)
    expected = [
        math.log1p(math.exp(-label * float(a - b)))
        for (a, b), label in zip(rewards, batch.labels.tolist(), strict=True)
        if label
    ]
    assert float(loss.detach()) == pytest.approx(sum(expected) / 2, rel=1e-5)
    figures = stage.figures(stage.prepare(0).sums | {name: float(value) for name, value in sums.items()})
    assert figures["pairs"] == 3
    assert figures["reward_mean"] == pytest.approx(float(rewards.mean()), rel=1e-4)
    assert figures["reward_std"] == pytest.approx(float(rewards.std(correction=0)), rel=1e-3)


def test_ties_count_where_the_loss_knows_them_and_margins_follow_the_strength(tmp_path: Path) -> None:
    pairs = [replace(pair, label=0) for pair in tiny_pairs(2)]
    plain, ties = (stage_of(tmp_path, pairs, loss=loss, anchor_weight=0.0) for loss in ("bradley-terry", "ties"))
    losses = [float(one.loss(one.objective, one.prepare(0).micro_batches[0])[0].detach()) for one in (plain, ties)]
    assert losses[0] == 0
    assert losses[1] > 0
    strong = [replace(pair, strength=strength) for pair, strength in zip(tiny_pairs(3), (0.0, 1.0, 2.0), strict=True)]
    stage = stage_of(tmp_path, strong, strength_margin=0.8)
    order = [pair.strength for pair in stage.data.micro_batches(0, lambda pair: pair)[0].pairs]
    assert stage.prepare(0).micro_batches[0].margins.tolist() == pytest.approx([0.4 * strength for strength in order])


def test_the_anchor_is_the_mean_loss_of_the_thoughts_tokens(tmp_path: Path) -> None:
    stage = stage_of(tmp_path, tiny_pairs(2), anchor_weight=0.5, mask_probability=0.0)
    [batch] = stage.prepare(0).micro_batches
    loss, sums = stage.loss(stage.objective, batch)
    inputs = batch.inputs
    logits = stage.model.backbone(**stage.model.model_inputs(inputs), use_cache=False).logits.float()[:, :-1]
    logits = logits.masked_fill(stage.model.never_sampled, -torch.inf)
    chosen = inputs["thought_mask"][:, 1:].bool()
    expected = torch.nn.functional.cross_entropy(logits[chosen], inputs["input_ids"][:, 1:][chosen])
    assert float(sums["anchor_loss"]) == pytest.approx(float(expected), rel=1e-4)
    assert float(loss.detach()) == pytest.approx(float(sums["loss"]) + 0.5 * float(expected), rel=1e-4)


def test_a_bad_video_costs_its_pair_and_is_named(tmp_path: Path) -> None:
    good = tiny_pairs(3)
    stage = stage_of(tmp_path, good)
    bad = replace(good[0], identity="lost", contents=("0" * 64, good[0].contents[1]))
    stage.data.pairs = (good[0], good[1], bad)
    [batch] = stage.prepare(0).micro_batches
    assert len(batch.labels) == 2
    assert batch.totals[0] == 2
    assert [problem.startswith("pair lost, A") for problem in stage.data.problems()] == [True]
    stage.data.pairs = (bad,)
    with pytest.raises(ValueError, match="none of the 1 pairs can be used"):
        stage.prepare(0)


def test_a_pair_longer_than_the_limit_is_left_out(tmp_path: Path) -> None:
    pairs = tiny_pairs(2)
    pairs[1] = replace(pairs[1], thoughts=("word " * 300, "short"))
    stage = stage_of(tmp_path, pairs, max_length=300, mask_probability=0.0)
    assert len(stage.prepare(0).micro_batches[0].labels) == 1
    assert "more than 300" in stage.data.problems()[0]


def test_a_pair_that_is_too_long_is_left_out_of_masked_steps_too(tmp_path: Path) -> None:
    """Or a resumed run, which has not met it with its thoughts yet, would train on it and the straight one not."""
    pairs = tiny_pairs(2)
    pairs[1] = replace(pairs[1], thoughts=("word " * 300, "short"))
    for step in range(4):
        fresh = stage_of(tmp_path, pairs, max_length=300)
        assert len(fresh.prepare(step).micro_batches[0].labels) == 1, step


def test_what_was_left_out_before_an_interruption_is_named_after_it(tmp_path: Path) -> None:
    [good] = tiny_pairs(1)
    bad = replace(good, identity="lost", contents=("0" * 64, good.contents[1]))
    for _ in range(2):
        stage = stage_of(tmp_path, [good])
        stage.data = PairLoader(
            [good, bad],
            stage.data.reader,
            Accelerator(cpu=True),
            pairs_per_step=2,
            micro_batch_pairs=2,
            seed=0,
            notes=tmp_path,
        )
        stage.prepare(0)
    resumed = PairLoader(
        [good], stage.data.reader, Accelerator(cpu=True), pairs_per_step=1, micro_batch_pairs=1, seed=0, notes=tmp_path
    )
    assert [problem.startswith("pair lost, A") for problem in resumed.problems()] == [True]


def test_a_pair_without_thoughts_trains_as_a_masked_one(tmp_path: Path) -> None:
    pairs = [replace(pair, thoughts=None) for pair in tiny_pairs(2)]
    [batch] = stage_of(tmp_path, pairs, mask_probability=0.0).prepare(0).micro_batches
    assert not batch.inputs["thought_mask"].any()
    assert not batch.has_thought.any()


def test_the_discriminative_baseline_sees_no_thought(tmp_path: Path) -> None:
    config = tiny_config()
    stage = stage_with(tmp_path, tiny_pairs(4), replace(config, cold_start=without_thoughts(config.cold_start)))
    for step in range(3):
        assert not stage.prepare(step).micro_batches[0].inputs["thought_mask"].any()
