"""The plan of a run: exact numbers of the real Qwen3-VL-8B, and estimates that move as they must."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from tests.helpers.tiny_families import qwen3_vl_moe
from trainer.__main__ import main
from trainer.config import TrainConfig, load_preset
from trainer.engine.trainable import experts_left_out
from trainer.planning.estimate import Machine, StageEstimate
from trainer.planning.layer_costs import language_costs, meta_backbone
from trainer.planning.plan import Plan, make_plan

ONE = Machine(1, 80e9, 400e12, 2.5e12)
# As the weights published under that name have them.
PUBLISHED_PARAMETERS = 8_767_123_696


@pytest.fixture(scope="module")
def large() -> Plan:
    return make_plan(load_preset("qwen3-vl-8b-1gpu"), ONE, video_seconds=5.0)


def stages(config: TrainConfig, machine: Machine = ONE) -> tuple[StageEstimate, ...]:
    return make_plan(config, machine, video_seconds=3.0).stages


def passing(stage: StageEstimate) -> float:
    """What a pass of a micro-batch holds."""
    parts = ("activations of a pass", "prefixes of a micro-batch", "chunk of its rollouts")
    return sum(stage.memory.get(part, 0.0) for part in parts)


def test_the_8b_has_its_published_number_of_parameters(large: Plan) -> None:
    assert large.parameters["backbone"] == PUBLISHED_PARAMETERS
    assert large.parameters["query token and head"] == 2 * 4096


@pytest.mark.slow
def test_the_plan_takes_seconds() -> None:
    began = time.process_time()
    make_plan(load_preset("qwen3-vl-8b-8gpu"), ONE, video_seconds=5.0)
    assert time.process_time() - began < 20


def test_the_2b_has_its_published_number_of_parameters() -> None:
    backbone = meta_backbone("Qwen/Qwen3-VL-2B-Instruct", torch.bfloat16)
    assert sum(parameter.numel() for parameter in backbone.parameters()) == 2_127_532_032
    assert backbone.get_output_embeddings().weight is backbone.get_input_embeddings().weight


def test_lora_lies_on_the_language_models_linear_layers_and_nowhere_else(large: Plan) -> None:
    blocks = {"self_attn": "qkvo", "mlp": ("gate", "up", "down")}
    wanted = {f"model.language_model.layers.*.{block}.{name}_proj": 36 for block, names in blocks.items() for name in names}
    assert large.lora == wanted
    with torch.device("meta"):
        names = {name for name, _ in meta_backbone(large.checkpoint, torch.bfloat16).named_modules()}
    assert {name.replace("*", "35") for name in large.lora} <= names
    sides = {"q": 4096 + 4096, "k": 4096 + 1024, "v": 4096 + 1024, "o": 4096 + 4096} | dict.fromkeys(
        ("gate", "up", "down"), 4096 + 12288
    )
    assert large.parameters["LoRA"] == 36 * 64 * sum(sides.values())


def test_what_trains_is_what_the_stages_say(large: Plan) -> None:
    cold, rl = large.stages
    scoring = large.parameters["query token and head"]
    assert rl.trainable == large.parameters["LoRA"] + scoring
    assert cold.trainable == rl.trainable + large.parameters["vision"]
    assert rl.memory["gradients"] == 4 * rl.trainable
    assert rl.memory["optimizer"] == 8 * rl.trainable
    frozen = 2 * PUBLISHED_PARAMETERS
    assert frozen < rl.memory["weights"] < frozen + 4 * (cold.trainable + rl.trainable)


def test_the_8b_fits_on_a_gpu_of_80_gb_at_the_longest_lengths(large: Plan) -> None:
    assert all(stage.longest_peak_bytes < 0.9 * ONE.memory_bytes for stage in large.stages)
    several = make_plan(load_preset("qwen3-vl-8b-8gpu"), replace(ONE, gpus=8), video_seconds=5.0)
    assert all(stage.longest_peak_bytes < 0.9 * ONE.memory_bytes for stage in several.stages)


def test_the_2b_fits_on_a_gpu_of_24_gb_at_the_longest_lengths() -> None:
    small = Machine(1, 24e9, 80e12, 0.8e12)
    assert all(stage.longest_peak_bytes < 0.9 * 24e9 for stage in stages(load_preset("qwen3-vl-2b-1gpu"), small))


def test_more_rollouts_than_the_budget_holds_take_no_more_memory() -> None:
    held = []
    for count in (32, 64):
        [stage] = stages(load_preset("tiny-cpu", ["cold_start.steps=0", f"dual_rl.objective.num_generations={count}"]), ONE)
        held.append(passing(stage))
    assert held[0] == pytest.approx(held[1], rel=0.05)


def test_the_work_of_a_layer_is_that_of_its_matrices() -> None:
    costs = language_costs(meta_backbone("Qwen/Qwen3-VL-8B-Instruct", torch.bfloat16))
    matrices = 2 * 4096 * 4096 + 2 * 4096 * 1024 + 3 * 4096 * 12288
    assert costs.forward_linear == pytest.approx(2 * matrices, rel=0.01)
    assert costs.forward_square == pytest.approx(4 * 32 * 128, rel=0.05)
    assert costs.layers == 36


@pytest.mark.slow
def test_checkpointing_saves_memory_and_costs_time() -> None:
    config = load_preset("tiny-cpu")
    plain, kept = stages(config), stages(replace(config, model=replace(config.model, gradient_checkpointing=True)))
    for without, with_it in zip(plain, kept, strict=True):
        assert passing(with_it) < passing(without)
        assert with_it.seconds_per_step["learning"] > without.seconds_per_step["learning"]


@pytest.mark.slow
def test_more_gpus_share_the_work_and_more_rollouts_make_more_of_it() -> None:
    config = load_preset("tiny-cpu")
    alone, shared = stages(config)[1], stages(config, replace(ONE, gpus=4))[1]
    assert shared.seconds_per_step["learning"] == pytest.approx(alone.seconds_per_step["learning"] / 4)
    objective = replace(config.dual_rl.objective, num_generations=2 * config.dual_rl.objective.num_generations)
    more = stages(replace(config, dual_rl=replace(config.dual_rl, objective=objective)))[1]
    assert 1.3 < passing(more) / passing(alone) < 2  # the prompts are there only once


def test_a_stage_that_is_left_out_is_not_planned() -> None:
    assert [one.name for one in stages(load_preset("tiny-cpu", ["cold_start.steps=0"]))] == ["dual-objective RL"]


@pytest.mark.slow
def test_a_mixture_of_experts_says_that_its_experts_get_no_adapter_and_trains_whole_in_float32(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    backbone, processor = qwen3_vl_moe()
    backbone.save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
    settings = [f"model.checkpoint={tmp_path}", "model.lora={r: 4, alpha: 8}", "model.precision=bf16"]
    assert main(["plan", "--preset", "tiny-cpu", "--json", *(word for each in settings for word in ("--set", each))]) == 0
    plan = json.loads(capsys.readouterr().out)
    assert set(plan["lora"]) == {f"model.language_model.layers.*.self_attn.{name}_proj" for name in "qkvo"}
    text = backbone.model.language_model
    share = sum(p.numel() for name, p in text.named_parameters() if ".experts." in name)
    share /= sum(p.numel() for p in text.parameters())
    [note] = plan["notes"]
    assert experts_left_out(backbone) is None  # without an adapter all of it trains
    assert "experts of 3 layers" in note
    assert f"{share:.0%} of the language model" in note

    settings[1:] = ["model.precision=fp32"]
    assert main(["plan", "--preset", "tiny-cpu", "--json", *(word for each in settings for word in ("--set", each))]) == 0
    whole = json.loads(capsys.readouterr().out)
    assert whole["lora"] == {}
    assert whole["notes"] == []
    assert whole["stages"][0]["trainable"] > plan["stages"][0]["trainable"]


@pytest.mark.slow
def test_the_command_prints_lines_or_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", "--preset", "tiny-cpu"]) == 0
    text = capsys.readouterr().out
    assert "2,961,888" in text
    assert "cold start: 2,213,280 trainable" in text
    assert "fits in 80.0 GB" in text
    assert main(["plan", "--preset", "tiny-cpu", "--json", "--gpus", "2"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["gpus"] == 2
    assert report["parameters"]["backbone"] == 2_961_888
    assert report["lora"] == {}


@pytest.mark.parametrize("wrong", [["--gpus", "0"], ["--set", "model.checkpoint=no-such-folder"], ["--set", "sed=1"]])
def test_the_command_says_what_is_wrong(wrong: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", "--preset", "tiny-cpu", *wrong]) == 2
    assert capsys.readouterr().err.startswith("plan: ")
