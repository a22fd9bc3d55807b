"""A stock export gives, in plain transformers, the rewards of the checkpoint that it was made of."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch
from peft import LoraConfig
from transformers import AutoModelForImageTextToText, AutoProcessor

from descore.__main__ import main
from descore.checkpoints.folder import BaseModel, Manifest, folder_fingerprint, load_checkpoint, locate, read_manifest
from descore.checkpoints.listed_files import MANIFEST_FILE
from descore.checkpoints.stock_export import (
    QUERY_TOKEN,
    REWARD_TOKEN,
    ExportManifest,
    export_checkpoint,
    read_export,
    with_query,
)
from descore.encode import encode
from descore.errors import CheckpointError
from descore.judge import DeScore
from descore.modeling.lora import add_adapter
from descore.modeling.model import DeScoreModel
from descore.video import read_clips
from tests.helpers.paths import ROOT
from tests.helpers.tiny import POLICY, tiny_backbone, tiny_clip, tiny_judge, tiny_processor

if TYPE_CHECKING:
    from descore.video.types import VideoClip

THOUGHT = "<think>A red circle.</think>"


class Stock:
    """An export in plain transformers."""

    def __init__(self, folder: Path) -> None:
        self.export: ExportManifest = read_export(folder)
        loaded: Any = AutoModelForImageTextToText.from_pretrained(folder, output_loading_info=True)
        self.model, self.report = loaded
        self.processor: Any = AutoProcessor.from_pretrained(folder)

    def logits(self, clip: VideoClip, prompt: str, thought: str) -> torch.Tensor:
        """Of the token that would follow the query token, (V,)."""
        manifest = self.export.checkpoint
        policy, version = manifest.frame_policy, manifest.prompt_version
        inputs = encode(self.processor, [clip], [prompt], [thought], policy=policy, prompt_version=version)
        with torch.inference_mode():
            logits: torch.Tensor = self.model(**with_query(inputs, self.export.query_id)).logits[0, -1]
        return logits

    def reward(self, clip: VideoClip, prompt: str = "A circle", thought: str = THOUGHT) -> float:
        return float(self.logits(clip, prompt, thought)[self.export.reward_id])


def own_reward(judge: DeScore, clip: VideoClip, prompt: str = "A circle", thought: str = THOUGHT) -> float:
    policy, version = judge.manifest.frame_policy, judge.manifest.prompt_version
    inputs = encode(judge.model.processor, [clip], [prompt], [thought], policy=policy, prompt_version=version)
    with torch.inference_mode():
        return float(judge.model.rewards(inputs))


def lora_judge(base: BaseModel | None = None) -> DeScore:
    """A judge with an adapter that changes its rewards, on the embedding matrix too, which is tied."""
    backbone, plain = tiny_backbone(1), tiny_judge()
    pattern = r"model\.language_model\..*\.(q_proj|v_proj|down_proj|embed_tokens)"
    add_adapter(backbone, LoraConfig(r=4, target_modules=pattern, modules_to_save=["merger"]))
    torch.manual_seed(5)
    with torch.no_grad():
        for name, parameter in backbone.named_parameters():
            if "lora_" in name or "modules_to_save" in name:
                parameter.normal_(std=0.1)
    manifest = Manifest("lora", base_model=base, frame_policy=POLICY, prompt_version="compact-1")
    return DeScore(DeScoreModel(backbone, plain.model.processor, plain.model.scoring).eval(), manifest)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_judge().save_pretrained(tmp_path_factory.mktemp("saved") / "tiny")


@pytest.fixture(scope="module")
def exported(checkpoint: Path) -> Path:
    return export_checkpoint(checkpoint, checkpoint.with_name("export"), "float32")


@pytest.mark.slow
def test_the_bundled_checkpoint_gives_its_rewards_in_plain_transformers(tmp_path: Path) -> None:
    stock = Stock(export_checkpoint("bundled", tmp_path / "export", torch.float32))
    judge = DeScore.from_pretrained("bundled", device="cpu", dtype=torch.float32)
    gallery = ROOT / "app" / "gallery"
    for pair in json.loads((gallery / "pairs.json").read_text("utf-8"))[:2]:
        videos = [gallery / pair[side] for side in "ab"]
        judged = judge.score(videos, pair["prompt"])
        for clip, own in zip(read_clips(videos, judge.manifest.frame_policy), judged, strict=True):
            assert stock.reward(clip, pair["prompt"], own.thought) == pytest.approx(own.reward, abs=1e-5)


def test_both_tokens_are_the_next_of_the_tokenizer_and_have_a_row_in_a_padded_vocabulary(
    checkpoint: Path, exported: Path
) -> None:
    stock, judge = Stock(exported), DeScore.from_pretrained(checkpoint)
    tokens, rows = len(judge.model.processor.tokenizer), len(judge.model.backbone.get_input_embeddings().weight)
    export, tokenizer = stock.export, stock.processor.tokenizer
    assert rows == tokens + 5
    assert (export.query_id, export.reward_id, len(tokenizer)) == (tokens, tokens + 1, tokens + 2)
    assert tokenizer.convert_ids_to_tokens([tokens, tokens + 1]) == [QUERY_TOKEN, REWARD_TOKEN]
    assert tokenizer("a" + QUERY_TOKEN)["input_ids"][-1] == export.query_id
    assert {QUERY_TOKEN, REWARD_TOKEN} <= set(tokenizer.all_special_tokens)
    matrices = (stock.model.get_input_embeddings().weight, stock.model.get_output_embeddings().weight)
    assert {len(matrix) for matrix in matrices} == {rows} == {stock.model.config.get_text_config().vocab_size}
    assert matrices[0].data_ptr() != matrices[1].data_ptr()
    assert not matrices[1][tokens + 2 :].any(), "a bias is enough to rule out the rows that no token has"
    assert {export.query_id, export.reward_id, *range(tokens, rows)} <= set(export.never_sampled)
    assert not set(export.end_ids) & set(export.never_sampled)
    assert set(export.never_sampled) >= set(judge.model.never_sampled.nonzero().flatten().tolist())
    assert not any(stock.report.values())


def test_rewards_and_next_tokens_stay_what_they_were(checkpoint: Path, exported: Path) -> None:
    stock, judge = Stock(exported), DeScore.from_pretrained(checkpoint)
    for seed in range(3):
        assert stock.reward(tiny_clip(seed)) == pytest.approx(own_reward(judge, tiny_clip(seed)), abs=1e-5)
    ids = torch.arange(20)[None]
    with torch.inference_mode():
        own, exported_logits = (model(input_ids=ids).logits for model in (judge.model.backbone, stock.model))
    tokens = stock.export.query_id
    assert torch.allclose(own[..., :tokens], exported_logits[..., :tokens], atol=1e-5)


def test_a_vocabulary_without_padding_becomes_two_rows_longer(tmp_path: Path) -> None:
    judge = tiny_judge()
    tokens = len(judge.model.processor.tokenizer)
    judge.model.backbone.resize_token_embeddings(tokens)
    fitted = DeScore(DeScoreModel(judge.model.backbone, judge.model.processor, judge.model.scoring).eval(), judge.manifest)
    stock = Stock(export_checkpoint(fitted.save_pretrained(tmp_path / "fitted"), tmp_path / "export", "float32"))
    assert stock.model.config.get_text_config().vocab_size == tokens + 2 == len(stock.processor.tokenizer)
    assert stock.reward(tiny_clip(1)) == pytest.approx(own_reward(fitted, tiny_clip(1)), abs=1e-5)


@pytest.mark.parametrize("base", ["embedded", "base model"])
def test_an_adapter_is_merged(tmp_path: Path, checkpoint: Path, base: str) -> None:
    judge = lora_judge(None if base == "embedded" else BaseModel(str(checkpoint)))
    folder = judge.save_pretrained(tmp_path / "lora")
    assert (folder / "backbone").exists() == (base == "embedded")
    stock = Stock(export_checkpoint(folder, tmp_path / "export", "float32"))
    own = own_reward(judge, tiny_clip(1))
    assert stock.reward(tiny_clip(1)) == pytest.approx(own, abs=1e-5)
    assert abs(own - own_reward(tiny_judge(), tiny_clip(1))) > 1e-2, "the adapter changes the reward"
    assert stock.export.checkpoint.base_model is None
    assert not any("lora" in name for name in stock.model.state_dict())


def test_the_manifest_holds_what_a_judge_needs(checkpoint: Path, exported: Path) -> None:
    export, manifest = read_export(exported), read_manifest(checkpoint)
    assert export.checkpoint == manifest
    assert export.fingerprint == folder_fingerprint(checkpoint)
    assert export.dtype == "float32"
    assert ExportManifest.from_dict(json.loads(json.dumps(export.to_dict()))) == export


def test_bfloat16_on_request(checkpoint: Path, tmp_path: Path) -> None:
    stock = Stock(export_checkpoint(checkpoint, tmp_path / "export", "bfloat16"))
    assert (stock.model.dtype, stock.export.dtype) == (torch.bfloat16, "bfloat16")


def test_an_export_is_not_taken_for_a_checkpoint(checkpoint: Path, exported: Path) -> None:
    with pytest.raises(CheckpointError, match=r"stock export.*descore import"):
        load_checkpoint(exported)
    with pytest.raises(CheckpointError, match="stock export"):
        read_manifest(locate(exported)[0])
    with pytest.raises(CheckpointError, match="is no stock export"):
        read_export(checkpoint)


def test_only_an_export_is_replaced(checkpoint: Path, tmp_path: Path) -> None:
    before = folder_fingerprint(checkpoint)
    with pytest.raises(CheckpointError, match="holds a checkpoint"):
        export_checkpoint(checkpoint, checkpoint)
    assert folder_fingerprint(checkpoint) == before
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "diary.txt").write_text("dear diary")
    with pytest.raises(CheckpointError, match="is no checkpoint; choose another folder"):
        export_checkpoint(checkpoint, tmp_path / "notes")
    export_checkpoint(checkpoint, tmp_path / "export", "bfloat16")
    export_checkpoint(checkpoint, tmp_path / "export", "float32")
    assert read_export(tmp_path / "export").dtype == "float32"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["export", "notes"]


def test_what_has_no_reward_is_not_exported(tmp_path: Path) -> None:
    tiny_backbone().save_pretrained(tmp_path / "bare")
    tiny_processor().save_pretrained(tmp_path / "bare")
    with pytest.raises(CheckpointError, match="no scoring module"):
        export_checkpoint(tmp_path / "bare", tmp_path / "export")
    with pytest.raises(CheckpointError, match="is no dtype of weights"):
        export_checkpoint("bundled", tmp_path / "export", "int8")
    assert [path.name for path in tmp_path.iterdir()] == ["bare"]


def test_a_backbone_that_changes_its_embeddings_is_refused(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Some families scale what they look up; the query token, which is put in behind that, would be scaled too."""
    plain = torch.nn.Embedding.forward
    monkeypatch.setattr(torch.nn.Embedding, "forward", lambda self, ids: plain(self, ids) * 8.0)
    with pytest.raises(CheckpointError, match="more with embeddings or logits"):
        export_checkpoint(checkpoint, tmp_path / "export", "float32")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda values: values.update(export_version=9), "export version 9"),
        (lambda values: values.update(query_id=values["reward_id"]), "ids"),
        (lambda values: values.update(end_ids=[]), "no token that ends"),
        (lambda values: values.pop("never_sampled"), "no manifest of an export"),
        (lambda values: values["files"].pop("config.json"), "does not list"),
        (lambda values: values["files"]["config.json"].update(bytes=3), "fetch it again"),
    ],
)
def test_a_damaged_export_is_refused(exported: Path, tmp_path: Path, change: Any, reason: str) -> None:
    for path in exported.iterdir():
        (tmp_path / path.name).symlink_to(path)
    values = json.loads((tmp_path / MANIFEST_FILE).read_text("utf-8"))
    change(values)
    (tmp_path / MANIFEST_FILE).unlink()
    (tmp_path / MANIFEST_FILE).write_text(json.dumps(values))
    with pytest.raises(CheckpointError, match=reason):
        read_export(tmp_path)


def test_the_command(checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["export", str(checkpoint), str(tmp_path / "out"), "--dtype", "float32"]) == 0
    printed = capsys.readouterr()
    assert printed.out == f"{tmp_path / 'out'}\n"
    assert f"query token {read_export(tmp_path / 'out').query_id}" in printed.err
    assert main(["export", "/no/such/place", str(tmp_path / "other")]) == 2
