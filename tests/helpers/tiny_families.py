"""Tiny random models of the families of backbones that are served, each with its processor; see `tests.helpers.tiny`."""

from __future__ import annotations

from typing import Any

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

from tests.helpers.tiny import (
    CHAT_TEMPLATE,
    MERGE,
    PATCH,
    SPECIAL,
    tiny_backbone,
    tiny_config,
    tiny_processor,
    tiny_tokenizer,
)


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


def qwen3_5() -> tuple[Any, Any]:
    """Two layers of linear attention around one of full attention."""
    processor = tiny_processor()
    ids = {token: processor.tokenizer.convert_tokens_to_ids(token) for token in SPECIAL}
    config = Qwen3_5Config(
        text_config={
            "vocab_size": len(processor.tokenizer) + 5, "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 3,
            "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 16, "max_position_embeddings": 4096,
            "layer_types": ["linear_attention", "full_attention", "linear_attention"], "linear_num_key_heads": 2,
            "linear_num_value_heads": 4, "linear_key_head_dim": 16, "linear_value_head_dim": 8,
            "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [4, 2, 2],
                                "mrope_interleaved": True, "partial_rotary_factor": 1.0},
            "eos_token_id": ids["<|im_end|>"], "pad_token_id": ids["<|endoftext|>"],
        },
        vision_config={
            "depth": 2, "hidden_size": 32, "intermediate_size": 64, "num_heads": 2, "patch_size": PATCH,
            "spatial_merge_size": MERGE, "temporal_patch_size": 2, "out_hidden_size": 64, "num_position_embeddings": 64,
        },
        image_token_id=ids["<|image_pad|>"], video_token_id=ids["<|video_pad|>"],
        vision_start_token_id=ids["<|vision_start|>"], vision_end_token_id=ids["<|vision_end|>"],
    )  # fmt: skip
    backbone = Qwen3_5ForConditionalGeneration._from_config(config, attn_implementation="sdpa")
    with torch.no_grad():  # large enough that the states react visibly to what they take in
        for name, weight in backbone.named_parameters():
            if "linear_attn" in name and weight.dim() > 1:
                weight.mul_(8)
    return backbone, processor


FAMILIES = [qwen3_vl, qwen3_vl_moe, qwen2_5_vl, qwen3_5]
