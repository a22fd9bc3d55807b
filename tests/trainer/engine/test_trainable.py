"""The model of a run: what is adapted, what trains in which stage, and that a saved run comes back as it was."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from accelerate import Accelerator

from descore.answer import DIMENSIONS
from descore.calibration import Calibration
from descore.checkpoints.folder import load_checkpoint
from descore.encode import collate
from descore.modeling.lora import adapter_off
from descore.modeling.model import DeScoreModel
from descore.modeling.scoring_head import ScoringModule
from tests.helpers.tiny import tiny_backbone, tiny_judge, tiny_processor
from tests.helpers.tiny_families import qwen3_5
from tests.helpers.tiny_runs import TRUTH, tiny_config, tiny_pairs, tiny_reader
from trainer.code_version import code_version
from trainer.config import AdapterConfig, TrainConfig, Vision
from trainer.engine.precision import Precision
from trainer.engine.save_trained import data_hash, save_trained
from trainer.engine.trainable import load_for_training, lora_targets, merger_parts, set_trainable, vision_parts
from trainer.evaluation.held_out import judge_pairs

CPU = torch.device("cpu")


def config_for(checkpoint: Path, vision: Vision = "frozen", lora: bool = True) -> TrainConfig:
    config = tiny_config()
    settings = AdapterConfig(r=2, alpha=4) if lora else None
    return replace(
        config,
        model=replace(config.model, checkpoint=str(checkpoint), lora=settings),
        cold_start=replace(config.cold_start, vision=vision),
    )


@pytest.fixture(scope="module")
def parent(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_judge().save_pretrained(tmp_path_factory.mktemp("parent") / "checkpoint")


def trained_names(model: torch.nn.Module) -> set[str]:
    return {name for name, p in model.named_parameters() if p.requires_grad}


def test_the_parts_of_the_backbone_are_found() -> None:
    backbone = tiny_backbone()
    assert vision_parts(backbone) == ("model.visual",)
    joins = ("merger", "deepstack_merger_list.0", "deepstack_merger_list.1")
    assert merger_parts(backbone) == tuple(f"model.visual.{name}" for name in joins)
    assert all(kind in lora_targets(backbone) for kind in ("q_proj", "o_proj", "gate_proj", "down_proj"))


@pytest.mark.parametrize("vision", ["frozen", "merger", "tuned"])
@pytest.mark.parametrize("lora", [True, False])
def test_each_stage_trains_its_part(vision: Vision, lora: bool, parent: Path) -> None:
    config = config_for(parent, vision, lora)
    model = load_for_training(config, CPU).model
    set_trainable(model, config, "cold-start")
    names = trained_names(model)
    assert {"scoring.query_token", "scoring.head.weight"} <= names
    seeing = {name for name in names if "visual" in name}
    expected = {
        "frozen": 0,
        "merger": 18,
        "tuned": sum(1 for name, _ in tiny_backbone().named_parameters() if "visual" in name),
    }
    assert len(seeing) == expected[vision]
    rest = names - seeing - {"scoring.query_token", "scoring.head.weight"}
    assert rest
    assert all((".lora_" in name) == lora for name in rest)
    assert len([name for name in rest if "lora_" in name]) == (3 * 7 * 2 if lora else 0)
    set_trainable(model, config, "dual-rl")  # in which the tower is frozen
    assert not [name for name in trained_names(model) if "visual" in name]


@pytest.mark.slow
def test_a_fresh_adapter_changes_nothing_and_the_stage_two_adapter_is_the_same_one(parent: Path, tmp_path: Path) -> None:
    config = config_for(parent, "merger")
    trained = load_for_training(config, CPU)
    plain = load_checkpoint(parent, device=CPU)[0]
    pairs = tiny_pairs(2)
    rows = [row for pair in pairs for row in tiny_reader(pairs, tmp_path).rows(pair)]
    batch = collate(rows, 0)
    torch.testing.assert_close(trained.model.rewards(batch), plain.rewards(batch))
    set_trainable(trained.model, config, "cold-start")
    with torch.no_grad():
        for parameter in trained.model.parameters():
            if parameter.requires_grad:
                parameter.add_(0.05 * torch.randn_like(parameter))
    moved = trained.model.eval().rewards(batch).detach()
    saved = save_trained(trained, config, "cold-start", pairs, {}, Calibration({}), tmp_path / "run" / "checkpoint")
    again = load_for_training(config, CPU, str(saved))
    torch.testing.assert_close(again.model.eval().rewards(batch), moved)
    assert again.parent.name == "run (cold-start)"
    assert again.manifest.lineage["parent"]["name"] == "tiny"
    set_trainable(again.model, config, "dual-rl")
    assert all(".lora_" in name or name.startswith("scoring.") for name in trained_names(again.model))
    with adapter_off(again.model.backbone), torch.no_grad():
        off = again.model.backbone(**again.model.model_inputs(batch), logits_to_keep=1).logits
    expected = plain.backbone(**plain.model_inputs(batch), logits_to_keep=1).logits
    torch.testing.assert_close(off, expected)


def test_an_adapter_of_another_size_is_refused(parent: Path, tmp_path: Path) -> None:
    config = config_for(parent)
    trained = load_for_training(config, CPU)
    saved = save_trained(trained, config, "cold-start", tiny_pairs(1), {}, Calibration({}), tmp_path / "r" / "checkpoint")
    with pytest.raises(ValueError, match="has an adapter"):
        load_for_training(config_for(saved, lora=False), CPU)
    other = replace(config, model=replace(config.model, lora=AdapterConfig(r=8, alpha=4)))
    with pytest.raises(ValueError, match="r 2 and alpha 4"):
        load_for_training(other, CPU, str(saved))
    with pytest.raises(ValueError, match="holds no vision weights"):
        set_trainable(load_for_training(config, CPU, str(saved)).model, config_for(saved, "tuned"), "cold-start")


def test_rollouts_that_go_on_from_a_cache_and_gradient_checkpointing_exclude_each_other() -> None:
    torch.manual_seed(0)
    model, config = DeScoreModel(*qwen3_5(), ScoringModule(64)), tiny_config()
    checkpointing = replace(config, model=replace(config.model, gradient_checkpointing=True))
    with pytest.raises(ValueError, match=r"set model\.gradient_checkpointing to false for dual-rl"):
        set_trainable(model, checkpointing, "dual-rl")
    set_trainable(model, checkpointing, "cold-start")
    set_trainable(model, config, "dual-rl")
    assert any("linear_attn.in_proj_qkv" in name for name in trained_names(model))


def test_a_bare_backbone_gets_a_scoring_module_that_the_seed_decides(tmp_path: Path) -> None:
    tiny_backbone().save_pretrained(tmp_path / "bare")
    tiny_processor().save_pretrained(tmp_path / "bare")
    config = config_for(tmp_path / "bare")
    one, same, other = (
        load_for_training(replace(config, seed=seed), CPU).model.require_scoring().query_token for seed in (0, 0, 1)
    )
    assert torch.equal(one, same)
    assert not torch.equal(one, other)


def test_what_trains_is_float32() -> None:
    half = tiny_judge().model
    half.backbone.to(torch.bfloat16)
    set_trainable(half, tiny_config(), "cold-start")
    assert {p.dtype for p in half.parameters() if p.requires_grad} == {torch.float32}
    assert torch.bfloat16 in {p.dtype for p in half.parameters() if not p.requires_grad}


def test_the_data_hash_hangs_on_what_training_sees() -> None:
    pairs = tiny_pairs(3)
    assert data_hash(pairs) == data_hash(pairs[::-1])
    moved = replace(pairs[0], videos=(Path("elsewhere/a.mp4"), Path("elsewhere/b.mp4")))
    assert data_hash([moved, *pairs[1:]]) == data_hash(pairs)
    for changed in (replace(pairs[0], label=0), replace(pairs[0], thoughts=None), replace(pairs[0], strength=2.0)):
        assert data_hash([changed, *pairs[1:]]) != data_hash(pairs)
    assert code_version() == code_version()
    assert code_version().startswith("sources-")


def test_held_out_pairs_are_judged_as_the_judge_would(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    judge, pairs = tiny_judge(thought_tokens=8), tiny_pairs(3)
    reader = tiny_reader(pairs, tmp_path)
    lost = replace(pairs[0], identity="lost", contents=("0" * 64, pairs[0].contents[1]))
    judged = judge_pairs(
        judge.model, reader, [*pairs, lost], Accelerator(cpu=True), Precision("cpu", False), max_tokens=8, pairs_at_once=2
    )
    assert [one.identity for one in judged.pairs] == [f"pair-{index}" for index in range(3)]
    assert len(judged.problems) == 1
    assert "lost" in judged.problems[0]
    row = reader.rows(pairs[1])[0]
    state = judge.model.prefill(collate([row], 0))
    assert judged.pairs[1].quick[0] == pytest.approx(judge.model.score(state).item(), abs=1e-4)
    for _ in judge.model.think(state, 8):
        pass
    assert judged.pairs[1].think[0] == pytest.approx(judge.model.score(state).item(), abs=1e-4)
    # Read some, judge some: the pixels of all held-out videos would not fit into memory.
    at_work: list[str] = []
    read, prefill = reader.rows, judge.model.prefill
    monkeypatch.setattr(reader, "rows", lambda pair: (at_work.append(pair.identity), read(pair))[1])
    monkeypatch.setattr(judge.model, "prefill", lambda *args: (at_work.append("judge"), prefill(*args))[1])
    again = judge_pairs(
        judge.model,
        reader,
        [pairs[0], lost, *pairs[1:], lost],
        Accelerator(cpu=True),
        Precision("cpu", False),
        max_tokens=8,
        pairs_at_once=2,
        on_progress=lambda done, total: at_work.append(f"{done}/{total}"),
    )
    assert " ".join(at_work) == "pair-0 lost judge 2/5 pair-1 pair-2 judge 4/5 lost 5/5"
    for one, other in zip(again.pairs, judged.pairs, strict=True):
        assert (one.identity, one.thoughts) == (other.identity, other.thoughts)
        assert [*one.think, *one.quick] == pytest.approx([*other.think, *other.quick], abs=1e-5)
    report = judged.report()
    assert report["pairs"] == 3
    assert report["strict_format"] == 0
    assert report["quick"]["pairs"] == 3
    assert report["sub_score_exact_match"] == 0
    assert set(TRUTH) == set(DIMENSIONS)
    assert not judged.calibration().modes  # three pairs say nothing about a scale
