"""Families of backbones: what every one of them has to do, on tiny random models."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from transformers import (
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2_5_VLProcessor,
    Qwen2VLImageProcessor,
    Qwen2VLVideoProcessor,
    Qwen3_5Config,
    Qwen3_5ForConditionalGeneration,
    Qwen3VLMoeConfig,
    Qwen3VLMoeForConditionalGeneration,
)

from descore.encode import encode
from descore.errors import CheckpointError
from descore.modeling.backbone_files import check_quantisation
from descore.modeling.model import DeScoreModel
from descore.modeling.scoring_head import ScoringModule
from tests.helpers.tiny import (
    CHAT_TEMPLATE,
    MERGE,
    PATCH,
    POLICY,
    SPECIAL,
    tiny_backbone,
    tiny_clip,
    tiny_config,
    tiny_processor,
    tiny_tokenizer,
)

PROMPTS = ["a circle", "a longer prompt, which pads the other"]


def qwen3_vl() -> tuple[Any, Any]:
    return tiny_backbone(), tiny_processor()


def qwen3_vl_moe() -> tuple[Any, Any]:
    values = tiny_config().to_dict()
    experts = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32, "decoder_sparse_step": 1}
    for part, extra in (("text_config", experts), ("vision_config", {})):
        values[part] = {**{k: v for k, v in values[part].items() if k != "model_type"}, **extra}
    values = {
        key: value for key, value in values.items() if key not in ("model_type", "architectures", "transformers_version")
    }
    return Qwen3VLMoeForConditionalGeneration._from_config(
        Qwen3VLMoeConfig(**values), attn_implementation="sdpa"
    ), tiny_processor()


def qwen2_5_vl() -> tuple[Any, Any]:
    pieces = {"patch_size": PATCH, "merge_size": MERGE, "temporal_patch_size": 2}
    tokenizer = tiny_tokenizer()
    processor = Qwen2_5_VLProcessor(
        image_processor=Qwen2VLImageProcessor(**pieces),
        tokenizer=tokenizer,
        video_processor=Qwen2VLVideoProcessor(**pieces),
        chat_template=CHAT_TEMPLATE,
    )
    ids = {token: tokenizer.convert_tokens_to_ids(token) for token in SPECIAL}
    config = Qwen2_5_VLConfig(
        text_config={
            "vocab_size": len(tokenizer) + 5, "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 3,
            "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 4096,
            "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [4, 2, 2]},
            "eos_token_id": ids["<|im_end|>"], "pad_token_id": ids["<|endoftext|>"],
        },
        vision_config={
            "depth": 2, "hidden_size": 32, "intermediate_size": 64, "num_heads": 2, "patch_size": PATCH,
            "spatial_merge_size": MERGE, "temporal_patch_size": 2, "out_hidden_size": 64, "window_size": 32,
            "fullatt_block_indexes": [1],
        },
        image_token_id=ids["<|image_pad|>"], video_token_id=ids["<|video_pad|>"],
        vision_start_token_id=ids["<|vision_start|>"], vision_end_token_id=ids["<|vision_end|>"],
    )  # fmt: skip
    return Qwen2_5_VLForConditionalGeneration._from_config(config, attn_implementation="sdpa"), processor


FAMILIES = [qwen3_vl, qwen3_vl_moe, qwen2_5_vl]


@pytest.fixture(params=FAMILIES, ids=lambda make: make.__name__)
def model(request: pytest.FixtureRequest) -> DeScoreModel:
    torch.manual_seed(0)
    backbone, processor = request.param()
    scoring = ScoringModule(64)
    torch.nn.init.normal_(scoring.query_token)
    return DeScoreModel(backbone, processor, scoring).eval()


def rows(model: DeScoreModel, which: tuple[int, ...] = (0, 1), thoughts: Any = None) -> dict[str, torch.Tensor]:
    clips = [tiny_clip(1, frames=4), tiny_clip(2, frames=6)]
    chosen = [clips[index] for index in which], [PROMPTS[index] for index in which]
    return encode(model.processor, *chosen, thoughts, policy=POLICY, prompt_version="compact-1")


@pytest.mark.parametrize("times", [1, 3])
def test_rewards_from_the_cache_are_those_of_clean_forwards(model: DeScoreModel, times: int) -> None:
    state = model.prefill(rows(model))
    if times > 1:
        state = model.repeat(state, times)
    quick = model.score(state)
    uniforms = torch.rand(2 * times, 10, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    list(model.think(state, 10, uniforms if times > 1 else None))
    think = model.score(state)
    with torch.inference_mode():
        for index, thought in enumerate(state.thoughts):
            which = (index // times,)
            assert model.rewards(rows(model, which)).item() == pytest.approx(quick[index].item(), abs=1e-4)
            assert model.rewards(rows(model, which, [thought])).item() == pytest.approx(think[index].item(), abs=1e-4)
    assert not torch.allclose(quick, think)


@pytest.mark.parametrize("frames", [4, 8])
def test_the_pixel_budget_is_that_of_each_frame(model: DeScoreModel, frames: int) -> None:
    budget = replace(POLICY, max_pixels_per_frame=64 * 64, min_pixels_per_frame=16 * 16)
    batch = encode(model.processor, [tiny_clip(1, frames, 256, 192)], ["a"], policy=budget, prompt_version="compact-1")
    _, height, width = (batch["video_grid_thw"][0] * PATCH).tolist()
    assert 0.6 * 64 * 64 <= height * width <= 64 * 64


def test_layers_that_keep_one_state_are_refused_by_name() -> None:
    text = {
        "vocab_size": 330, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2,
        "num_key_value_heads": 1, "head_dim": 16, "layer_types": ["linear_attention", "full_attention"],
        "linear_num_key_heads": 2, "linear_num_value_heads": 2, "linear_key_head_dim": 16, "linear_value_head_dim": 16,
    }  # fmt: skip
    vision = {"depth": 1, "hidden_size": 32, "intermediate_size": 32, "num_heads": 2, "out_hidden_size": 32}
    backbone = Qwen3_5ForConditionalGeneration._from_config(Qwen3_5Config(text_config=text, vision_config=vision))
    with pytest.raises(CheckpointError, match="Qwen3_5ForConditionalGeneration has layers of linear_attention"):
        DeScoreModel(backbone, tiny_processor())


@pytest.mark.parametrize(("method", "library"), [("bitsandbytes", "bitsandbytes"), ("awq", "gptqmodel")])
def test_a_quantised_base_says_what_to_install(method: str, library: str, monkeypatch: pytest.MonkeyPatch) -> None:
    config = {"quantization_config": {"quant_method": method}}
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(CheckpointError, match=f"pip install {library}"):
        check_quantisation(config)
    monkeypatch.setattr("importlib.util.find_spec", lambda _: object())
    check_quantisation(config)
    check_quantisation({})
