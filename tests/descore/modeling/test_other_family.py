"""A backbone of another family (LLaVA-OneVision: no multimodal positions, frames stacked) through the same code."""

from __future__ import annotations

import pytest
import torch
from transformers import (
    LlavaOnevisionConfig,
    LlavaOnevisionForConditionalGeneration,
    LlavaOnevisionImageProcessor,
    LlavaOnevisionProcessor,
    LlavaOnevisionVideoProcessor,
)

from descore.encode import encode
from descore.modeling.model import DeScoreModel
from descore.modeling.scoring_head import ScoringModule
from descore.modeling.vision_attention import batch_equal_frames
from tests.helpers.tiny import CHAT_TEMPLATE, POLICY, tiny_clip, tiny_tokenizer

PROMPTS = ["a circle", "a longer prompt, which pads the other"]


def llava() -> DeScoreModel:
    """Two layers each, 32x32 frames, random weights."""
    tokenizer = tiny_tokenizer()
    tokenizer.add_tokens(["<image>", "<video>"], special_tokens=True)
    side = {"height": 32, "width": 32}
    processor = LlavaOnevisionProcessor(
        image_processor=LlavaOnevisionImageProcessor(size=side, image_grid_pinpoints=[[32, 32]]),
        tokenizer=tokenizer,
        video_processor=LlavaOnevisionVideoProcessor(size=side),
        num_image_tokens=16,
        vision_feature_select_strategy="full",
        chat_template=CHAT_TEMPLATE.replace("<|vision_start|><|video_pad|><|vision_end|>", "<video>"),
    )
    config = LlavaOnevisionConfig(
        vision_config={
            "model_type": "siglip_vision_model", "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2,
            "num_attention_heads": 2, "image_size": 32, "patch_size": 8, "vision_use_head": False,
        },
        text_config={
            "model_type": "qwen2", "vocab_size": len(tokenizer), "hidden_size": 64, "intermediate_size": 128,
            "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
            "eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id,
        },
        image_token_id=tokenizer.convert_tokens_to_ids("<image>"),
        video_token_id=tokenizer.convert_tokens_to_ids("<video>"),
        vision_feature_select_strategy="full", vision_feature_layer=-1, image_grid_pinpoints=[[32, 32]],
    )  # fmt: skip
    torch.manual_seed(0)
    backbone = LlavaOnevisionForConditionalGeneration._from_config(config, attn_implementation="sdpa")
    assert batch_equal_frames(backbone) == 0
    return DeScoreModel(backbone, processor, ScoringModule(64)).eval()


def test_thinks_and_scores_exactly() -> None:
    model = llava()
    clips = [tiny_clip(1, height=40, width=60), tiny_clip(2)]
    kwargs = {"policy": POLICY, "prompt_version": "compact-1"}
    state = model.prefill(encode(model.processor, clips, PROMPTS, **kwargs))
    uniforms = torch.rand(2, 12, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    for _ in model.think(state, 12, uniforms):
        pass
    found = model.score(state)
    with torch.inference_mode():
        expected = [
            model.rewards(encode(model.processor, [clip], [prompt], [thought], **kwargs)).item()
            for clip, prompt, thought in zip(clips, PROMPTS, state.thoughts, strict=True)
        ]
    torch.testing.assert_close(found, torch.tensor(expected), atol=1e-4, rtol=0)
    assert abs(expected[0] - expected[1]) > 1e-3


def test_clips_that_can_not_be_stacked_are_refused() -> None:
    model = llava()
    with pytest.raises(ValueError, match="different lengths"):
        encode(model.processor, [tiny_clip(1), tiny_clip(2, frames=6)], PROMPTS, policy=POLICY)
