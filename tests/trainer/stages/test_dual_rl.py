"""Stage 2 as a run has it: totals over passes, the reference, several updates, and what the log says."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch
from accelerate import Accelerator

from app.train.views.curves import PANELS
from storage.training.alarms import BOUNDS
from tests.helpers.tiny_runs import tiny_config, tiny_pairs, tiny_stage
from trainer.engine.loop import combined
from trainer.rollouts.sampling import OwnSampler, SampledThoughts
from trainer.stages.dual_rl import Reference, RLStage

if TYPE_CHECKING:
    from descore.modeling.model import DeScoreModel

pytestmark = pytest.mark.training


def stage_of(folder: Path, lora: bool = False, **changes: Any) -> RLStage:
    config = tiny_config()
    objective = replace(config.dual_rl.objective, **changes.pop("objective", {}))
    config = replace(config, dual_rl=replace(config.dual_rl, objective=objective, **changes))
    stage = tiny_stage("dual-rl", config, tiny_pairs(4), folder, Accelerator(cpu=True), lora)
    assert isinstance(stage, RLStage)
    return stage


def test_rollouts_hang_on_seed_step_and_pair_alone(tmp_path: Path) -> None:
    together, apart = stage_of(tmp_path), stage_of(tmp_path, micro_batch_pairs=1)
    [one], several = together.prepare(0).micro_batches, apart.prepare(0).micro_batches
    assert one.batch.thoughts.ids == tuple(ids for part in several for ids in part.batch.thoughts.ids)
    assert {part.tokens for part in several} == {one.tokens} == {float(one.batch.tokens)}
    assert {part.comparisons for part in several} == {8.0}
    assert together.prepare(1).micro_batches[0].batch.thoughts.ids != one.batch.thoughts.ids


def test_the_log_tells_each_reward(tmp_path: Path) -> None:
    stage = stage_of(tmp_path)
    prepared = stage.prepare(0)
    scores = prepared.micro_batches[0].batch.scores
    _, sums = stage.loss(stage.objective, prepared.micro_batches[0])
    figures = stage.figures(prepared.sums | {name: float(value) for name, value in sums.items()})
    for name, values in (("reward", [s.total for s in scores]), ("reward_length", [s.length for s in scores])):
        assert figures[name] == pytest.approx(sum(values) / len(scores))
    quality = [score.quality for score in scores if score.quality is not None]
    assert figures["reward_quality"] == pytest.approx(sum(quality) / len(quality))
    assert figures["thought_tokens"] == prepared.micro_batches[0].batch.thoughts.tokens / 16
    assert figures["kl"] == pytest.approx(0, abs=1e-5)
    assert figures["without_truth"] == 0
    thoughts = prepared.micro_batches[0].batch.thoughts
    log_probs = [x for group in thoughts.log_probs for row in group for x in row]
    assert figures["entropy"] == pytest.approx(-sum(log_probs) / len(log_probs))
    assert figures["cut_off"] == sum(not ended for group in thoughts.ended for ended in group) / 16
    assert figures["no_spread"] == sum(len({s.total for s in scores[i : i + 2]}) == 1 for i in range(0, 16, 2)) / 8
    assert (figures["left_out"], figures["sampled_again"]) == (0, 0)


def test_every_bound_is_one_of_a_logged_figure_and_every_share_is_drawn(tmp_path: Path) -> None:
    stage = stage_of(tmp_path, micro_batch_pairs=2)
    figures = logged(stage)
    drawn = {curve.key for panel in PANELS for curve in panel.curves}
    shares = {bound.figure for bound in BOUNDS if bound.kind != "counted"}
    assert shares <= figures.keys()
    assert shares <= drawn
    assert all(isinstance(figures[name], float) for name in shares)


def test_the_log_counts_pairs_without_any_sub_score(tmp_path: Path) -> None:
    stage = stage_of(tmp_path, micro_batch_pairs=2)
    stage.data.pairs = tuple(replace(p, sub_scores=({}, {})) if p.label < 0 else p for p in stage.data.pairs)
    assert stage.prepare(0).sums["without_truth"] == 2
    assert stage_of(tmp_path).prepare(0).sums["without_truth"] == 0


@pytest.mark.parametrize("lora", [True, False])
def test_the_reference_stays_where_the_stage_began(lora: bool, tmp_path: Path) -> None:
    stage = stage_of(tmp_path, lora, objective={"beta": 0.1})
    trained = {name for name, p in stage.model.named_parameters() if p.requires_grad}
    with torch.no_grad():
        for name, parameter in stage.model.named_parameters():
            if name in trained and ("lora_B" in name or not lora):
                parameter.add_(0.05 * torch.randn_like(parameter))
    now = {name: value.clone() for name, value in stage.model.state_dict().items()}
    work = stage.prepare(0).micro_batches[0]
    assert all(torch.equal(value, now[name]) for name, value in stage.model.state_dict().items())
    assert {name for name, p in stage.model.named_parameters() if p.requires_grad} == trained
    _, sums = stage.loss(stage.objective, work)
    assert float(sums["kl"]) > 1e-4


@pytest.mark.parametrize("lora", [True, False])
def test_the_kl_starts_at_zero_whatever_the_adapter_has_learnt_before(lora: bool, tmp_path: Path) -> None:
    stage = stage_of(tmp_path, lora, objective={"beta": 0.1})
    with torch.no_grad():  # as after a cold start: the policy is not the backbone alone
        for name, parameter in stage.model.named_parameters():
            if "lora_B" in name:
                parameter.add_(0.05 * torch.randn_like(parameter))
    stage._reference = Reference(stage.model, stage.config)
    _, sums = stage.loss(stage.objective, stage.prepare(0).micro_batches[0])
    assert float(sums["kl"]) == pytest.approx(0, abs=1e-6)


def test_without_a_kl_there_is_no_reference(tmp_path: Path) -> None:
    stage = stage_of(tmp_path, objective={"beta": 0.0})
    assert stage.prepare(0).micro_batches[0].batch.reference is None


def test_later_updates_of_a_step_see_how_far_the_policy_has_moved(tmp_path: Path) -> None:
    stage = stage_of(tmp_path, updates_per_step=2)
    work = stage.prepare(0).micro_batches[0]
    work.batch.advantages = torch.linspace(-1, 1, 16)
    first, _ = stage.loss(stage.objective, work)
    with torch.no_grad():
        for parameter in stage.model.parameters():
            if parameter.requires_grad:
                parameter.add_(0.02 * torch.randn_like(parameter))
    second, sums = stage.loss(stage.objective, work)
    assert float(sums["clip_share"]) > 0
    assert float(first.detach()) != float(second.detach())


def test_a_pass_that_only_keeps_in_step_weighs_nothing(tmp_path: Path) -> None:
    stage = stage_of(tmp_path)
    work = replace(stage.prepare(0).micro_batches[0], weight=0.0)
    loss, sums = stage.loss(stage.objective, work)
    loss.backward()
    assert float(loss.detach()) == 0
    assert all(float(value) == 0 for value in sums.values())
    gradients = [p.grad for p in stage.model.parameters() if p.requires_grad]
    assert all(gradient is not None and not gradient.any() for gradient in gradients)


def logged(stage: RLStage) -> dict[str, float | None]:
    """The figures of a step with several micro-batches, as the loop puts them together."""
    prepared = stage.prepare(0)
    sums = dict(prepared.sums)
    for work in prepared.micro_batches:
        for name, value in stage.backward(work).items():
            sums[name] = combined(name, sums.get(name, 0.0), float(value))
    return stage.figures(sums)


def test_the_engine_that_is_the_trained_model_gives_tokens_its_probabilities(tmp_path: Path) -> None:
    stage = stage_of(tmp_path, lora=True, micro_batch_pairs=2, sampling_tokens=300)  # its adapter has much dropout
    for name, parameter in stage.model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.05)
    stage.objective.train()
    figures = logged(stage)
    assert figures["sampler_ratio"] == pytest.approx(1, abs=1e-3)
    assert figures["sampler_ratio_max"] == pytest.approx(1, abs=1e-3)
    assert figures["sampler_ratio_outside"] == 0


class Estranged(OwnSampler):
    """An engine that is not the trained model: it found every token half as likely."""

    def __init__(self, model: DeScoreModel) -> None:
        super().__init__(model)
        self.is_trained_model = False

    def __call__(self, *args: Any, **settings: Any) -> SampledThoughts:
        sampled = super().__call__(*args, **settings)
        halved = tuple(tuple(tuple(x - math.log(2) for x in row) for row in group) for group in sampled.log_probs)
        return replace(sampled, log_probs=halved)


@pytest.mark.parametrize(("cap", "factor"), [(2.0, 2.0), (1.5, 1.5), (0.0, 1.0)])
def test_an_engine_that_is_not_the_trained_model_is_corrected_for(cap: float, factor: float, tmp_path: Path) -> None:
    stage = stage_of(tmp_path, objective={"importance_cap": cap, "bt_weight": 0.0, "beta": 0.0})
    work = stage.prepare(0).micro_batches[0]
    work.batch.advantages = torch.linspace(-1, 1, 16)
    plain, _ = stage.loss(stage.objective, work)
    stage._sampler = Estranged(stage.model)
    work = stage.prepare(0).micro_batches[0]
    work.batch.advantages = torch.linspace(-1, 1, 16)
    weighed, sums = stage.loss(stage.objective, work)
    assert float(weighed.detach()) == pytest.approx(factor * float(plain.detach()), rel=1e-3)
    figures = stage.figures(stage.prepare(0).sums | {name: float(value) for name, value in sums.items()})
    assert figures["sampler_ratio"] == pytest.approx(2, abs=1e-2)
    assert figures["sampler_ratio_outside"] == 1


def test_the_budget_of_sampling_is_one_that_is_halved(tmp_path: Path) -> None:
    stage = stage_of(tmp_path, sampling_tokens=800)
    before = stage.prepare(0).micro_batches[0].batch.thoughts.ids
    assert [budget.name for budget in stage.budgets] == ["forward_tokens", "sampling_tokens"]
    assert all(budget.halve() for budget in stage.budgets)
    assert stage.sampling_budget.tokens == 400
    assert stage.prepare(0).micro_batches[0].batch.thoughts.ids == before
