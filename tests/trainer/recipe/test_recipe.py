"""The bundled checkpoint's recipe: its batches equal the judge's own encoding, and it runs end to end, resumed as well."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from descore.encode import encode
from descore.judge import DeScore
from descore.video import VideoClip
from trainer.config import load_preset
from trainer.data.load_pairs import load_pairs
from trainer.engine.cpu_attention import plain_attention, plain_cpu_attention
from trainer.recipe import recipe as recipes
from trainer.recipe.backbone import POLICY
from trainer.recipe.batches import PROMPT_VERSION, Batcher
from trainer.recipe.card_figures import SplitResult, compared
from trainer.recipe.pretrain import PretrainConfig, schedule, training_batch
from trainer.recipe.rendered_clips import model_frames, sampled_times
from trainer.recipe.screening import hard_pairs
from trainer.shapeworld.evaluate import evaluate
from trainer.shapeworld.pairs import shape_pairs
from trainer.shapeworld.write_dataset import write_pairs

pytestmark = pytest.mark.training


@pytest.fixture(scope="module")
def backbone_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that keeps the recipe's tokenizer, which takes seconds to train."""
    folder = tmp_path_factory.mktemp("backbone")
    recipes.new_model(folder, seed=0)
    return folder


@pytest.fixture(scope="module")
def batcher(backbone_folder: Path) -> Batcher:
    return recipes.new_model(backbone_folder, seed=0)[1]


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


@pytest.fixture
def tiny_recipe(monkeypatch: pytest.MonkeyPatch) -> recipes.Recipe:
    """Two steps a part, on pairs that an untrained model can't but find hard; it thinks to the limit of tokens."""
    monkeypatch.setattr(recipes, "MAX_THOUGHT_TOKENS", 12)
    stage = {"steps": 2, "pairs_per_step": 2, "micro_batch_pairs": 2}
    settings = {
        **{f"cold_start.{name}": value for name, value in stage.items()},
        **{f"dual_rl.{name}": value for name, value in stage.items()},
        "dual_rl.objective.num_generations": 2,
        "dual_rl.objective.max_tokens": 8,
        "dual_rl.objective.reward.length_weight": 0,
        "data.held_out_share": 0,
        "anchors": 2,
        "save_every": 1,
    }
    training = load_preset(recipes.PRESET, [f"{name}={value}" for name, value in settings.items()])
    return recipes.Recipe(
        pretrain_pairs=4,
        pretrain_held_out_pairs=1,
        cold_start_pairs=4,
        screened_pairs=2,
        calibration_pairs=4,
        pretrain=PretrainConfig(describe_steps=2, judge_steps=2, describe_batch=2, judge_batch=2, save_every=2),
        training=training,
        reported={"test": 3},
    )


class KilledError(Exception):
    """A recipe that was killed."""


@contextmanager
def killed_at(target: str) -> Iterator[None]:
    """End the recipe where it calls a function."""
    with pytest.MonkeyPatch.context() as patch, pytest.raises(KilledError):
        patch.setattr(target, Mock(side_effect=KilledError))
        yield


def logged_steps(path: Path) -> list[int]:
    """The steps that a log has a line of, in its order."""
    return [json.loads(line)["step"] for line in path.read_text("utf-8").splitlines()]


@pytest.mark.endurance
def test_the_whole_recipe_runs_and_resumes(tmp_path: Path, backbone_folder: Path, tiny_recipe: recipes.Recipe) -> None:
    work, out = tmp_path / "work", tmp_path / "checkpoint"
    shutil.copytree(backbone_folder, work / "backbone")
    with killed_at("trainer.recipe.recipe.Manifest"):  # after the first half of the pretraining
        half = replace(tiny_recipe, pretrain=replace(tiny_recipe.pretrain, judge_steps=0))
        recipes.make_checkpoint(half, work, out, workers=1)
    with killed_at("trainer.runs.stage.save_trained"):  # after the steps of the cold start
        recipes.make_checkpoint(tiny_recipe, work, out, workers=1)
    with killed_at("trainer.runs.stage.RLStage"):  # when stage 2 is to begin
        recipes.make_checkpoint(tiny_recipe, work, out, workers=1)
    recipes.make_checkpoint(tiny_recipe, work, out, workers=1)
    assert logged_steps(work / "backbone" / "pretrain.jsonl") == [0, 1, 2, 3]
    for stage in ("cold-start", "dual-rl"):
        assert logged_steps(work / stage / stage / "metrics.jsonl") == [0, 1]

    cold, judge = DeScore.from_pretrained(work / recipes.COLD_STARTED), DeScore.from_pretrained(out)
    lineage = judge.manifest.lineage
    assert [part["stage"] for part in (lineage, lineage["ancestry"], lineage["ancestry"]["ancestry"])] == [
        "dual-rl",
        "cold-start",
        "pretraining",
    ]
    assert lineage["parent"]["name"] == cold.manifest.name
    assert lineage["ancestry"]["ancestry"]["recipe"]["pretrain"]["judge_steps"] == 2
    assert str(tmp_path) not in json.dumps(judge.manifest.to_dict())
    assert [point["step"] for point in lineage["curves"]["points"]] == [1, 2]
    assert (out / "curves.svg").exists()
    before = judge.manifest.metrics["test"]["before"]
    again = evaluate(cold, "test", 3, folder=work / "mp4" / "test").to_dict()
    assert before["accuracy_without_ties"] == again["accuracy_without_ties"]
    assert judge.manifest.calibration["think"].validation_pairs == 4
    reported = judge.manifest.metrics["test"]
    report = evaluate(judge, "test", 3, folder=work / "mp4" / "test").to_dict()
    assert report["pairs"] == 3
    for name in ("accuracy_without_ties", "accuracy_with_ties", "eps", "sub_score_exact_match", "strict_format"):
        assert report[name] == pytest.approx(reported[name], abs=1e-4), name
    assert report["quick"]["accuracy_with_ties"] == reported["quick"]["accuracy_with_ties"]


def test_every_second_pair_of_the_cold_start_has_its_reference_thoughts(tmp_path: Path, tiny_recipe: recipes.Recipe) -> None:
    table = write_pairs(recipes.cold_start_pairs(tiny_recipe), tmp_path)
    loaded = load_pairs(replace(tiny_recipe.training.data, csv=str(table)))
    thoughts = {pair.prompt: pair.thoughts for pair in loaded.train}
    first, second, third, fourth = shape_pairs("train", 4, tiny_recipe.pretrain_pairs)
    assert [thoughts[pair.prompt] for pair in (first, second, third, fourth)] == [first.thoughts, None, third.thoughts, None]


def test_only_pairs_that_the_model_errs_on_are_hard(tmp_path: Path) -> None:
    judge = DeScore.from_pretrained("bundled")
    candidates = list(shape_pairs("train", 24, 14_000))
    hard = hard_pairs(judge, candidates, tmp_path, workers=1)
    assert 0 < len(hard) < 20
    assert {pair.identity for pair in hard} < {pair.identity for pair in candidates}
    thoughts = tmp_path / "thoughts.jsonl"
    thoughts.write_text("".join(thoughts.read_text().splitlines(keepends=True)[:20]) + '{"half a li')
    assert hard_pairs(judge, candidates, tmp_path, workers=1) == hard


def test_changes_are_taken_pair_by_pair() -> None:
    before = SplitResult({"pairs": 4, "seconds": 1.0}, [True, False, None, True], [1.0, 0.5, 1.0, 0.0])
    after = SplitResult({"pairs": 4, "seconds": 2.0}, [True, True, None, True], [1.0, 1.0, 1.0, 0.5])
    figures = compared(before, after)
    assert figures["change"]["accuracy_without_ties"] == pytest.approx(1 / 3)
    assert figures["change"]["sub_score_exact_match"] == pytest.approx(0.25)
    low, high = figures["change"]["accuracy_without_ties_interval"]
    assert low == 0
    assert 1 / 3 < high <= 1
    assert figures["before"] == {"pairs": 4}
