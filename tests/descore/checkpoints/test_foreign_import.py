"""Reward models in other layouts become checkpoints that give the rewards that they gave before, in plain transformers."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file

from descore.__main__ import main
from descore.checkpoints.folder import load_checkpoint, read_manifest
from descore.checkpoints.foreign_import import ImportConfig, import_checkpoint
from descore.checkpoints.stock_export import export_checkpoint, with_query
from descore.encode import encode
from descore.errors import CheckpointError
from descore.judge import DeScore
from descore.modeling.lora import adapter_config
from tests.helpers.tiny import POLICY, tiny_backbone, tiny_clip, tiny_judge, tiny_processor

SETTINGS = ImportConfig(prompt_version="compact-1", frame_policy=POLICY, max_thought_tokens=24)
THOUGHT = "<think>A red circle.</think>"
TARGETS = r"model\.language_model\..*\.(q_proj|v_proj|down_proj)"


def batch(processor: Any) -> dict[str, torch.Tensor]:
    return encode(processor, [tiny_clip(1)], ["A circle"], [THOUGHT], policy=POLICY, prompt_version="compact-1")


def plain_reward(backbone: Any, processor: Any, query_id: int, head: torch.Tensor) -> float:
    """The reward as another program computes it: the query token is a token of the vocabulary."""
    with torch.inference_mode():
        hidden = backbone.model(**with_query(batch(processor), query_id)).last_hidden_state[0, -1]
        return float(hidden @ head[0])


def imported_reward(folder: Path) -> float:
    judge = DeScore.from_pretrained(folder, device="cpu", dtype=torch.float32)
    with torch.inference_mode():
        return float(judge.model.rewards(batch(judge.model.processor)))


def with_reward_token() -> tuple[Any, Any, int]:
    """A backbone and a processor whose tokenizer has `<Reward>`, which is the next token; the vocabulary has no padding."""
    processor, backbone = copy.deepcopy(tiny_processor()), tiny_backbone(1)
    processor.tokenizer.add_special_tokens({"extra_special_tokens": ["<Reward>"]}, replace_extra_special_tokens=False)
    index = int(processor.tokenizer.convert_tokens_to_ids("<Reward>"))
    backbone.resize_token_embeddings(index + 1)
    torch.manual_seed(3)
    with torch.no_grad():
        backbone.get_input_embeddings().weight[index].normal_()
    return backbone, processor, index


def a_head() -> torch.Tensor:
    return torch.randn(1, 64, generator=torch.Generator().manual_seed(9)) / 8


@pytest.fixture
def reward_token(tmp_path: Path) -> tuple[Path, float]:
    """A folder of layout reward-token, and its reward."""
    (backbone, processor, index), folder, head = with_reward_token(), tmp_path / "reward-token", a_head()
    backbone.save_pretrained(folder)
    processor.save_pretrained(folder)
    torch.save({"rm_head.weight": head}, folder / "rm_head.pth")
    return folder, plain_reward(backbone, processor, index, head)


def test_a_reward_token_and_a_pickled_head(reward_token: tuple[Path, float], tmp_path: Path) -> None:
    folder, reward = reward_token
    made = import_checkpoint(folder, tmp_path / "made", SETTINGS)
    assert imported_reward(made) == pytest.approx(reward, abs=1e-5)
    manifest = read_manifest(made)
    assert (manifest.name, manifest.frame_policy, manifest.max_thought_tokens) == ("reward-token", POLICY, 24)
    record = manifest.lineage["imported"]
    assert (record["layout"], record["source"]) == ("reward-token", "reward-token")
    assert record["head"] == "rm_head.weight of rm_head.pth"
    assert "<Reward>" in record["query"]
    assert str(tmp_path) not in (made / "descore.json").read_text("utf-8")
    assert not list(made.rglob("*.pth"))


def test_such_a_folder_is_never_loaded_without_its_head(reward_token: tuple[Path, float]) -> None:
    with pytest.raises(CheckpointError, match=r"rm_head\.pth.*descore import"):
        load_checkpoint(reward_token[0])


@pytest.fixture
def weight_keys(tmp_path: Path) -> tuple[Path, float]:
    """A folder in shards, the last of which holds a head and a query token, and its reward."""
    (backbone, processor, index), folder, head = with_reward_token(), tmp_path / "weight-keys", a_head()
    query = backbone.get_input_embeddings().weight[index].detach().clone()
    reward = plain_reward(backbone, processor, index, head)
    backbone.resize_token_embeddings(index)
    backbone.save_pretrained(folder, max_shard_size="100KB")
    tiny_processor().save_pretrained(folder)
    save_file(
        {"value.query": query[None, None], "value.head": head[0]}, folder / "model-value.safetensors", {"format": "pt"}
    )
    index_file = folder / "model.safetensors.index.json"
    values = json.loads(index_file.read_text())
    assert len(set(values["weight_map"].values())) > 1
    values["weight_map"] |= dict.fromkeys(("value.query", "value.head"), "model-value.safetensors")
    index_file.write_text(json.dumps(values))
    return folder, reward


def test_a_head_and_a_query_token_in_the_shards(weight_keys: tuple[Path, float], tmp_path: Path) -> None:
    folder, reward = weight_keys
    config = ImportConfig("named", None, "value.head", "value.query", "compact-1", 24, POLICY)
    made = import_checkpoint(folder, tmp_path / "made", config)
    assert imported_reward(made) == pytest.approx(reward, abs=1e-5)
    record = read_manifest(made).lineage["imported"]
    assert (record["layout"], record["head"], record["query"]) == ("weight-keys", "value.head", "value.query")
    assert read_manifest(made).name == "named"


def test_weights_that_nobody_used_are_named(weight_keys: tuple[Path, float], tmp_path: Path) -> None:
    folder, _ = weight_keys
    with pytest.raises(CheckpointError, match=r"no place for \(value\.head, value\.query\)"):
        load_checkpoint(folder)
    only_head = ImportConfig(head_key="value.head", query_key="value.head")
    with pytest.raises(CheckpointError, match=r"no place for \(value\.query\)"):
        import_checkpoint(folder, tmp_path / "made", only_head)
    with pytest.raises(CheckpointError, match="name the head's weight with --head-key"):
        import_checkpoint(folder, tmp_path / "made")
    with pytest.raises(CheckpointError, match=r"no weight 'v_head'; it has .*value\.head"):
        import_checkpoint(folder, tmp_path / "made", ImportConfig(head_key="v_head"))
    with pytest.raises(CheckpointError, match="has no token <Reward>; name the query token's weight with --query-key"):
        save_file({"value.head": a_head()}, folder / "model-value.safetensors", {"format": "pt"})
        path = folder / "model.safetensors.index.json"
        values = json.loads(path.read_text())
        del values["weight_map"]["value.query"]
        path.write_text(json.dumps(values))
        import_checkpoint(folder, tmp_path / "made", ImportConfig(head_key="value.head"))
    with pytest.raises(CheckpointError, match="needs 64 values"):
        wrong = "model.language_model.layers.0.mlp.down_proj.weight"
        import_checkpoint(folder, tmp_path / "made", ImportConfig(head_key="value.head", query_key=wrong))
    assert not (tmp_path / "made").exists()


def test_weights_in_a_file_that_transformers_passes_over_are_named_too(
    reward_token: tuple[Path, float], tmp_path: Path
) -> None:
    folder, reward = reward_token
    save_file({"style.head": a_head()}, folder / "second_head.safetensors")
    with pytest.raises(CheckpointError, match=r"nothing uses \(style\.head\)"):
        import_checkpoint(folder, tmp_path / "made", SETTINGS)
    (folder / "rm_head.pth").unlink()
    config = ImportConfig(head_key="style.head", prompt_version="compact-1", frame_policy=POLICY)
    assert imported_reward(import_checkpoint(folder, tmp_path / "made", config)) == pytest.approx(reward, abs=1e-5)


@pytest.fixture
def base(tmp_path: Path) -> Path:
    """A bare backbone whose vocabulary has no padding."""
    backbone, processor = tiny_backbone(1), tiny_processor()
    backbone.resize_token_embeddings(len(processor.tokenizer))
    backbone.save_pretrained(tmp_path / "base")
    processor.save_pretrained(tmp_path / "base")
    return tmp_path / "base"


def peft_folder(folder: Path, base: Path, head_inside: bool, trained_matrix: bool = False) -> float:
    """Write a peft folder on `base`, with `<Reward>` in a vocabulary that grew by it; return its reward."""
    backbone, processor, index = with_reward_token()
    backbone.rm_head = torch.nn.Linear(64, 1, bias=False)
    backbone.config.tie_word_embeddings = backbone.config.text_config.tie_word_embeddings = False
    matrix = backbone.get_input_embeddings().weight.detach().clone()
    if trained_matrix:
        matrix *= 1.5
    backbone.get_input_embeddings().weight = torch.nn.Parameter(matrix)
    saved = ["rm_head"] if head_inside else None
    model = get_peft_model(backbone, LoraConfig(r=4, target_modules=TARGETS, modules_to_save=saved))
    torch.manual_seed(5)
    head = a_head()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_" in name:
                parameter.normal_(std=0.1)
            elif "rm_head" in name:
                parameter.copy_(head)
    model.save_pretrained(folder, save_embedding_layers=True)
    processor.tokenizer.save_pretrained(folder)
    if not head_inside:
        torch.save({"rm_head.weight": head}, folder / "rm_head.pth")
    settings = json.loads((folder / "adapter_config.json").read_text())
    (folder / "adapter_config.json").write_text(json.dumps({**settings, "base_model_name_or_path": str(base)}))
    return plain_reward(model.base_model.model.eval(), processor, index, head)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("head_inside", [True, False], ids=["head among its weights", "head in rm_head.pth"])
def test_a_peft_folder_on_a_base(base: Path, tmp_path: Path, head_inside: bool) -> None:
    reward = peft_folder(tmp_path / "peft", base, head_inside)
    assert any("embed_tokens" in key for key in load_file(tmp_path / "peft" / "adapter_model.safetensors"))
    made = import_checkpoint(tmp_path / "peft", tmp_path / "made", SETTINGS)
    assert imported_reward(made) == pytest.approx(reward, abs=1e-5)
    manifest, record = read_manifest(made), read_manifest(made).lineage["imported"]
    assert manifest.base_model is not None
    assert manifest.base_model.source == str(base)
    assert not (made / "backbone").exists()
    assert (record["layout"], record["base"]) == ("adapter", "base")
    assert record["head"] == ("rm_head.weight" if head_inside else "rm_head.weight of rm_head.pth")
    assert adapter_config(load_checkpoint(made)[0].backbone) is not None


@pytest.mark.filterwarnings("ignore")
def test_a_peft_folder_that_trained_its_embeddings_brings_its_own_backbone(base: Path, tmp_path: Path) -> None:
    reward = peft_folder(tmp_path / "peft", base, head_inside=True, trained_matrix=True)
    made = import_checkpoint(tmp_path / "peft", tmp_path / "made", SETTINGS)
    assert imported_reward(made) == pytest.approx(reward, abs=1e-5)
    assert read_manifest(made).base_model is None
    assert (made / "backbone" / "config.json").is_file()


@pytest.mark.filterwarnings("ignore")
def test_a_peft_folder_that_does_not_fit_is_refused(base: Path, tmp_path: Path) -> None:
    peft_folder(tmp_path / "peft", base, head_inside=True)
    path = tmp_path / "peft" / "adapter_model.safetensors"
    save_file({**load_file(path), "base_model.model.v_head.weight": a_head()}, path)
    with pytest.raises(CheckpointError, match=r"nothing uses \(v_head\.weight\)"):
        import_checkpoint(tmp_path / "peft", tmp_path / "made", SETTINGS)
    with pytest.raises(CheckpointError, match="there is no checkpoint folder"):
        import_checkpoint(tmp_path / "peft", tmp_path / "made", ImportConfig(base=str(tmp_path / "nowhere")))
    settings = json.loads((tmp_path / "peft" / "adapter_config.json").read_text())
    settings["base_model_name_or_path"] = None
    (tmp_path / "peft" / "adapter_config.json").write_text(json.dumps(settings))
    with pytest.raises(CheckpointError, match="name it with --base"):
        import_checkpoint(tmp_path / "peft", tmp_path / "made", SETTINGS)


def test_an_export_comes_back_with_the_same_rewards_and_goes_out_again(tmp_path: Path) -> None:
    judge = tiny_judge()
    with torch.inference_mode():
        reward = float(judge.model.rewards(batch(judge.model.processor)))
    saved = judge.save_pretrained(tmp_path / "saved")
    exported = export_checkpoint(saved, tmp_path / "export", "float32")
    made = import_checkpoint(exported, tmp_path / "back")
    assert imported_reward(made) == pytest.approx(reward, abs=1e-5)
    before, after = read_manifest(saved), read_manifest(made)
    assert (after.name, after.frame_policy, after.calibration) == (before.name, before.frame_policy, before.calibration)
    assert after.lineage["imported"]["layout"] == "stock-export"
    again = export_checkpoint(made, tmp_path / "export-2", "float32")
    first, second = (load_file(folder / "model.safetensors") for folder in (exported, again))
    assert first.keys() == second.keys()
    assert all(torch.equal(first[key], second[key]) for key in first)
    with pytest.raises(CheckpointError, match="holds a stock export; choose another folder"):
        import_checkpoint(exported, exported)


class Evil:
    """A pickle that runs code where it is opened without care."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> Any:
        return (Path.touch, (self.trace,))


def test_a_pickle_runs_nothing_and_holds_the_head_alone(reward_token: tuple[Path, float], tmp_path: Path) -> None:
    folder, _ = reward_token
    for content, reason in (
        ({"rm_head.weight": Evil(tmp_path / "ran")}, "can't be read as weights"),
        ({"rm_head.weight": a_head(), "rm_head.bias": torch.ones(1)}, r"nothing uses: rm_head\.bias"),
        ({"head": a_head()}, r"holds no rm_head\.weight"),
        ({"rm_head.weight": torch.ones(2, 64)}, "needs 64 values"),
        ({"rm_head.weight": torch.full((1, 64), torch.nan)}, "not finite"),
    ):
        torch.save(content, folder / "rm_head.pth")
        with pytest.raises(CheckpointError, match=reason):
            import_checkpoint(folder, tmp_path / "made", SETTINGS)
    assert not (tmp_path / "ran").exists()
    assert not (tmp_path / "made").exists()


def test_what_is_no_foreign_model_is_refused(tmp_path: Path) -> None:
    saved = tiny_judge().save_pretrained(tmp_path / "saved")
    with pytest.raises(CheckpointError, match="is a checkpoint of this program already"):
        import_checkpoint(saved, tmp_path / "made")
    (tmp_path / "empty").mkdir()
    with pytest.raises(CheckpointError, match="no model to import"):
        import_checkpoint(tmp_path / "empty", tmp_path / "made")


def test_the_command(reward_token: tuple[Path, float], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder, reward = reward_token
    frames = json.dumps(POLICY.to_dict())
    arguments = ["import", str(folder), str(tmp_path / "made"), "--prompt-version", "compact-1", "--frames", frames]
    assert main([*arguments, "--name", "theirs", "--max-thought-tokens", "99"]) == 0
    assert capsys.readouterr().out == f"{tmp_path / 'made'}\n"
    manifest = read_manifest(tmp_path / "made")
    assert (manifest.name, manifest.max_thought_tokens, manifest.frame_policy) == ("theirs", 99, POLICY)
    assert imported_reward(tmp_path / "made") == pytest.approx(reward, abs=1e-5)
    with pytest.raises(SystemExit):
        main([*arguments[:-1], '{"fps": -1}'])
    assert "fps must be a positive number" in capsys.readouterr().err
