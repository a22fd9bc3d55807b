"""The bundled checkpoint's recipe: its batches equal the judge's own encoding, and it runs end to end, resumed as well."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from descore.encode import encode
from descore.judge import DeScore
from descore.video import VideoClip
from trainer.engine.cpu_attention import plain_attention, plain_cpu_attention
from trainer.objectives.rollout_reward import RolloutRewardConfig
from trainer.shapeworld.evaluate import evaluate
from trainer.shapeworld.pairs import shape_pairs
from trainer.shapeworld.recipe import recipe as recipes
from trainer.shapeworld.recipe.backbone import POLICY
from trainer.shapeworld.recipe.batches import PROMPT_VERSION, Batcher
from trainer.shapeworld.recipe.before_after import Measured, compared
from trainer.shapeworld.recipe.cold_start import ColdStartConfig
from trainer.shapeworld.recipe.dual_rl import DualRLRecipe, hard_pairs
from trainer.shapeworld.recipe.pretrain import PretrainConfig, schedule, training_batch
from trainer.shapeworld.recipe.rendered_clips import model_frames, sampled_times


@pytest.fixture(scope="module")
def batcher(tmp_path_factory: pytest.TempPathFactory) -> Batcher:
    return recipes.new_model(tmp_path_factory.mktemp("backbone"), seed=0)[1]


def test_training_batches_equal_what_the_judge_encodes(batcher: Batcher) -> None:
    pairs = list(shape_pairs("train", 3))
    scenes = [pair.scenes[0] for pair in pairs]
    frames = np.stack([model_frames(scene) for scene in scenes])
    thoughts = [pairs[0].thoughts[0], "", pairs[2].thoughts[0]]
    turns = [batcher.judge_turns(pair.prompt, sampled_times(pair.scenes[0])) for pair in pairs]
    ours = batcher.build(frames, turns, thoughts, end=False)
    clips = [
        VideoClip(frame, sampled_times(scene), scene.rendering.seconds, "pyav")
        for frame, scene in zip(frames, scenes, strict=True)
    ]
    theirs = encode(
        batcher.processor,
        clips,
        [pair.prompt for pair in pairs],
        thoughts,
        policy=POLICY,
        prompt_version=PROMPT_VERSION,
    )
    for key, value in ours.inputs.items():
        assert torch.allclose(value.float(), theirs[key].float(), atol=1e-5), key
    assert torch.equal(ours.targets.long(), theirs["thought_mask"])


def test_verdict_tokens_are_the_part_of_the_thought_that_judges(batcher: Batcher) -> None:
    (pair,) = shape_pairs("train", 1)
    turns = [batcher.judge_turns(pair.prompt, sampled_times(pair.scenes[0]))]
    batch = batcher.build(model_frames(pair.scenes[0])[None], turns, [pair.thoughts[0]], end=True)
    text = batcher.tokenizer.decode(batch.inputs["input_ids"][batch.verdicts])
    assert text.startswith(" Subject ")
    assert text.endswith("</answer><|im_end|>")


def test_thoughts_survive_the_tokenizer(batcher: Batcher) -> None:
    for pair in shape_pairs("unseen-phrasings", 20):
        for text in (*pair.thoughts, pair.prompt, "Ein roter Kreis – 赤い円"):
            assert batcher.tokenizer.decode(batcher.tokenizer(text).input_ids) == text


@pytest.mark.parametrize("masked", [False, True])
def test_plain_attention_equals_the_kernel(masked: bool) -> None:
    query, key, value = torch.randn(2, 4, 7, 8), torch.randn(2, 2, 7, 8), torch.randn(2, 2, 7, 8)
    mask = torch.ones(7, 7, dtype=torch.bool).tril() if masked else None
    expected = F.scaled_dot_product_attention(query, key, value, attn_mask=mask, enable_gqa=True)
    assert torch.allclose(plain_attention(query, key, value, attn_mask=mask, enable_gqa=True), expected, atol=1e-5)
    kernel = F.scaled_dot_product_attention
    with plain_cpu_attention():
        assert F.scaled_dot_product_attention is plain_attention
    assert F.scaled_dot_product_attention is kernel


def test_the_schedule_warms_up_stays_and_decays() -> None:
    shares = [schedule(step, 100, 10, 0.4) for step in range(100)]
    assert shares[0] == pytest.approx(0.1)
    assert shares[10:60] == [1.0] * 50
    assert shares[60:] == sorted(shares[60:], reverse=True)
    assert shares[-1] == pytest.approx(0.025)


def test_a_steps_batch_depends_on_nothing_but_the_step(batcher: Batcher) -> None:
    clips = np.zeros((5, 2, 8, 64, 64, 3), np.uint8)
    config = PretrainConfig(describe_steps=1, judge_batch=3)
    first, again = (training_batch(1, batcher, clips, config) for _ in range(2))
    assert torch.equal(first.inputs["input_ids"], again.inputs["input_ids"])
    other = training_batch(2, batcher, clips, config)
    assert first.inputs["input_ids"].shape != other.inputs["input_ids"].shape or not torch.equal(
        first.inputs["input_ids"], other.inputs["input_ids"]
    )


def _small_rl() -> DualRLRecipe:
    """Two steps on pairs that an untrained model can't but find hard."""
    usual = DualRLRecipe()
    objective = replace(
        usual.settings.objective, num_generations=2, max_tokens=8, reward=RolloutRewardConfig(length_weight=0)
    )
    settings = replace(usual.settings, steps=2, pairs_per_step=2, micro_batch_pairs=2, objective=objective)
    return replace(usual, screened_pairs=4, held_out_share=0.0, anchors=2, settings=settings)


def test_the_whole_recipe_runs_and_resumes(tmp_path: Path) -> None:
    small = recipes.Recipe(
        train_pairs=4,
        held_out_pairs=64,
        calibration_pairs=6,
        pretrain=PretrainConfig(describe_steps=2, judge_steps=2, describe_batch=2, judge_batch=2, save_every=2),
        cold_start=ColdStartConfig(steps=2, pairs_per_step=2, own_thoughts_pairs=2, save_every=1),
        dual_rl=_small_rl(),
        reported={"test": 4},
    )
    half = replace(small, pretrain=replace(small.pretrain, judge_steps=0))
    work, out = tmp_path / "work", tmp_path / "checkpoint"
    recipes.cold_started(half, work, workers=1)
    for state in ("cold_start.pt", "thoughts.jsonl"):
        (work / state).unlink()
    shutil.rmtree(work / recipes.COLD_STARTED)
    recipes.make_checkpoint(small, work, out, workers=1)
    steps = [json.loads(line)["step"] for line in (work / "backbone" / "pretrain.jsonl").read_text().splitlines()]
    assert steps == [0, 1, 2, 3]

    cold, judge = DeScore.from_pretrained(work / recipes.COLD_STARTED), DeScore.from_pretrained(out)
    assert judge.manifest.lineage["stage"] == "dual-rl"
    assert judge.manifest.lineage["parent"]["name"] == cold.manifest.name
    assert judge.manifest.lineage["ancestry"]["recipe"]["pretrain"]["judge_steps"] == 2
    assert str(tmp_path) not in json.dumps(judge.manifest.to_dict())
    assert [point["step"] for point in judge.manifest.lineage["curves"]["points"]] == [1, 2]
    assert (out / "curves.svg").exists()
    before = judge.manifest.metrics["test"]["before"]
    again = evaluate(cold, "test", 4, folder=work / "mp4" / "test").to_dict()
    assert before["accuracy_without_ties"] == again["accuracy_without_ties"]
    assert judge.manifest.calibration["think"].validation_pairs == 6
    reported = judge.manifest.metrics["test"]
    report = evaluate(judge, "test", 4, folder=work / "mp4" / "test").to_dict()
    assert report["pairs"] == 4
    for name in ("accuracy_without_ties", "accuracy_with_ties", "eps", "sub_score_exact_match", "strict_format"):
        assert report[name] == pytest.approx(reported[name], abs=1e-4), name
    assert report["quick"]["accuracy_with_ties"] == reported["quick"]["accuracy_with_ties"]


def test_a_checkpoint_takes_the_place_of_the_cold_start_and_only_its_weak_pairs_are_chosen(tmp_path: Path) -> None:
    judge = DeScore.from_pretrained("bundled")
    recipe = replace(_small_rl(), screened_pairs=24)
    chosen = hard_pairs(judge, recipe, tmp_path, workers=1)
    screened = {pair.identity for pair in shape_pairs("train", 24, recipe.first_pair)}
    assert {pair.identity for pair in chosen} < screened
    assert len(chosen) < 20
    kept = next(tmp_path.glob("screening-*.jsonl"))
    kept.write_text("".join(kept.read_text().splitlines(keepends=True)[:10]) + '["half a li')
    assert hard_pairs(judge, recipe, tmp_path, workers=1) == chosen


def test_changes_are_taken_pair_by_pair() -> None:
    before = Measured({"pairs": 4, "seconds": 1.0}, [True, False, None, True], [1.0, 0.5, 1.0, 0.0])
    after = Measured({"pairs": 4, "seconds": 2.0}, [True, True, None, True], [1.0, 1.0, 1.0, 0.5])
    figures = compared(before, after)
    assert figures["change"]["accuracy_without_ties"] == pytest.approx(1 / 3)
    assert figures["change"]["sub_score_exact_match"] == pytest.approx(0.25)
    low, high = figures["change"]["accuracy_without_ties_interval"]
    assert low == 0
    assert 1 / 3 < high <= 1
    assert figures["before"] == {"pairs": 4}
