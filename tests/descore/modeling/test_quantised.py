"""Backbones whose weights are quantised: read where that is possible, and else refused with what to install."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForImageTextToText, BitsAndBytesConfig

from descore.encode import encode
from descore.errors import CheckpointError
from descore.modeling.backbone import load_backbone
from descore.modeling.model import DeScoreModel
from descore.modeling.quantised import READERS, check_quantisation, quantisation
from descore.modeling.scoring_head import ScoringModule
from tests.helpers.tiny import POLICY, tiny_backbone, tiny_clip, tiny_processor

WEIGHTS = "model.safetensors"
BLOCK = 128


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A backbone that is not quantised."""
    tiny_backbone().save_pretrained(tmp_path / "backbone")
    tiny_processor().save_pretrained(tmp_path / "backbone")
    return tmp_path / "backbone"


def name_method(folder: Path, **settings: Any) -> None:
    """Have its configuration say how the weights are quantised."""
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"quantization_config": settings}))


def rewards(folder: Path) -> tuple[float, float, float]:
    """Load it and judge a clip: the reward at once, behind a thought from the cache, and behind it in a clean forward."""
    torch.manual_seed(5)
    scoring = ScoringModule(64)
    torch.nn.init.normal_(scoring.query_token)
    backbone, processor = load_backbone(folder, device="cpu", dtype=torch.float32, trained_here=True)
    model = DeScoreModel(backbone, processor, scoring).eval()
    clip, options = tiny_clip(1), {"policy": POLICY, "prompt_version": "compact-1"}
    state = model.prefill(encode(processor, [clip], ["a circle"], **options))
    quick = model.score(state).item()
    list(model.think(state, 8))
    with torch.inference_mode():
        clean = model.rewards(encode(processor, [clip], ["a circle"], state.thoughts, **options)).item()
    return quick, model.score(state).item(), clean


MISSING = [
    (method, reader)
    for method, reader in READERS.items()
    if any(importlib.util.find_spec(module.partition(".")[0]) is None for module in reader.libraries)
]


@pytest.mark.parametrize(("method", "reader"), MISSING, ids=[method for method, _ in MISSING])
def test_a_missing_library_is_named_with_its_device_and_the_other_way(folder: Path, method: str, reader: Any) -> None:
    name_method(folder, quant_method=method, bits=4)
    with pytest.raises(CheckpointError) as refused:
        load_backbone(folder, device="cpu")
    said = str(refused.value)
    assert said.startswith(f"its weights are quantised ({method}), and what reads them is not installed: run `pip install ")
    assert list(reader.libraries.values())[-1] in said
    assert f"on a machine with {reader.runs_on}, or choose weights that are not quantised" in said
    assert "vLLM" in said


def test_a_method_that_nobody_knows_is_not_taken_for_plain_weights(folder: Path) -> None:
    name_method(folder, quant_method="modelopt")
    with pytest.raises(CheckpointError, match=r"a method that transformers does not read \(modelopt\)"):
        load_backbone(folder, device="cpu")


def test_the_method_is_found_wherever_it_stands() -> None:
    inside = {"text_config": {"quantization_config": {"quant_method": "awq"}}}
    assert quantisation({}) is None
    assert quantisation({"quantization_config": None, **inside}) == "awq"
    assert quantisation({"quantization_config": {"load_in_4bit": True}}) == "bitsandbytes"
    check_quantisation({"quantization_config": {"quant_method": "fp8"}})  # no library is needed


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_method_of_gpus_alone_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("descore.modeling.quantised._installed", lambda _module: True)
    with pytest.raises(CheckpointError, match=r"\(fbgemm_fp8\) and run on a GPU of compute capability 9.0"):
        check_quantisation({"quantization_config": {"quant_method": "fbgemm_fp8"}})


@pytest.mark.slow
def test_fp8_in_blocks_is_read_without_a_gpu(folder: Path) -> None:
    quantised, widened = {}, {}
    for name, weight in load_file(folder / WEIGHTS).items():
        quantised[name] = widened[name] = weight
        if "language_model.layers" in name and weight.dim() == 2:
            scale = weight.abs().max() / torch.finfo(torch.float8_e4m3fn).max
            blocks = [-(-size // BLOCK) for size in weight.shape]
            quantised[name] = (weight / scale).to(torch.float8_e4m3fn)
            quantised[name.replace(".weight", ".weight_scale_inv")] = scale.expand(blocks).contiguous()
            widened[name] = quantised[name].float() * scale
    save_file(widened, folder / WEIGHTS, {"format": "pt"})
    expected = rewards(folder)
    save_file(quantised, folder / WEIGHTS, {"format": "pt"})
    left = ["model.visual", "lm_head"]
    name_method(folder, quant_method="fp8", weight_block_size=[BLOCK, BLOCK], modules_to_not_convert=left)
    assert rewards(folder) == pytest.approx(expected, abs=1e-3)


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("bitsandbytes") is None, reason="bitsandbytes is not installed")
@pytest.mark.parametrize(("settings", "tolerance"), [({"load_in_4bit": True}, 1e-3), ({"load_in_8bit": True}, 0.05)])
def test_bitsandbytes_is_read_on_a_cpu(folder: Path, tmp_path: Path, settings: dict[str, Any], tolerance: float) -> None:
    """In 8 bits the activations are quantised too, together for all tokens of a forward."""
    plain = rewards(folder)
    options = {"quantization_config": BitsAndBytesConfig(**settings), "device_map": {"": "cpu"}, "dtype": torch.float32}
    AutoModelForImageTextToText.from_pretrained(folder, **options).save_pretrained(tmp_path / "quantised")
    tiny_processor().save_pretrained(tmp_path / "quantised")
    quick, cached, clean = rewards(tmp_path / "quantised")
    assert cached == pytest.approx(clean, abs=tolerance)
    assert quick != plain[0]
