"""Images and videos are normalised alike, or a checkpoint is put right or refused."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoProcessor, Qwen2VLImageProcessor

from descore.checkpoints.folder import load_checkpoint, locate
from descore.checkpoints.manifest import BaseModel, Manifest
from descore.checkpoints.stock_export import export_checkpoint
from descore.errors import CheckpointError
from descore.judge import DeScore
from descore.modeling.model import DeScoreModel
from descore.modeling.normalisation import differing_settings
from tests.helpers.paths import ROOT
from tests.helpers.tiny import PATCH, tiny_backbone, tiny_judge, tiny_processor, tiny_tokenizer
from trainer.recipe.backbone import build_processor

EARLIER = ROOT / "tests" / "fixtures" / "earlier_checkpoint" / "checkpoint"
CLIP_MEAN = [0.48145466, 0.4578275, 0.40821073]


def other_numbers(folder: Path) -> None:
    """Give the image processor of a backbone's folder CLIP's mean, as earlier checkpoints have it."""
    path = folder / "processor_config.json"
    values = json.loads(path.read_text("utf-8"))
    values["image_processor"]["image_mean"] = CLIP_MEAN
    path.write_text(json.dumps(values))


def test_the_bundled_checkpoint_and_the_recipe_have_one_normalisation() -> None:
    bundled: Any = AutoProcessor.from_pretrained(locate("bundled")[0] / "backbone")
    assert differing_settings(bundled) == {}
    assert list(bundled.image_processor.image_mean) == list(bundled.video_processor.image_mean) == [0.5, 0.5, 0.5]
    assert differing_settings(build_processor(tiny_tokenizer())) == {}
    assert differing_settings(tiny_processor()) == {}


def test_a_bare_backbone_whose_numbers_differ_is_refused_and_told_what_to_set(tmp_path: Path) -> None:
    tiny_backbone().save_pretrained(tmp_path / "bare")
    tiny_processor().save_pretrained(tmp_path / "bare")
    load_checkpoint(tmp_path / "bare")
    other_numbers(tmp_path / "bare")
    for act in (load_checkpoint, lambda folder: export_checkpoint(folder, tmp_path / "export")):
        with pytest.raises(CheckpointError, match="set image_mean of its image_processor") as caught:
            act(tmp_path / "bare")
        assert "\n" not in str(caught.value)
        assert "0.48" in str(caught.value)


def test_an_earlier_checkpoint_is_put_right_in_memory_and_in_what_is_made_of_it(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    on_disk: Any = AutoProcessor.from_pretrained(EARLIER / "backbone")
    assert set(differing_settings(on_disk)) == {"image_mean", "image_std"}
    with caplog.at_level(logging.WARNING, "descore.modeling.normalisation"):
        judge = DeScore.from_pretrained(EARLIER, device="cpu")
    assert "image processor gets the video processor's image_mean, image_std" in caplog.text
    assert differing_settings(judge.model.processor) == {}
    assert list(judge.model.processor.video_processor.image_mean) == [0.5, 0.5, 0.5]
    saved = judge.save_pretrained(tmp_path / "saved")
    exported = export_checkpoint(EARLIER, tmp_path / "export", torch.float32)
    for folder in (saved / "backbone", exported):
        written: Any = AutoProcessor.from_pretrained(folder)
        assert differing_settings(written) == {}
        assert list(written.image_processor.image_mean) == [0.5, 0.5, 0.5]
    caplog.clear()
    DeScore.from_pretrained(saved, device="cpu")
    assert not caplog.text


def test_a_checkpoint_on_an_earlier_base_model_is_put_right_too(tmp_path: Path) -> None:
    """Its adapter was trained by this program on the video processor's numbers, whatever lies in the base model's folder."""
    base, plain = tmp_path / "base", tiny_judge()
    tiny_backbone(1).save_pretrained(base)
    tiny_processor().save_pretrained(base)
    manifest = Manifest("on a base", base_model=BaseModel(str(base)), prompt_version="compact-1")
    model = DeScoreModel(tiny_backbone(1), tiny_processor(), plain.model.scoring).eval()
    folder = DeScore(model, manifest).save_pretrained(tmp_path / "checkpoint")
    other_numbers(base)
    assert differing_settings(DeScore.from_pretrained(folder).model.processor) == {}


def test_what_both_have_is_compared_and_nothing_else() -> None:
    class Processor:
        image_processor = Qwen2VLImageProcessor(patch_size=PATCH, image_mean=(0.5, 0.5, 0.5))
        video_processor = None

    assert differing_settings(Processor()) == {}
    Processor.video_processor = Qwen2VLImageProcessor(patch_size=PATCH, image_mean=[0.5, 0.5, 0.5], do_normalize=False)
    assert differing_settings(Processor()) == {"do_normalize": (True, False)}
