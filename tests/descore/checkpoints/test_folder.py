"""The checkpoint folder: round trips, atomic writing, and every reason to refuse."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from peft import LoraConfig
from safetensors.torch import load_file, save_file

from descore.calibration import Calibration, ModeCalibration
from descore.checkpoints import folder as checkpoint
from descore.checkpoints.folder import MANIFEST_FILE, BaseModel, Manifest, load_checkpoint
from descore.checkpoints.listed_files import SCORING_FILE
from descore.encode import encode
from descore.errors import CheckpointError
from descore.judge import DeScore
from descore.modeling.lora import add_adapter
from descore.modeling.model import DeScoreModel
from descore.modeling.scoring_head import ScoringModule
from tests.helpers.tiny import POLICY, tiny_backbone, tiny_clip, tiny_judge, tiny_processor


def reward(judge: DeScore) -> float:
    inputs = encode(
        judge.model.processor, [tiny_clip(1)], ["A circle"], ["<think>a</think>"],
        policy=judge.manifest.frame_policy, prompt_version=judge.manifest.prompt_version,
    )  # fmt: skip
    with torch.inference_mode():
        return float(judge.model.rewards(inputs))


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_judge().save_pretrained(tmp_path_factory.mktemp("saved") / "tiny")


@pytest.fixture
def folder(saved: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(saved, tmp_path / "copy"))


def test_round_trip(tmp_path: Path) -> None:
    scale = ModeCalibration(mean=0.1, std=2.0, temperature=1.5, tie_threshold=0.3, reference_videos=9, validation_pairs=4)
    judge = tiny_judge()
    judge.manifest = replace(
        judge.manifest,
        calibration=Calibration({"think": scale}),
        lineage={"parent": None, "seed": 3},
        metrics={"test": {"accuracy_without_ties": 0.931, "accuracy_without_ties_interval": [0.9, 0.95], "pairs": 400}},
    )
    folder = judge.save_pretrained(tmp_path / "deep" / "tiny")
    again = DeScore.from_pretrained(folder)
    assert again.manifest == judge.manifest
    assert again.has_reward
    assert reward(again) == pytest.approx(reward(judge), abs=1e-6)
    for key, value in judge.model.state_dict().items():
        assert torch.equal(again.model.state_dict()[key], value), key
    card = (folder / "README.md").read_text()
    assert card.startswith("---\nlibrary_name:")
    assert "| accuracy without ties | 0.931 (0.900 to 0.950) |" in card
    assert sorted(path.name for path in (tmp_path / "deep").iterdir()) == ["tiny"], "no temporary folder is left"


def test_the_scoring_module_has_its_own_file(saved: Path) -> None:
    tensors = load_file(saved / SCORING_FILE)
    assert {key: tuple(value.shape) for key, value in tensors.items()} == {
        "query_token": (64,),
        "head.weight": (1, 64),
    }
    assert all(value.dtype == torch.float32 for value in tensors.values())


def test_saving_again_replaces_and_a_failed_save_leaves_the_old_one(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    judge = DeScore.from_pretrained(folder)
    assert judge.model.scoring is not None
    with torch.no_grad():
        judge.model.scoring.head.weight.mul_(2)
    judge.save_pretrained(folder)
    assert reward(DeScore.from_pretrained(folder)) == pytest.approx(reward(judge), abs=1e-6)
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}

    def full_disk(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(judge.model.processor, "save_pretrained", full_disk, raising=False)
    with pytest.raises(CheckpointError, match="no room left to write"):
        judge.save_pretrained(folder)
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]


def test_a_crash_between_the_two_renames_loses_nothing(folder: Path) -> None:
    expected = reward(DeScore.from_pretrained(folder))
    folder.rename(folder.with_name(f".{folder.name}.previous"))
    assert reward(DeScore.from_pretrained(folder)) == pytest.approx(expected, abs=1e-6)
    tiny_judge().save_pretrained(folder)
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]


def test_nothing_but_a_checkpoint_is_ever_overwritten(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("precious")
    with pytest.raises(CheckpointError, match="is no checkpoint"):
        tiny_judge().save_pretrained(tmp_path)
    assert (tmp_path / "thesis.txt").read_text() == "precious"
    bare = DeScore(DeScoreModel(tiny_backbone(), tiny_processor()), tiny_judge().manifest)
    with pytest.raises(CheckpointError, match="no scoring module"):
        bare.save_pretrained(tmp_path / "bare")


def edit(key: str, value: object) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        manifest = json.loads((folder / MANIFEST_FILE).read_text())
        manifest[key] = value
        (folder / MANIFEST_FILE).write_text(json.dumps(manifest))

    return change


def rewrite_head(tensors: dict[str, torch.Tensor]) -> Callable[[Path], None]:
    """Another head, with a manifest that vouches for it: what a wrong tool would write."""

    def change(folder: Path) -> None:
        manifest = json.loads((folder / MANIFEST_FILE).read_text())
        save_file(tensors, folder / SCORING_FILE)
        data = (folder / SCORING_FILE).read_bytes()
        manifest["files"][SCORING_FILE] = {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
        (folder / MANIFEST_FILE).write_text(json.dumps(manifest))

    return change


def flip_a_byte(name: str) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        data = bytearray((folder / name).read_bytes())
        data[-1] ^= 1
        (folder / name).write_bytes(bytes(data))

    return change


DAMAGE: dict[str, tuple[Callable[[Path], None], str]] = {
    "head missing": (lambda f: (f / SCORING_FILE).unlink(), r"scoring.safetensors is missing"),
    "weights missing": (
        lambda f: (f / "backbone/model.safetensors").unlink(),
        r"model.safetensors is missing",
    ),
    "processor missing": (lambda f: (f / "backbone/tokenizer.json").unlink(), r"tokenizer.json is missing"),
    "backbone missing": (lambda f: shutil.rmtree(f / "backbone"), r"is missing"),
    "weights cut short": (
        lambda f: (f / "backbone/model.safetensors").write_bytes(b"x" * 10),
        r"10 bytes instead of",
    ),
    "weights changed": (flip_a_byte("backbone/model.safetensors"), r"hash differs"),
    "head changed": (flip_a_byte(SCORING_FILE), r"hash differs"),
    "manifest cut short": (lambda f: (f / MANIFEST_FILE).write_text('{"format_v'), r"can't be read"),
    "manifest no object": (lambda f: (f / MANIFEST_FILE).write_text("[]"), r"not a JSON object"),
    "newer format": (edit("format_version", 99), r"format version 99.*update descore"),
    "unknown prompt": (edit("prompt_version", "future-9"), r"unknown prompt version"),
    "unknown key": (edit("surprise", 1), r"unknown \['surprise'\]"),
    "other dimensions": (edit("dimensions", ["beauty"]), r"beauty"),
    "bad frame policy": (edit("frame_policy", {"fps": -1}), r"fps must be"),
    "bad calibration": (edit("calibration", {"think": {"mean": 1}}), r"calibration"),
    "head not listed": (edit("files", {}), r"does not list scoring.safetensors"),
    "escaping file name": (edit("files", {SCORING_FILE: {}, "../x": {}}), r"."),
    "wrong shape": (
        rewrite_head({"query_token": torch.zeros(8), "head.weight": torch.zeros(1, 8)}),
        r"must hold",
    ),
    "wrong tensors": (rewrite_head({"query_token": torch.zeros(64)}), r"must hold"),
    "head not finite": (
        rewrite_head({"query_token": torch.zeros(64), "head.weight": torch.full((1, 64), torch.nan)}),
        r"not finite",
    ),
    "base model gone": (
        edit("base_model", {"source": "/nowhere/at/all", "revision": None}),
        r"no checkpoint folder",
    ),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_an_incomplete_folder_is_refused_with_the_reason(folder: Path, name: str) -> None:
    damage, reason = DAMAGE[name]
    damage(folder)
    with pytest.raises(CheckpointError, match=reason) as caught:
        DeScore.from_pretrained(folder)
    assert "copy" in str(caught.value), "the message names the checkpoint"


@pytest.mark.parametrize(("damage", "reason"), [("lost", "lacks 1 weights"), ("reshaped", "could be loaded")])
def test_backbone_weights_that_do_not_fit_are_refused(tmp_path: Path, damage: str, reason: str) -> None:
    tiny_backbone().save_pretrained(tmp_path)
    tiny_processor().save_pretrained(tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    name = next(key for key in weights if "q_proj" in key)
    lost = weights.pop(name)
    if damage == "reshaped":
        weights[name] = lost[:-1].contiguous()
    save_file(weights, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(CheckpointError, match=reason):
        DeScore.from_pretrained(tmp_path)


@pytest.mark.parametrize("kind", ["checkpoint", "backbone"])
def test_a_hub_id_is_fetched_at_its_commit(saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    commit = "0123456789abcdef0123456789abcdef01234567"
    shutil.copytree(saved if kind == "checkpoint" else saved / "backbone", tmp_path / commit)
    asked: list[tuple[str, str | None]] = []

    def fetch(repo_id: str, revision: str | None = None, **_: object) -> str:
        asked.append((repo_id, revision))
        return str(tmp_path / commit)

    monkeypatch.setattr(checkpoint, "snapshot_download", fetch)
    judge = DeScore.from_pretrained("someone/model")
    assert asked == [("someone/model", None)]
    assert judge.has_reward == (kind == "checkpoint")
    if kind == "backbone":
        assert (judge.name, judge.manifest.base_model) == (
            "someone/model",
            BaseModel("someone/model", commit),
        )


def test_a_hub_that_can_not_be_reached_is_one_clear_error(monkeypatch: pytest.MonkeyPatch) -> None:
    class NetworkDownError(Exception):
        """As HTTP libraries have them: derived from neither OSError nor ValueError."""

    def fetch(*_: object, **__: object) -> str:
        raise NetworkDownError("no route to host")

    monkeypatch.setattr(checkpoint, "snapshot_download", fetch)
    with pytest.raises(CheckpointError, match=r"someone/model is no local folder and can't be fetched.*no route"):
        DeScore.from_pretrained("someone/model")


def test_a_bare_backbone_loads_without_a_reward(tmp_path: Path) -> None:
    tiny_backbone().save_pretrained(tmp_path / "qwen")
    tiny_processor().save_pretrained(tmp_path / "qwen")
    judge = DeScore.from_pretrained(tmp_path / "qwen")
    assert not judge.has_reward
    assert judge.name == "qwen"
    assert judge.manifest.base_model == BaseModel(str(tmp_path / "qwen"))


@pytest.mark.parametrize("where", ["missing", "./missing", "/no/such/folder", "a/b/c"])
def test_a_folder_that_is_not_there(where: str) -> None:
    with pytest.raises(CheckpointError, match="no checkpoint folder"):
        load_checkpoint(where)


def test_an_empty_folder_and_a_backbone_without_video(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="is no checkpoint"):
        DeScore.from_pretrained(tmp_path)
    tiny_processor().tokenizer.save_pretrained(tmp_path)
    tiny_backbone().save_pretrained(tmp_path)
    with pytest.raises(CheckpointError, match=r"processor|video"):
        DeScore.from_pretrained(tmp_path)


def trained_adapter_judge(manifest: Manifest) -> DeScore:
    """A backbone with a LoRA on the language model, a trained merger and a head; adapter weights that
    matter."""
    backbone = tiny_backbone(1)
    pattern = r"model\.language_model\..*\.(q_proj|v_proj|down_proj)"
    add_adapter(backbone, LoraConfig(r=4, target_modules=pattern, modules_to_save=["merger"]))
    torch.manual_seed(5)
    with torch.no_grad():
        for name, parameter in backbone.named_parameters():
            if "lora_" in name or "modules_to_save" in name:
                parameter.normal_(std=0.3)
    return DeScore(DeScoreModel(backbone, tiny_processor(), ScoringModule(64)).eval(), manifest)


@pytest.mark.slow
@pytest.mark.parametrize("base", ["embedded", "bare folder", "other checkpoint"])
def test_adapter_round_trip(saved: Path, tmp_path: Path, base: str) -> None:
    tiny_backbone(1).save_pretrained(tmp_path / "base")
    tiny_processor().save_pretrained(tmp_path / "base")
    source = {
        "embedded": None,
        "bare folder": BaseModel(str(tmp_path / "base")),
        "other checkpoint": BaseModel(str(saved)),
    }
    manifest = Manifest("lora", base_model=source[base], frame_policy=POLICY, prompt_version="compact-1")
    judge = trained_adapter_judge(manifest)
    folder = judge.save_pretrained(tmp_path / "lora")
    assert (folder / "backbone").exists() == (base == "embedded")
    again = DeScore.from_pretrained(folder)
    assert reward(again) == pytest.approx(reward(judge), abs=1e-5)
    plain = DeScore(DeScoreModel(tiny_backbone(1), tiny_processor(), judge.model.scoring).eval(), manifest)
    assert abs(reward(again) - reward(plain)) > 1e-3, "the adapter changes the reward"
    again.save_pretrained(tmp_path / "lora-2")
    assert reward(DeScore.from_pretrained(tmp_path / "lora-2")) == pytest.approx(reward(judge), abs=1e-5)


@pytest.mark.slow
def test_a_float32_adapter_on_a_bfloat16_backbone_loads_and_merges_as_it_was_saved(tmp_path: Path) -> None:
    judge = trained_adapter_judge(Manifest("lora", frame_policy=POLICY, prompt_version="compact-1"))
    folder = judge.save_pretrained(tmp_path / "lora")
    saved = {name: value for name, value in judge.model.backbone.state_dict().items() if ".lora_" in name}
    loaded = load_checkpoint(folder, dtype=torch.bfloat16)[0]
    found = {name: value for name, value in loaded.backbone.state_dict().items() if ".lora_" in name}
    assert found.keys() == saved.keys()
    assert all(torch.equal(found[name], saved[name]) for name in saved)
    assert loaded.backbone.dtype == torch.bfloat16
    unmerged = reward(DeScore(loaded, judge.manifest))
    name = "model.language_model.layers.0.self_attn.q_proj"
    layer = loaded.backbone.get_submodule(name)
    expected = (layer.base_layer.weight.float() + layer.get_delta_weight("default")).bfloat16()
    loaded.merge_adapter()
    assert torch.equal(loaded.backbone.get_submodule(name).weight, expected)
    served = DeScore.from_pretrained(folder, dtype=torch.bfloat16)
    assert {parameter.dtype for parameter in served.model.backbone.parameters()} == {torch.bfloat16}
    assert reward(served) == reward(DeScore(loaded, judge.manifest))
    assert reward(served) == pytest.approx(unmerged, abs=0.1)


def test_a_base_model_that_has_changed_since_is_refused(tmp_path: Path) -> None:
    tiny_processor().save_pretrained(tmp_path / "base")
    tiny_backbone(1).save_pretrained(tmp_path / "base")
    manifest = Manifest("lora", base_model=BaseModel(str(tmp_path / "base")), prompt_version="compact-1")
    folder = trained_adapter_judge(manifest).save_pretrained(tmp_path / "lora")
    DeScore.from_pretrained(folder)
    DeScore.from_pretrained(folder, dtype=torch.bfloat16)
    tiny_backbone(2).save_pretrained(tmp_path / "base")
    with pytest.raises(CheckpointError, match="not the one it was trained on"):
        DeScore.from_pretrained(folder)


def test_an_incomplete_adapter_is_refused(tmp_path: Path) -> None:
    judge = trained_adapter_judge(Manifest("lora", frame_policy=POLICY, prompt_version="compact-1"))
    folder = judge.save_pretrained(tmp_path / "lora")
    weights = load_file(folder / "adapter/adapter_model.safetensors")
    weights.pop(next(iter(weights)))
    save_file(weights, folder / "adapter/adapter_model.safetensors")
    with pytest.raises(CheckpointError, match=r"adapter_model.safetensors has .* bytes"):
        DeScore.from_pretrained(folder)
    manifest = json.loads((folder / MANIFEST_FILE).read_text())
    manifest["files"] = {SCORING_FILE: manifest["files"][SCORING_FILE]}
    (folder / MANIFEST_FILE).write_text(json.dumps(manifest))
    with pytest.raises(CheckpointError, match="another backbone or is incomplete"):
        DeScore.from_pretrained(folder)
